"""Backbones: which there are, and what one is.

cilmp clip list
cilmp clip show ViT-B/16        its architecture, and checksums of the features of one sentence and one image
cilmp clip show --path FILE OR FOLDER
"""

from __future__ import annotations

import argparse
import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path

warnings.filterwarnings("ignore", message="pkg_resources is deprecated")

import torch  # noqa: E402
from tabulate import tabulate  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from cilmp.clip import tiny  # noqa: E402
from cilmp.clip.backbones import CACHE, KNOWN, SIZES, load_clip  # noqa: E402
from cilmp.clip.model import CLIP  # noqa: E402
from cilmp.clip.towers import ImageTower, TextTower  # noqa: E402
from cilmp.errors import UserError, exit_on_user_error  # noqa: E402

TOYS = {"tiny": tiny.TINY, "tiny-bert": tiny.TINY_BERT}
SENTENCE = "a photo of a lung."


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="cilmp clip", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list|show")
    text = "the names of backbones, the pixels they read, and whether their weights are here"
    verbs.add_parser("list", help=text, description=text)
    text = "a backbone's architecture, parameters, and checksums of its features"
    add = verbs.add_parser("show", help=text, description=text).add_argument
    add("name", nargs="?", default="", help="a name that `list` shows; OpenAI's are downloaded if need be")
    add("--path", default="", help="a local file of weights, or a folder, instead")
    add("--activation", default="", help="of a file that does not say it: quick_gelu or gelu")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if args.verb == "list":
        print(tabulate(listed(), ("name", "pixels a side", "licence", "weights")))
        return
    if not args.name and not args.path:
        raise UserError("Which backbone? Give a name that `cilmp clip list` shows, or --path FILE.")
    if args.path and not Path(args.path).exists():
        raise UserError(f"No file or folder of weights at {args.path}: check --path.")
    print(tabulate(facts(load_clip(args.name, args.path, activation=args.activation)), tablefmt="plain"))


def listed() -> list[tuple[str, object, str, str]]:
    """(name, pixels a side, licence, where its weights are) of whatever load_clip knows."""
    from clip.clip import _MODELS

    rows: list[tuple[str, object, str, str]] = []
    for name, url in _MODELS.items():
        file = CACHE / Path(url).name
        there = file.expanduser().is_file()
        where = str(file) if there else f"downloaded to {CACHE} when first used"
        rows.append((name, SIZES.get(name, 224), "MIT", where))
    rows += [(name, tiny.SIZE, "MIT", f"ships with the toolbox ({file.name})") for name, file in TOYS.items()]
    rows += [(name, known.pixels, known.licence, f"{known.source}: {known.about}") for name, known in KNOWN.items()]
    rows.append(("hf:<repository or folder>", "its own", "", "a CLIPModel or SiglipModel of Hugging Face"))
    return [*rows, ("open_clip:<repository or folder>", "its own", "", "what open_clip wrote, with its config")]


def facts(model: CLIP) -> list[tuple[str, str]]:
    """What there is to tell; the model leaves in float64."""
    text, pixels = model.text, model.pixels
    counts = {"image tower": count(model.visual), "text tower": count(text) + count(model.token_embedding)}
    told = [
        ("image tower", image_tower(model.visual)),
        ("text tower", f"{'causal' if text.causal else 'bidirectional'} transformer, {sizes(text)}"),
        ("embedding", f"width {model.embed}"),
        ("activation", activation(model)),
        (
            "tokens",
            f"{type(model.tokenizer).__name__}, {model.token_embedding.num_embeddings} known, {model.context} read",
        ),
        ("pixels", f"{model.resolution} x {model.resolution}, {pixels.interpolation}, {pixels.resize}"),
        ("pixel mean", ", ".join(f"{x:.6g}" for x in pixels.mean)),
        ("pixel deviation", ", ".join(f"{x:.6g}" for x in pixels.std)),
        ("parameters", f"{count(model):,}" + "".join(f", {name} {n:,}" for name, n in counts.items())),
    ]
    model.double()  # in float32 the order of a machine's sums moves the fourth decimal of a feature
    with torch.no_grad():
        sentence, image = model.encode_text(model.tokenize([SENTENCE])), model.encode_image(picture(model))
    return [*told, (f"features of '{SENTENCE}'", checksum(sentence)), ("features of a pattern", checksum(image))]


def image_tower(visual: nn.Module) -> str:
    if isinstance(visual, ImageTower):
        return f"vision transformer, patch {visual.conv1.kernel_size[0]}, {sizes(visual)}"
    blocks = [len(list(layer.children())) for name, layer in visual.named_children() if name.startswith("layer")]
    return f"{type(visual).__name__}, blocks {' '.join(map(str, blocks))}"


def activation(model: CLIP) -> str:
    """Of both towers, once where it is the same."""
    towers = [tower for tower in (model.visual, model.text) if isinstance(tower, ImageTower | TextTower)]
    names = [tower.transformer.blocks[0].style.activation for tower in towers]
    return names[0] if len(set(names)) == 1 else f"image {names[0]}, text {names[1]}"


def sizes(tower: TextTower | ImageTower) -> str:
    heads = tower.transformer.blocks[0].attn.heads
    return f"width {tower.width}, {tower.depth} layers, {heads} heads"


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def picture(model: CLIP) -> Tensor:
    """(1, 3, R, R): the same slanted waves for every backbone, in its pixel statistics."""
    y, x = torch.meshgrid(*[torch.arange(model.resolution)] * 2, indexing="ij")
    values = torch.stack([(7 * x + 13 * y * (c + 1)) % 256 for c in range(3)])[None].double() / 255
    mean, std = (
        torch.tensor(values, dtype=torch.double).view(3, 1, 1) for values in (model.pixels.mean, model.pixels.std)
    )
    return (values - mean) / std


def checksum(features: Tensor) -> str:
    """First 12 hexadecimal digits of SHA-256 over unit features (1, E), float32 rounded to 4 decimals."""
    unit = nn.functional.normalize(features.double(), dim=-1)
    rounded = torch.round(unit, decimals=4) + 0.0  # no negative zero
    return hashlib.sha256(rounded.numpy().astype("<f4").tobytes()).hexdigest()[:12]


if __name__ == "__main__":
    exit_on_user_error(main)
