"""`show`: a contact sheet, rows of classes, columns of splits, a few examples in each."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from cilmp.datasets import splits
from cilmp.datasets.base import SplitDataset
from cilmp.files import replacing
from cilmp.images import read_image

SIDE, GAP, TITLE, MARGIN = 96, 4, 18, 220  # pixels


def show(dataset: type[SplitDataset], root: str, output: Path, each: int = 4, seed: int = 0) -> Path:
    """Write the sheet as PNG, `each` random examples of every class and split."""
    folder = dataset.located(root)
    path = dataset.split_path(folder)
    split = splits.read(path)
    images, names = dataset.image_folder(folder, split), splits.classnames(split, path)
    rng = random.Random(seed)
    block = each * (SIDE + GAP) + 3 * GAP
    sheet = Image.new("RGB", (MARGIN + len(split) * block, TITLE + len(names) * (SIDE + GAP)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for column, (part, items) in enumerate(split.items()):
        left = MARGIN + column * block
        draw.text((left, 3), f"{part} ({len(items)})", "black", font)
        for label, name in enumerate(names):
            top = TITLE + label * (SIDE + GAP)
            mine = [item for item in items if item.label == label]
            if column == 0:
                draw.multiline_text((4, top + 4), wrapped(f"{label} {name}"), "black", font)
            for i, item in enumerate(rng.sample(mine, min(each, len(mine)))):
                image = read_image(str(images / item.path))
                image.thumbnail((SIDE, SIDE))
                sheet.paste(image, (left + i * (SIDE + GAP), top))
    with replacing(output, mend="check --output") as partial:
        sheet.save(partial, "PNG")
    return output


def wrapped(text: str, width: int = 34) -> str:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
