from __future__ import annotations

from cilmp.datasets.medmnist import MedMNIST, card
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class TISSUEMNIST(MedMNIST):
    dataset_dir, split, images = "tissuemnist", "tissuemnist.json", ""
    classnames = (
        "collecting duct or connecting tubule",
        "distal convoluted tubule",
        "glomerular endothelial cell",
        "interstitial endothelial cell",
        "leukocyte",
        "podocyte",
        "proximal tubule segment",
        "thick ascending limb",
    )
    card = card(
        "tissuemnist",
        citation="Woloshuk et al., Cytometry A 99(7):707-721, 2021; Ljosa et al., Nature Methods 9(7):637, 2012",
        originals="BBBC051 of the Broad Bioimage Benchmark Collection",
        modality="fluorescence microscopy",
        organ="kidney",
        labels="cell type of a segmented cell",
        official=(165466, 23640, 47280),
        faults=(
            "cells of three specimens, divided at random: each specimen lies in every split",
            "a source cell has 32 x 32 x 7 voxels, of which the greatest over the 7 slices is kept: the larger files "
            "are enlarged",
        ),
    )
