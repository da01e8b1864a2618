from __future__ import annotations

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.records import Record, by_folder
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class BTMRI(SplitDataset):
    dataset_dir, split, images = "BTMRI", "split_BTMRI.json", "BTMRI"
    classnames = ("glioma tumor", "meningioma tumor", "pituitary tumor", "normal brain")
    reference = dict(zip(classnames, ((660, 264, 397), (669, 267, 403), (728, 291, 438), (797, 319, 479)), strict=True))
    reference_pool = "train"  # BiomedCoOp divides the training folder and leaves the test folder out
    card = Card(
        modality="MRI, slices",
        organ="brain",
        source="kaggle.com/datasets/masoudnickparvar/brain-tumor-mri-dataset",
        citation="Nickparvar, Brain tumor MRI dataset, Kaggle, 2021",
        labels="those of the earlier public sets it was compiled from",
        images={"glioma tumor": 1621, "meningioma tumor": 1645, "pituitary tumor": 1757, "normal brain": 2000},
        official=(5712, 0, 1311),
        group="none given; similar images",
        faults=(
            "patients are not identified and neighbouring slices look alike: expect leaks in every split by image",
            "duplicates are reported for public brain tumour sets (Saifullah et al., ICTAI 2025)",
            "in a 576-image sample of another public set of this kind 40 of 192 test images, and 25 of the 48 normal "
            "brains among them, were copies of training or validation images (docs/data.md)",
        ),
    )

    @classmethod
    def records(cls, tree: Tree) -> list[Record]:
        folders = ("glioma", "meningioma", "pituitary", "notumor")
        return by_folder(tree, dict(zip(folders, cls.classnames, strict=True)), official=True)
