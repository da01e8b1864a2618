from __future__ import annotations

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.dermamnist import DERMAMNIST, DermaMNIST
from cilmp.datasets.prepare.names import Names
from cilmp.datasets.prepare.records import Record, column
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY

CODES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")  # columns of the tables, in the order of the class names

HAM = (4, 5, 1, 0, 2, 3, 6)  # what each class here is in DERMAMNIST


@DATASET_REGISTRY.register()
class ISIC(SplitDataset):
    dataset_dir, split, images = "isic", "split_isic.json", ""
    classnames = (
        "Melanoma",
        "Melanocytic nevus",
        "Basal cell carcinoma",
        "Actinic keratosis",
        "Benign keratosis",
        "Dermatofibroma",
        "Vascular lesion",
    )
    # Derm7pt's keratoses are seborrheic alone: fewer than the benign ones here
    matches = {
        "DERMAMNIST": dict(zip(classnames, (DERMAMNIST.classnames[i] for i in HAM), strict=True)),
        "DermaMNIST": dict(zip(classnames, (DermaMNIST.classnames[i] for i in HAM), strict=True)),
        "Derm7pt": {"Melanoma": "melanoma", "Melanocytic nevus": "nevus", "Basal cell carcinoma": "carcinoma"},
    }
    card = Card(
        modality="dermoscopy",
        organ="skin",
        source="ISIC 2018 Task 3, challenge.isic-archive.com/landing/2018/47",
        citation="Tschandl et al., HAM10000, Scientific Data 5:180161, 2018; Codella et al., arXiv 1902.03368, 2019",
        licence="CC BY-NC 4.0",
        labels="histopathology for half of the lesions, else follow-up, consensus or confocal microscopy",
        official=(10015, 193, 1512),
        group="lesion_id of ISIC2018_Task3_Training_LesionGroupings.csv",
        faults=(
            "the training images are those of DERMAMNIST: as a target of it only the official split tests others",
            "10,015 training images show 7470 lesions: divide them by lesion; further duplicates are not listed "
            "(Abhishek et al., Scientific Data 12:196, 2025)",
        ),
    )

    @classmethod
    def records(cls, tree: Tree) -> list[Record]:
        """One-hot ..._GroundTruth.csv of training, validation and test; the lesions of the training images."""
        lesions = {}
        if (table := tree.find("*LesionGroupings.csv", "HAM10000_metadata*")) is not None:
            lesions = {column(row, "image", "image_id"): column(row, "lesion_id") for row in tree.table(table)}
        names, records = Names(tree), []
        official = tree.find("*Test_GroundTruth.csv") is not None
        for folder, split in {"Training": "train", "Validation": "val", "Test": "test"}.items():
            table = tree.find(f"*{folder}_GroundTruth.csv")
            for row in tree.table(table) if table else ():
                name = column(row, "image")
                [label] = (i for i, code in enumerate(CODES) if float(column(row, code)))
                if (member := names.find(name)) is not None:
                    classname = cls.classnames[label]
                    records.append(Record(member, classname, lesions.get(name, ""), split if official else ""))
        names.tell("the GroundTruth tables")
        return records
