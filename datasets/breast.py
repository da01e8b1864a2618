"""Breast ultrasound from other hospitals than BUSI's, in the copies and the layout of BiomedCoOp and Evi-Steer."""

from __future__ import annotations

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.records import Record, by_folder
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY

COPIES = "{0}.zip at huggingface.co/datasets/TahaKoleilat/BiomedCoOp; originals: {1}"


class Breast(SplitDataset):
    """Tumours alone: BUSI's third class, the normal scan, is not here."""

    classnames = ("benign tumor", "malignant tumor")
    matches = {"BUSI": {"benign tumor": "benign", "malignant tumor": "malignant"}}

    @classmethod
    def records(cls, tree: Tree) -> list[Record]:
        return by_folder(tree, {name: name for name in cls.classnames})


@DATASET_REGISTRY.register()
class BUSBRA(Breast):
    dataset_dir, split, images = "BUSBRA", "split_BUSBRA.json", "BUSBRA"
    group_pattern = r"bus_(\d+)-[lr]"
    reference = {"benign tumor": (887, 190, 191), "malignant tumor": (424, 91, 92)}
    card = Card(
        modality="B-mode ultrasound",
        organ="breast",
        source=COPIES.format("BUSBRA", "kaggle.com/datasets/orvile/bus-bra-a-breast-ultrasound-dataset"),
        citation="Gomez-Flores et al., BUS-BRA, Medical Physics 51(4):3110-3123, 2024",
        images={"benign tumor": 1268, "malignant tumor": 607},
        group="woman: the number in the file name, of which -l and -r are two views",
        faults=(
            "1875 images of 1064 women: in BiomedCoOp's split 391 women lie in two parts, and 188 of the test images' "
            "women in training (counted from its split file); no matter where it is a target only",
        ),
    )


@DATASET_REGISTRY.register()
class BUID(Breast):
    dataset_dir, split, images = "BUID", "split_BUID.json", "BUID"
    reference = {"benign tumor": (76, 16, 17), "malignant tumor": (86, 18, 19)}
    card = Card(
        modality="B-mode ultrasound",
        organ="breast",
        source=COPIES.format("BUID", "qamebi.com/breast-ultrasound-images-database"),
        citation="Ardakani et al., Computers in Biology and Medicine 152:106438, 2023",
        images={"benign tumor": 109, "malignant tumor": 123},
        group="none given; similar images",
        faults=("36 test images: one image is 2.8 points of accuracy",),
    )


@DATASET_REGISTRY.register()
class UDIAT(Breast):
    """Also called Dataset B."""

    dataset_dir, split, images = "UDIAT", "split_UDIAT.json", "UDIAT"
    reference = {"benign tumor": (76, 16, 17), "malignant tumor": (37, 8, 9)}
    card = Card(
        modality="B-mode ultrasound",
        organ="breast",
        source=COPIES.format("UDIAT", "kaggle.com/datasets/ayush02102001/udiat-segmentation-dataset"),
        citation="Yap et al., IEEE JBHI 22(4):1218-1226, 2018",
        images={"benign tumor": 109, "malignant tumor": 54},
        group="none given; similar images",
        faults=("26 test images: one image is 3.8 points of accuracy",),
    )
