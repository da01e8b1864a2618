"""Every trainer registers with Dassl when it is imported here; a new one adds its line."""

from cilmp.trainers import (  # noqa: F401
    cilmp,
    clip_adapter,
    clip_lora,
    cocoop,
    coop,
    full_finetune,
    gda,
    linear_probe,
    lp_plus_plus,
    maple,
    ss_text_plus,
    tip_adapter,
    zsclip,
)
from cilmp.trainers.engine import evaluator  # noqa: F401  registers too
