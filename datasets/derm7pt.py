from __future__ import annotations

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.names import Names
from cilmp.datasets.prepare.records import Record, column
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY

DIAGNOSES = {
    "basal cell carcinoma": "carcinoma",
    "seborrheic keratosis": "keratosis",
    "dermatofibroma": "miscellaneous",
    "lentigo": "miscellaneous",
    "melanosis": "miscellaneous",
    "miscellaneous": "miscellaneous",
    "vascular lesion": "miscellaneous",
}


def group(diagnosis: str) -> str:
    """The 20 diagnoses in five groups, as the data set's authors join them."""
    if diagnosis.startswith("melanoma"):
        return "melanoma"
    return "nevus" if diagnosis.endswith("nevus") else DIAGNOSES[diagnosis]


@DATASET_REGISTRY.register()
class Derm7pt(SplitDataset):
    dataset_dir, split, images = "derm7pt", "derm7pt.json", ""
    classnames = ("carcinoma", "keratosis", "melanoma", "miscellaneous", "nevus")
    # seborrheic keratoses are among HAM10000's benign ones; its other classes are spread over 'miscellaneous'
    matches = {
        "DERMAMNIST": {
            "carcinoma": "basal cell carcinoma",
            "keratosis": "benign keratosis-like lesions",
            "nevus": "melanocytic nevi",
        },
        "DermaMNIST": {
            "carcinoma": "basal cell carcinoma",
            "keratosis": "benign keratosis",
            "nevus": "melanocytic nevus",
        },
        "ISIC": {
            "carcinoma": "Basal cell carcinoma",
            "keratosis": "Benign keratosis",
            "melanoma": "Melanoma",
            "nevus": "Melanocytic nevus",
        },
    }
    card = Card(
        modality="dermoscopy",
        organ="skin",
        source="derm.cs.sfu.ca (release_v0)",
        citation="Kawahara et al., Seven-point checklist and skin lesion classification, IEEE JBHI 23(2):538-546, 2019",
        licence="academic research only, no redistribution of the images",
        labels="diagnosis of an atlas of dermoscopy, 20 diagnoses in five groups",
        images={"carcinoma": 42, "keratosis": 45, "melanoma": 252, "miscellaneous": 97, "nevus": 575},
        official=(413, 203, 395),
        group="case: a row of meta.csv",
        faults=("the dermoscopic image of each case is used; the authors' own code numbers the groups differently",),
    )

    @classmethod
    def records(cls, tree: Tree) -> list[Record]:
        """meta/meta.csv; its row numbers in {train,valid,test}_indexes.csv give the split."""
        split = {}
        for file, name in {"train": "train", "valid": "val", "test": "test"}.items():
            for row in tree.table(tree.need(f"{file}_indexes.csv")):
                split[int(column(row, "indexes"))] = name
        names, records = Names(tree), []
        for i, row in enumerate(tree.table(tree.need("meta.csv"))):
            if (member := names.find(column(row, "derm"))) is not None:
                case = f"case {column(row, 'case_num')}"
                records.append(Record(member, group(column(row, "diagnosis")), case, split.get(i, "")))
        names.tell("meta.csv")
        return records
