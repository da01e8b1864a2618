from __future__ import annotations

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.names import Names
from cilmp.datasets.prepare.records import Record, numbered
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class CHAOYANG(SplitDataset):
    dataset_dir, split, images = "chaoyang", "chaoyang.json", ""
    classnames = ("normal", "serrated", "adenocarcinoma", "adenoma")
    group_pattern = r"([^/]+?)-IMG"
    card = Card(
        modality="H&E histopathology",
        organ="colon",
        source="bupt-ai-cz.github.io/HSA-NRL",
        citation="Zhu et al., Hard sample aware noise robust learning for histopathology image "
        "classification, IEEE TMI, "
        "2021",
        licence="own terms: non-commercial, no redistribution of the images",
        labels="three pathologists; in the training set their disagreement is left in as label noise",
        images={"normal": 1816, "serrated": 1163, "adenocarcinoma": 2244, "adenoma": 937},
        official=(4021, 0, 2139),
        group="slide: the file name before -IMG",
        faults=(
            "the three readers agree on 2709 of the 4021 training patches",
            "most slides have patches of several classes: cut a validation set by slide, never by patch",
        ),
    )

    @classmethod
    def records(cls, tree: Tree) -> list[Record]:
        """train.json and test.json: lists of {"name": "train/<slide>-IMG....JPG", "label": 0..3}."""
        names, records = Names(tree), []
        for split in ("train", "test"):
            for row in tree.json(tree.need(f"{split}.json")):
                if (member := names.find(row["name"])) is not None:
                    records.append(Record(member, numbered(cls.classnames, row["label"]), split=split))
        names.tell("train.json, test.json")
        return records
