from __future__ import annotations

from cilmp.datasets.medmnist import MedMNIST, card
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class BREASTMNIST(MedMNIST):
    dataset_dir, split, images = "breastmnist", "breastmnist.json", ""
    classnames = ("malignant", "normal or benign")
    card = card(
        "breastmnist",
        citation="Al-Dhabyani et al., Data in Brief 28:104863, 2020",
        originals="BUSI",
        modality="B-mode ultrasound",
        organ="breast",
        labels="those of BUSI, normal and benign joined",
        images={"malignant": 210, "normal or benign": 570},
        official=(546, 78, 156),
        faults=(
            "the images of BUSI, with its duplicates: no other hospital than BUSI's",
            "780 images of 600 women, divided by image: one woman's images can lie in two splits",
        ),
    )
