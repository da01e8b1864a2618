"""The name of a backbone -> a frozen CLIP."""

from __future__ import annotations

from pathlib import Path

from cilmp.clip import weights
from cilmp.clip.model import CLIP
from cilmp.errors import UserError

CACHE = Path("~/.cache/clip")  # of the `clip` package
TINY = Path(__file__).parents[1] / "assets" / "tiny.safetensors"


def load_clip(name: str, path: str = "", precision: str = "fp32") -> CLIP:
    """A frozen CLIP on the CPU.

    name: one of OpenAI's (downloaded once to ~/.cache/clip), `tiny` (the embedded toy), or `hf:` and a Hugging Face
    CLIPModel's repository or folder.  path: a local file instead, OpenAI's JIT archive, a plain state dict or
    .safetensors.  precision: fp32, fp16, bf16 or amp.  UserError for whatever is not there or not a CLIP.
    """
    if path:
        try:
            model = CLIP.from_state_dict(weights.read(Path(path)))
        except UserError as error:
            raise UserError(str(error) if path in str(error) else f"{path}: {error}") from None
    elif name.startswith("hf:"):
        model = CLIP.from_state_dict(*weights.hugging_face(name[3:]))
    elif name == "tiny":
        model = CLIP.from_state_dict(weights.read(TINY))
    else:
        model = CLIP.from_state_dict(weights.read(weights.openai(name, CACHE.expanduser())))
    return model.cast(precision)
