"""Every trainer registers with Dassl when it is imported here; a new one adds its line."""

from cilmp.trainers import cilmp, cocoop, coop, evaluator, full_finetune, linear_probe, maple, zsclip  # noqa: F401
