from __future__ import annotations

from cilmp.datasets.medmnist import MedMNIST, card
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class RETINAMNIST(MedMNIST):
    """Not RETINA: the grades of APTOS, in its words."""

    dataset_dir, split, images = "retinamnist", "retinamnist.json", ""
    classnames = tuple(
        f"{grade} diabetic retinopathy" for grade in ("no", "mild", "moderate", "severe", "proliferative")
    )
    graded = True
    card = card(
        "retinamnist",
        citation="Liu et al., DeepDRiD, Patterns 3(6):100512, 2022",
        originals="DeepDRiD challenge",
        modality="colour fundus photograph",
        organ="retina",
        labels="five grades of severity; the file numbers them and does not name them",
        official=(1080, 120, 400),
        group="eye and patient, in the original file names only; similar images",
        faults=("training and validation were divided at random from the source's training images",),
    )
