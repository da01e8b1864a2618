from __future__ import annotations

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.names import Names
from cilmp.datasets.prepare.records import Record, column
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class FETAL_US(SplitDataset):
    dataset_dir, split, images = "fetal-us", "fetal-us.json", ""
    classnames = ("Fetal brain", "Fetal femur", "Fetal abdomen", "Fetal thorax", "Maternal cervix", "Other planes")
    group_pattern = r"(Patient\d+)_"
    reference = (7446, 1237, 3717)
    card = Card(
        modality="ultrasound, maternal-fetal planes",
        organ="fetus",
        source="FETAL_PLANES_DB, zenodo.org/records/3904280",
        citation="Burgos-Artizzu et al., Evaluation of deep convolutional neural networks for automatic "
        "classification of "
        "common maternal fetal ultrasound planes, Scientific Reports 10:10200, 2020",
        labels="by a fetal specialist",
        group="patient: Patient_num",
        faults=("over 12,400 images of 1,792 patients, dozens of one patient: a split by image leaks",),
    )

    @classmethod
    def records(cls, tree: Tree) -> list[Record]:
        """FETAL_PLANES_DB_data.csv; Train is 1 for training and 0 for test.  Blanks trail names and values."""
        names, records = Names(tree), []
        for row in tree.table(tree.need("FETAL_PLANES_DB_data.csv", "FETAL_PLANES_DB_data.xlsx")):
            if (member := names.find(column(row, "Image_name"))) is not None:
                plane = {"Other": "Other planes"}.get(column(row, "Plane"), column(row, "Plane"))
                split = "train" if float(column(row, "Train")) else "test"
                records.append(Record(member, plane, f"patient {column(row, 'Patient_num')}", split))
        names.tell("FETAL_PLANES_DB_data")
        return records
