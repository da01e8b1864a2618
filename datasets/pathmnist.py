from __future__ import annotations

from cilmp.datasets.medmnist import MedMNIST, card
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class PATHMNIST(MedMNIST):
    dataset_dir, split, images = "pathmnist", "pathmnist.json", ""
    classnames = (
        "adipose tissue",
        "empty background",
        "debris",
        "lymphocytes",
        "mucus",
        "smooth muscle",
        "normal colon mucosa",
        "cancer-associated stroma",
        "colorectal adenocarcinoma epithelium",
    )
    card = card(
        "pathmnist",
        citation="Kather et al., PLoS Medicine 16(1):e1002730, 2019",
        originals="NCT-CRC-HE-100K and CRC-VAL-HE-7K",
        modality="H&E histopathology",
        organ="colon",
        labels="tissue type of a patch, by pathologists",
        official=(89996, 10004, 7180),
        faults=(
            "training and validation patches were divided at random, not by slide; the test patches are of another "
            "clinical centre, so validation promises more than the test keeps",
        ),
    )
