"""Every trainer registers with Dassl when it is imported here; a new one adds its line."""

from cilmp.trainers import (  # noqa: F401
    biomedcoop,
    cilmp,
    cocoop,
    coop,
    full_finetune,
    ivlp,
    kgcoop,
    linear_probe,
    maple,
    prograd,
    promptsrc,
    tcp,
    vpt,
    zsclip,
)
from cilmp.trainers.engine import evaluator  # noqa: F401  registers too
