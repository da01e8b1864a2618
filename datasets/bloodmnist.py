from __future__ import annotations

from cilmp.datasets.medmnist import MedMNIST, card
from cilmp.datasets.prepare.records import Record, by_folder
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class BLOODMNIST(MedMNIST):
    dataset_dir, split, images = "bloodmnist", "bloodmnist.json", ""
    classnames = (
        "basophil",
        "eosinophil",
        "erythroblast",
        "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
        "lymphocyte",
        "monocyte",
        "neutrophil",
        "platelet",
    )
    card = card(
        "bloodmnist",
        citation="Acevedo et al., Data in Brief 30:105474, 2020",
        originals="Mendeley snkd93bnjr",
        modality="light microscopy",
        organ="blood",
        labels="single cells of healthy donors, by clinical pathologists",
        images=dict(zip(classnames, (1218, 3117, 1551, 2895, 1214, 1420, 3329, 2348), strict=True)),
        official=(11959, 1712, 3421),
        faults=("donors are not identified: the published split is by image",),
    )

    @classmethod
    def records(cls, tree: Tree, size: int = 0) -> list[Record]:
        """The MedMNIST file, or the original photographs in a folder a class."""
        if tree.find("bloodmnist*.npz"):
            return super().records(tree, size)
        short = ("basophil", "eosinophil", "erythroblast", "ig", "lymphocyte", "monocyte", "neutrophil", "platelet")
        return by_folder(tree, dict(zip(short, cls.classnames, strict=True)))
