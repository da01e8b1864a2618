"""Brain MRI beside BTMRI's, in the copies and the layout of BiomedCoOp and Evi-Steer; the classes are BTMRI's."""

from __future__ import annotations

import re

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.records import Record, by_folder
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY

COPIES = "{0}.zip at huggingface.co/datasets/TahaKoleilat/BiomedCoOp; originals: kaggle.com/datasets/{1}"
SUSPECT = (
    "BTMRI was itself compiled from public sets: whether its images are here too, `data check BTMRI --against` tells"
)


class Brain(SplitDataset):
    classnames = ("glioma tumor", "meningioma tumor", "pituitary tumor", "normal brain")

    @classmethod
    def records(cls, tree: Tree) -> list[Record]:
        """A folder a class; the published split, where there is one, stands in the file names."""
        records = by_folder(tree, {name: name for name in cls.classnames})
        for record in records:
            part = re.search(r"_(train|val|test)_\d+", record.filename)
            record.split = part[1] if part else ""
        return records


@DATASET_REGISTRY.register()
class BRISC(Brain):
    dataset_dir, split, images = "BRISC", "split_BRISC.json", "BRISC"
    reference = dict(
        zip(Brain.classnames, ((573, 286, 254), (664, 332, 306), (728, 364, 300), (533, 266, 140)), strict=True)
    )
    card = Card(
        modality="MRI, T1 slices",
        organ="brain",
        source=COPIES.format("BRISC", "briscdataset/brisc2025"),
        citation="Fateh et al., BRISC, arXiv 2506.14318, 2025",
        images=dict(zip(Brain.classnames, (1113, 1302, 1392, 939), strict=True)),
        official=(3746, 0, 1000),
        group="none given; similar images",
        faults=(SUSPECT, "BiomedCoOp's split cuts its validation images from the published training images"),
    )


@DATASET_REGISTRY.register()
class BTMRI_P(Brain):
    dataset_dir, split, images = "BTMRI-P", "split_BTMRI-P.json", "BTMRI-P"
    reference = dict.fromkeys(Brain.classnames, (2000, 250, 250))
    card = Card(
        modality="MRI, slices",
        organ="brain",
        source=COPIES.format("BTMRI-P", "pradeep2665/brain-mri"),
        citation="pradeep2665, Brain MRI, Kaggle",
        images=dict.fromkeys(Brain.classnames, 2500),
        official=(8000, 1000, 1000),
        group="none given; similar images",
        faults=(SUSPECT,),
    )


@DATASET_REGISTRY.register()
class BTMRI_S(Brain):
    dataset_dir, split, images = "BTMRI-S", "split_BTMRI-S.json", "BTMRI-S"
    reference = dict(
        zip(Brain.classnames, ((702, 150, 151), (686, 147, 148), (671, 143, 145), (392, 84, 85)), strict=True)
    )
    card = Card(
        modality="MRI, slices",
        organ="brain",
        source=COPIES.format("BTMRI-S", "mohamedmetwalysherif/braintumordataset"),
        citation="mohamedmetwalysherif, Brain tumor dataset, Kaggle",
        images=dict(zip(Brain.classnames, (1003, 981, 959, 561), strict=True)),
        group="none given; similar images",
        faults=(
            SUSPECT,
            "its files are named as those of SartajBhuvaji's set, of which BTMRI is said to be made too: the likeliest "
            "to hold training images of BTMRI",
        ),
    )
