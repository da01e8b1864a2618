from __future__ import annotations

from cilmp.datasets.card import Card
from cilmp.datasets.medmnist import MedMNIST, card
from dassl.data.datasets import DATASET_REGISTRY


class Organ(MedMNIST):
    """Eleven organs of one collection of CT scans, cut in three planes."""

    classnames = (
        "bladder",
        "left femur",
        "right femur",
        "heart",
        "left kidney",
        "right kidney",
        "liver",
        "left lung",
        "right lung",
        "pancreas",
        "spleen",
    )


def of_plane(flag: str, plane: str, official: tuple[int, int, int], before: str) -> Card:
    """before: train/val/test of the earlier record."""
    return card(
        flag,
        citation="Bilic et al., LiTS, Medical Image Analysis 84:102680, 2023; Xu et al., IEEE TMI 38(8):1885-1898, "
        "2019 (organs)",
        originals="Liver Tumor Segmentation Benchmark (LiTS)",
        modality=f"CT, {plane} slices",
        organ="abdomen and chest",
        labels="bounding boxes of organs, drawn in another study",
        official=official,
        group="scan: 115, 16 and 70 of them; which image is of which stands in MedMNIST's CSV files only",
        faults=(
            "the axial, coronal and sagittal sets show the same 201 scans: they are no tests of one another",
            f"the file of the earlier record, zenodo 6496656, has {before} images",
        ),
    )


@DATASET_REGISTRY.register()
class ORGANAMNIST(Organ):
    dataset_dir, split, images = "organamnist", "organamnist.json", ""
    card = of_plane("organamnist", "axial", (34561, 6491, 17778), "34581/6491/17778")


@DATASET_REGISTRY.register()
class ORGANCMNIST(Organ):
    dataset_dir, split, images = "organcmnist", "organcmnist.json", ""
    card = of_plane("organcmnist", "coronal", (12975, 2392, 8216), "13000/2392/8268")


@DATASET_REGISTRY.register()
class ORGANSMNIST(Organ):
    dataset_dir, split, images = "organsmnist", "organsmnist.json", ""
    card = of_plane("organsmnist", "sagittal", (13932, 2452, 8827), "13940/2452/8829")
