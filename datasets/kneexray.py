from __future__ import annotations

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.records import Record, by_folder
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class KneeXray(SplitDataset):
    graded = True
    dataset_dir, split, images = "KneeXray", "split_KneeXray.json", "KneeXray"
    classnames = (
        "healthy knee",
        "doubtful osteoarthritis",
        "minimal osteoarthritis",
        "moderate osteoarthritis",
        "severe osteoarthritis",
    )
    group_pattern = r"(?:^|/)(?:\w+_)?(\d+)[LR]\."
    card = Card(
        modality="X-ray",
        organ="knee",
        source="Mendeley Data 56rmx5bjcr/1; kaggle.com/datasets/shashwatwork/knee-osteoarthritis-dataset-with-severity",
        citation="Chen, Knee osteoarthritis severity grading dataset, Mendeley Data 56rmx5bjcr, 2018",
        licence="CC BY 4.0",
        labels="Kellgren-Lawrence grades 0 to 4 of the Osteoarthritis Initiative",
        images=dict(zip(classnames, (3253, 1495, 2175, 1086, 251), strict=True)),
        official=(5778, 826, 1656),
        group="patient: the number before L or R",
        faults=("grade 1 is the hard class: readers and networks agree least on it",),
    )

    @classmethod
    def records(cls, tree: Tree) -> list[Record]:
        """kneeKL224/{train,val,test}/{0..4}; the folder auto_test repeats images."""
        grades = dict(zip("01234", cls.classnames, strict=True))
        return by_folder(tree, grades, skip="auto_test|kneeKL299", official=True)
