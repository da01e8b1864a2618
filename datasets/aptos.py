from __future__ import annotations

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.names import Names
from cilmp.datasets.prepare.records import Record, column, numbered
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class APTOS(SplitDataset):
    graded = True
    dataset_dir, split, images = "aptos2019", "aptos2019.json", ""
    classnames = (
        "no diabetic retinopathy",
        "mild diabetic retinopathy",
        "moderate diabetic retinopathy",
        "severe diabetic retinopathy",
        "proliferative diabetic retinopathy",
    )
    reference = (2930, 366, 366)
    card = Card(
        modality="colour fundus photograph",
        organ="retina",
        source="kaggle.com/competitions/aptos2019-blindness-detection, or its mirror with train_1.csv, "
        "valid.csv, test.csv",
        citation="APTOS 2019 Blindness Detection, Asia Pacific Tele-Ophthalmology Society, Kaggle, 2019",
        licence="competition rules",
        labels="five ordered grades by a clinician at Aravind Eye Hospital",
        images=dict(zip(classnames, (1805, 370, 999, 193, 295), strict=True)),
        group="none given; similar images",
        faults=(
            "labels are public for the competition's training images only; other copies in circulation are re-splits",
            "images are repeated in it and shared with other retinopathy sets; photographs of one camera look alike",
        ),
    )

    @classmethod
    def records(cls, tree: Tree) -> list[Record]:
        """Kaggle's train.csv, or the mirror's three tables, which give a split."""
        mirror = {"train_1.csv": "train", "valid.csv": "val", "test.csv": "test"}
        split = mirror if tree.find("train_1.csv") else {"train.csv": ""}
        names, records = Names(tree), []
        for file, name in split.items():
            for row in tree.table(tree.need(file)):
                if (member := names.find(column(row, "id_code"))) is not None:
                    records.append(Record(member, numbered(cls.classnames, column(row, "diagnosis")), split=name))
        names.tell(", ".join(split))
        return records
