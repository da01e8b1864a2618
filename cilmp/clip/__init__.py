"""Any frozen CLIP: towers that prompts are written into, and where weights come from."""

from cilmp.clip.backbones import load_clip
from cilmp.clip.model import CLIP

__all__ = ["CLIP", "load_clip"]
