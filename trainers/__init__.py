"""Every trainer registers with Dassl when it is imported here; a new one adds its line."""

from cilmp.trainers import cilmp, cocoop, coop, full_finetune, linear_probe, maple, zsclip  # noqa: F401
from cilmp.trainers.engine import evaluator  # noqa: F401  registers too
