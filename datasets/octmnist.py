from __future__ import annotations

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.records import Record, by_npz
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class OCTMNIST(SplitDataset):
    dataset_dir, split, images = "OCTMNIST", "split_OCTMNIST.json", "OCTMNIST"
    classnames = ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal OCT scan")
    card = Card(
        modality="optical coherence tomography",
        organ="retina",
        source="MedMNIST v2, octmnist[_64|_128|_224].npz at zenodo.org/records/10519652",
        citation="Yang et al., MedMNIST v2, Scientific Data 10:41, 2023; Kermany et al., Cell 172(5):1122-1131, 2018",
        licence="CC BY 4.0",
        labels="several tiers of graders up to senior retinal specialists",
        official=(97477, 10832, 1000),
        group="patient, in the original file names only; similar images",
        faults=(
            "patients lie in both training and test images of the source, and training and validation were "
            "cut at random; "
            "improper splits of it inflate accuracy by 5 to 30 points (Tampu et al., Scientific Data 2022)",
        ),
    )

    @classmethod
    def records(cls, tree: Tree, size: int = 0) -> list[Record]:
        return by_npz(tree, "octmnist", cls.classnames, size)
