from __future__ import annotations

from cilmp.datasets.medmnist import MedMNIST, card
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class OCTMNIST(MedMNIST):
    dataset_dir, split, images = "OCTMNIST", "split_OCTMNIST.json", "OCTMNIST"
    classnames = ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal OCT scan")
    card = card(
        "octmnist",
        citation="Kermany et al., Cell 172(5):1122-1131, 2018",
        modality="optical coherence tomography",
        organ="retina",
        labels="several tiers of graders up to senior retinal specialists",
        official=(97477, 10832, 1000),
        group="patient, in the original file names only; similar images",
        faults=(
            "patients lie in both training and test images of the source, and training and validation were "
            "cut at random; "
            "improper splits of it inflate accuracy by 5 to 30 points (Tampu et al., Scientific Data 2022)",
        ),
    )
