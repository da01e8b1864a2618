from yacs.config import CfgNode

from dassl.config.defaults import defaults


def get_cfg_default() -> CfgNode:
    """A fresh copy of Dassl's default configuration."""
    return defaults()


def clean_cfg(cfg: CfgNode, trainer: str) -> None:
    """Drop every trainer's block but this one's, so that a printed configuration shows what is used."""
    for key in list(cfg.TRAINER):
        if key not in ("NAME", trainer.upper()):
            cfg.TRAINER.pop(key)
