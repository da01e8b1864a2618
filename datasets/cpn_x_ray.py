from __future__ import annotations

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.records import Record, by_folder
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class CPN_X_RAY(SplitDataset):
    dataset_dir, split, images = "cpn-x-ray", "cpn-x-ray.json", ""
    classnames = ("normal", "covid", "pneumonia")
    # COVID_19's pneumonia is viral; of what kind this one is, is not said
    matches = {"COVID_19": {"normal": "normal lungs", "covid": "covid lungs"}}
    reference = (3140, 521, 1567)
    card = Card(
        modality="chest X-ray, frontal",
        organ="lung",
        source="Covid19-Pneumonia-Normal Chest X-Ray Images, Mendeley Data dvntn9yhd2/1",
        citation="Kumar, Mendeley Data dvntn9yhd2, 2022; Shastri et al., 2022",
        labels="those of the public sets it was collected from",
        images={"normal": 1802, "covid": 1626, "pneumonia": 1800},
        group="none given; similar images",
        faults=(
            "a compilation: the class is confounded with the source and with age (reviews PMC8479314, PMC8545228)",
            "several images of one patient are possible; look-alike records (4575 and 6939 images) are other sets",
            "that this record is the set of the CILMP paper is inferred from its name",
        ),
    )

    @classmethod
    def records(cls, tree: Tree) -> list[Record]:
        return by_folder(tree, {name: name for name in cls.classnames})
