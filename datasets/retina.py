from __future__ import annotations

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.records import Record, by_folder
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class RETINA(SplitDataset):
    dataset_dir, split, images = "RETINA", "split_RETINA.json", "RETINA"
    classnames = ("diabetic retinopathy", "glaucoma", "cataract", "normal retina")
    group_pattern = r"(?:^|/)(\d+)_(?:left|right)"
    similar = True  # half of the file names hold no patient
    reference = dict(zip(classnames, ((549, 219, 330), (503, 201, 303), (519, 207, 312), (537, 214, 323)), strict=True))
    card = Card(
        modality="colour fundus photograph",
        organ="retina",
        source="kaggle.com/datasets/gunavenkatdoddi/eye-diseases-classification",
        citation="Doddi, Eye diseases classification, Kaggle, 2022",
        licence="ODbL 1.0",
        labels="those of the sets it was collected from (IDRiD, Ocular recognition, HRF)",
        images=dict(zip(classnames, (1098, 1007, 1038, 1074), strict=True)),
        group="patient: the number before _left or _right; similar images",
        faults=(
            "the class is confounded with source and file type: all of diabetic retinopathy is one family of files",
            "in BiomedCoOp's split 759 of 1215 two-eye patients straddle two parts; overlap with ODIR is likely",
        ),
    )

    @classmethod
    def records(cls, tree: Tree) -> list[Record]:
        folders = ("diabetic_retinopathy", "glaucoma", "cataract", "normal")
        return by_folder(tree, dict(zip(folders, cls.classnames, strict=True)))
