from __future__ import annotations

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.records import Record, by_folder
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class CHMNIST(SplitDataset):
    dataset_dir, split, images = "CHMNIST", "split_CHMNIST.json", "CHMNIST"
    classnames = (
        "adipose tissue",
        "complex stroma",
        "debris",
        "empty background",
        "immune cells",
        "normal mucosal glands",
        "simple stroma",
        "tumour epithelium",
    )
    group_pattern = r"CRC-Prim-HE-(\d+(?:_\d+)?)"
    reference = {name: (312, 125, 188) for name in classnames}
    card = Card(
        modality="H&E histopathology",
        organ="colon and rectum",
        source="zenodo.org/records/53169, Kather_texture_2016_image_tiles_5000.zip",
        citation="Kather et al., Multi-class texture analysis in colorectal cancer histology, Scientific "
        "Reports 6:27988, "
        "2016",
        labels="tiles annotated by hand",
        images={name: 625 for name in classnames},
        group="slide and region, in the file name",
        faults=(
            "5000 tiles of 10 slides: a split by tile has every slide in every part, and 1468 of BiomedCoOp's "
            "1504 test "
            "tiles come from a region that also gives training tiles",
        ),
    )

    @classmethod
    def records(cls, tree: Tree) -> list[Record]:
        folders = ("ADIPOSE", "COMPLEX", "DEBRIS", "EMPTY", "LYMPHO", "MUCOSA", "STROMA", "TUMOR")
        numbers = (7, 3, 5, 8, 4, 6, 2, 1)
        names = [f"{number:02}_{folder}" for number, folder in zip(numbers, folders, strict=True)]
        return by_folder(tree, dict(zip(names, cls.classnames, strict=True)))
