"""How images are prepared for a backbone: as it was trained on them, where the configuration leaves it open."""

from __future__ import annotations

from yacs.config import CfgNode

from cilmp.clip.model import Pixels
from cilmp.trainers.engine.config import default_cfg


def follow(cfg: CfgNode, pixels: Pixels) -> CfgNode:
    """A copy in which what INPUT leaves open is the backbone's; what differs from the defaults, or is KEPT, stays."""
    cfg, default = cfg.clone(), default_cfg()
    told = {
        "PIXEL_MEAN": list(pixels.mean),
        "PIXEL_STD": list(pixels.std),
        "INTERPOLATION": pixels.interpolation,
        "RESIZE": pixels.resize,
    }
    if pixels.size:
        told["SIZE"] = (pixels.size,) * 2
    cfg.defrost()
    for key, value in told.items():
        if key not in cfg.INPUT.get("KEPT", []) and cfg.INPUT.get(key, default.INPUT[key]) == default.INPUT[key]:
            cfg.INPUT[key] = value
    cfg.freeze()
    return cfg


def used(cfg: CfgNode) -> dict:
    """For the record."""
    names = {"mean": "PIXEL_MEAN", "std": "PIXEL_STD", "size": "SIZE"}
    names |= {"interpolation": "INTERPOLATION", "resize": "RESIZE"}
    return {name: cfg.INPUT.get(key) for name, key in names.items()}
