"""The name of a backbone -> a frozen CLIP, and how its images are prepared.

A name is one of OpenAI's, `tiny`, `tiny-bert`, a short name of KNOWN, `hf:` and a repository or folder that
transformers wrote, or `open_clip:` and one that open_clip wrote.  A path is a file or folder of any of these.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cilmp.clip import build, huggingface, openclip, tiny, weights
from cilmp.clip.block import ACTIVATIONS
from cilmp.clip.model import CLIP, Pixels
from cilmp.clip.tiny import TINY
from cilmp.errors import UserError

CACHE = Path("~/.cache/clip")  # of the `clip` package
SIZES = {"RN50x4": 288, "RN50x16": 384, "RN50x64": 448, "ViT-L/14@336px": 336}  # a side; OpenAI's others: 224


BERT = "bert"  # whose config lies beside a checkpoint of UniMed-CLIP and does not describe it


class Known(NamedTuple):
    source: str  # a name with its prefix
    licence: str
    pixels: int  # a side
    about: str


KNOWN = {
    "biomedclip": Known("open_clip:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", "MIT, research only", 224,
                        "figures of PubMed Central"),
    "pubmedclip": Known("hf:flaviagiammarino/pubmed-clip-vit-base-patch32", "MIT", 224, "radiology (ROCO)"),
    "plip": Known("hf:vinid/plip", "none stated", 224, "pathology (Twitter)"),
    "quiltnet-b16": Known("open_clip:wisdomik/QuiltNet-B-16", "MIT", 224, "pathology (YouTube)"),
    "quiltnet-b16-pmb": Known("open_clip:wisdomik/QuiltNet-B-16-PMB", "MIT", 224, "pathology, PubMedBERT"),
    "medsiglip": Known("hf:google/medsiglip-448", "Health AI Developer Foundations, gated", 448,
                       "X-ray, CT, MRI, skin, fundus, pathology"),
    "unimed-clip-b16": Known("open_clip:UzairK/unimed-clip-vit-b16", "CC BY-NC 4.0", 224, "six modalities"),
}  # fmt: skip


class Place(NamedTuple):
    """Where a backbone lies."""

    folder: Path | None  # that states what it is
    file: Path | None  # of weights; None: the folder's own
    kind: str  # hf, open_clip, openai or tiny-bert
    size: int = 0  # pixels a side, where nothing else tells


def locate(name: str, path: str = "") -> Place:
    """UserError for what is not there; what must be downloaded is."""
    if path:
        return at(Path(path))
    name = KNOWN[name].source if name in KNOWN else name
    kind, _, rest = name.partition(":")
    if kind == "hf":
        return Place(weights.folder(rest, huggingface.FILES, kind), None, "hf")
    if kind == "open_clip":
        return at(weights.folder(rest, openclip.FILES, kind), kind)
    if name == "tiny":
        return Place(None, TINY, "openai", tiny.SIZE)
    if name == "tiny-bert":
        return Place(None, tiny.TINY_BERT, name, tiny.SIZE)
    import clip.clip

    if name not in clip.clip._MODELS:
        raise weights.unknown(
            name, [*clip.clip._MODELS, "tiny", "tiny-bert", *KNOWN, "hf:<repository>", "open_clip:<repository>"]
        )
    return Place(None, weights.openai(name, CACHE.expanduser()), "openai", SIZES.get(name, 224))


def at(path: Path, kind: str = "") -> Place:
    """A folder, or a file, which the config beside it explains."""
    folder = path if path.is_dir() else path.parent
    file = None if path.is_dir() else path
    if (folder / openclip.CONFIG).is_file():
        return Place(folder, file, "open_clip")
    single = [p for p in folder.iterdir() if p.suffix in (".pt", ".pth")] if file is None else [file]
    if kind != "open_clip" and huggingface.describes(folder, BERT if len(single) == 1 else ""):
        return Place(folder, file, "hf")
    if len(single) != 1:
        raise UserError(
            f"{folder} holds neither {openclip.CONFIG} nor {huggingface.CONFIG}: without one nothing says what the "
            "weights are."
        )
    return Place(None, single[0], "openai")


def load_clip(name: str, path: str = "", precision: str = "fp32", activation: str = "") -> CLIP:
    """A frozen CLIP on the CPU.

    name, path: see above; the path wins.  precision: fp32, fp16, bf16 or amp.  activation: of a file with OpenAI's
    names that nothing explains.  UserError for whatever is not there or not a CLIP.
    """
    if activation and activation not in ACTIVATIONS:
        raise UserError(f"MODEL.BACKBONE.ACTIVATION is '{activation}'; choose one of {', '.join(ACTIVATIONS)}.")
    where = locate(name, path)
    try:
        model = loaded(where, activation)
    except UserError as error:
        shown = str(where.file or where.folder)
        raise UserError(str(error) if shown in str(error) else f"{shown}: {error}") from None
    return model.cast(precision)


def loaded(where: Place, activation: str) -> CLIP:
    if where.folder is not None:
        return {"hf": huggingface, "open_clip": openclip}[where.kind].load(where.folder, where.file)  # type: ignore
    if where.kind == "tiny-bert":
        return tiny.bert()
    assert where.file is not None
    found = weights.read(where.file)
    if openclip.is_unimed(found):
        return openclip.unimed(found, where.file.parent)
    require_openai(found)
    return build.openai(found, activation=activation or stated(where.file))


def stated(file: Path) -> str:
    """The activation a file states; UserError where it does not."""
    said = weights.activation(file)
    if said not in ACTIVATIONS:
        raise UserError(
            f"{file} does not say which GELU it was trained with, and the wrong one gives wrong numbers: put its "
            f"{openclip.CONFIG} beside it, or set MODEL.BACKBONE.ACTIVATION to quick_gelu (OpenAI, MetaCLIP, DFN) or "
            "gelu (LAION, DataComp, most of open_clip)."
        )
    return said


def require_openai(found: dict) -> None:
    """UserError for other libraries' names without the config that explains them."""
    for prefix, what in (("visual.trunk.", openclip.CONFIG), ("vision_model.", huggingface.CONFIG)):
        if any(key.startswith(prefix) for key in found):
            raise UserError(f"These weights need the {what} of their folder beside them.")


def pixels_of(name: str, path: str = "") -> Pixels:
    """How a backbone's images are prepared, without reading its weights; size 0 where only they tell."""
    where = locate(name, path)
    if where.folder is not None:
        if where.kind == "hf":
            return huggingface.pixels(where.folder)
        return openclip.pixels(openclip.config(where.folder))
    return Pixels(size=where.size)


def weights_in(path: Path) -> Path:
    """The file of weights that a path means: itself, or the one of a folder that would be read."""
    if not path.is_dir():
        return path
    names = openclip.FILES if (path / openclip.CONFIG).is_file() else huggingface.FILES
    return next((path / name for name in names if (path / name).is_file()), path)
