from __future__ import annotations

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.records import Record, by_folder
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class ADAM(SplitDataset):
    dataset_dir, split, images = "adam", "adam.json", ""
    classnames = ("normal fundus", "fundus with age-related macular degeneration")
    card = Card(
        modality="colour fundus photograph",
        organ="retina",
        source="ADAM challenge (ISBI 2020, also iChallenge-AMD), amd.grand-challenge.org",
        citation="Fang et al., ADAM challenge: detecting age-related macular degeneration from fundus images, IEEE TMI "
        "41(10):2828-2847, 2022",
        labels="by the challenge; the class is the folder and the first letter of the file name",
        images={"normal fundus": 311, "fundus with age-related macular degeneration": 89},
        faults=(
            "'normal fundus' is non-AMD: it includes other eye diseases such as myopia",
            "labels are public for the 400 training images only; no patient or eye identifier",
        ),
    )

    @classmethod
    def records(cls, tree: Tree) -> list[Record]:
        normal, amd = cls.classnames
        return by_folder(tree, {"Non-AMD": normal, "AMD": amd}, within=r"/[AN]\d+\.\w+$")
