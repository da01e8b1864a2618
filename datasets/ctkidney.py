from __future__ import annotations

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.records import Record, by_folder
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class CTKidney(SplitDataset):
    dataset_dir, split, images = "CTKidney", "split_CTKidney.json", "CTKidney"
    classnames = ("cyst kidney", "kidney stone", "kidney tumor", "normal kidney")
    reference = dict(
        zip(classnames, ((1854, 741, 1114), (688, 275, 414), (1141, 456, 686), (2538, 1015, 1524)), strict=True)
    )
    card = Card(
        modality="CT, axial and coronal slices",
        organ="kidney",
        source="kaggle.com/datasets/nazmul0087/ct-kidney-dataset-normal-cyst-tumor-and-stone",
        citation="Islam et al., Vision transformer and explainable transfer learning models for auto "
        "detection of kidney "
        "cyst, stone and tumor from CT-radiography, Scientific Reports 12:11440, 2022",
        labels="radiology reports, confirmed by a doctor and a medical technologist",
        images=dict(zip(classnames, (3709, 1377, 2283, 5077), strict=True)),
        group="none given; similar images",
        faults=(
            "many slices of one patient and no identifier: a split by patient is impossible and a split by image "
            "inflates every score",
        ),
    )

    @classmethod
    def records(cls, tree: Tree) -> list[Record]:
        return by_folder(tree, dict(zip(("Cyst", "Stone", "Tumor", "Normal"), cls.classnames, strict=True)))
