from __future__ import annotations

from cilmp.datasets.base import Layout, SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.records import Record, by_folder
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class BUSI(SplitDataset):
    """CILMP's and BiomedCoOp's sets share the name, not the folder, the class names or their order."""

    dataset_dir, split, images = "busi", "busi.json", ""
    classnames = ("normal", "malignant", "benign")
    also = (Layout("BUSI", "split_BUSI.json", "BUSI", ("benign tumor", "malignant tumor", "normal scan")),)
    matches = dict.fromkeys(("BUSBRA", "BUID", "UDIAT"), {"benign": "benign tumor", "malignant": "malignant tumor"})
    reference = {"normal": (66, 26, 41), "malignant": (105, 42, 63), "benign": (218, 87, 132)}
    card = Card(
        modality="B-mode ultrasound",
        organ="breast",
        source="scholar.cu.edu.eg/?q=afahmy/pages/dataset; "
        "kaggle.com/datasets/aryashah2k/breast-ultrasound-images-dataset",
        citation="Al-Dhabyani et al., Dataset of breast ultrasound images, Data in Brief 28:104863, 2020",
        labels="by radiologists of Baheya Hospital, Cairo",
        images={"normal": 133, "malignant": 210, "benign": 437},
        group="none given; similar images",
        faults=(
            "780 images of 600 women without identifiers: one woman's images can lie in two splits",
            "235 duplicated images, 8 lesions under both benign and malignant, about 70 images of the axilla, 295 with "
            "burnt-in annotations (Pawlowska et al., Data in Brief 48:109247, 2023)",
        ),
    )

    @classmethod
    def records(cls, tree: Tree) -> list[Record]:
        return by_folder(tree, {name: name for name in cls.classnames}, skip="_mask")
