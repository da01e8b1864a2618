"""Medical data sets, registered with Dassl on import; one file a source of images."""

from cilmp.datasets import (  # noqa: F401
    adam,
    aptos,
    bloodmnist,
    btmri,
    busi,
    chaoyang,
    cpn_x_ray,
    derm7pt,
    dermamnist,
    fetal_us,
    isic,
    kvasir,
    odir,
    pneumonia,
)
