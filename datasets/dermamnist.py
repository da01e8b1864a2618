from __future__ import annotations

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.records import Record, by_npz
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY


class Derma(SplitDataset):
    """MedMNIST's file, which CILMP and BiomedCoOp name differently."""

    @classmethod
    def records(cls, tree: Tree, size: int = 0) -> list[Record]:
        return by_npz(tree, "dermamnist", cls.classnames, size)


def card(classnames: tuple[str, ...]) -> Card:
    return Card(
        modality="dermoscopy",
        organ="skin",
        source="MedMNIST v2, dermamnist[_64|_128|_224].npz at zenodo.org/records/10519652",
        citation="Yang et al., MedMNIST v2, Scientific Data 10:41, 2023; Tschandl et al., HAM10000, Scientific Data "
        "5:180161, 2018",
        licence="CC BY-NC 4.0",
        labels="HAM10000: histopathology for half of the lesions, else follow-up, consensus or confocal microscopy",
        images=dict(zip(classnames, (327, 514, 1099, 115, 1113, 6705, 142), strict=True)),
        official=(7007, 1003, 2005),
        group="lesion_id of HAM10000_metadata.csv, which the file does not hold; similar images",
        faults=(
            "the published split is by image: 1956 lesions have several images, and lesions lie in two splits "
            "(Abhishek et al., Scientific Data 12:196, 2025, who publish corrected sets)",
            "two thirds of the test images are melanocytic nevi: read macro F1 beside accuracy",
        ),
    )


@DATASET_REGISTRY.register()
class DERMAMNIST(Derma):
    dataset_dir, split, images = "dermamnist", "dermamnist.json", ""
    classnames = (
        "actinic keratoses and intraepithelial carcinoma",
        "basal cell carcinoma",
        "benign keratosis-like lesions",
        "dermatofibroma",
        "melanoma",
        "melanocytic nevi",
        "vascular lesions",
    )
    card = card(classnames)


@DATASET_REGISTRY.register()
class DermaMNIST(Derma):
    """Not DERMAMNIST: BiomedCoOp's, whose split file lacks one training image of the 7007."""

    dataset_dir, split, images = "DermaMNIST", "split_DermaMNIST.json", "DermaMNIST"
    representations = "dermamnist_biomedcoop"
    classnames = (
        "actinic keratosis",
        "basal cell carcinoma",
        "benign keratosis",
        "dermatofibroma",
        "melanoma",
        "melanocytic nevus",
        "vascular lesion",
    )
    card = card(classnames)
