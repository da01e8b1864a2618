"""Every trainer registers with Dassl when it is imported here; a new one adds its line."""

from cilmp.trainers import (  # noqa: F401
    biomedcoop,
    cilmp,
    clip_adapter,
    clip_lora,
    cocoop,
    coop,
    full_finetune,
    gda,
    ivlp,
    kgcoop,
    linear_probe,
    lp_plus_plus,
    maple,
    prograd,
    promptsrc,
    ss_text_plus,
    tcp,
    tip_adapter,
    vpt,
    zsclip,
)
from cilmp.trainers.engine import evaluator  # noqa: F401  registers too
