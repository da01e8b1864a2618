"""Pre-train an embedded toy CLIP on captions of synthetic scans: about 8 minutes on 2 CPU cores.

    python scripts/pretrain_tiny.py              writes cilmp/assets/tiny.safetensors, OpenAI's architecture
    python scripts/pretrain_tiny.py --bert       writes cilmp/assets/tiny_bert.safetensors, BiomedCLIP's: timm's ViT,
                                                 and a post-norm BERT of word pieces

Contrastive training as CLIP's (Radford et al. 2021, arXiv 2103.00020), with one change for so few words: equal captions
in a batch are not each other's negatives.  The scans are of good quality; PHANTOMS, which `tiny` is tried on, shows the
same findings badly exposed.  Half the captions name the finding, half only describe it or where it lies.
"""

from __future__ import annotations

import argparse
import json
import math
import string
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from cilmp.clip import CLIP, tiny
from cilmp.clip.tokenizers import word_pieces
from cilmp.clip.towers import ImageTower, TextTower
from cilmp.datasets.scans import FINDINGS, SIZE, STYLES, Acquisition, scan

GOOD = Acquisition(contrast=(0.25, 0.5), noise=(0.01, 0.05), blur=(0.3, 0.7), shading=0.1, gamma=(0.8, 1.25))
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # as every CLIP's input
DESCRIPTIONS = {
    "nodule": "small round bright spot",
    "cyst": "dark disc with a thin bright wall",
    "calcification": "cluster of tiny bright dots",
    "effusion": "bright layer with a level at the bottom",
    "spiculated mass": "large bright star with spikes",
    "fracture": "dark broken line",
    "consolidation": "hazy bright cloud",
    "cavity": "thick bright ring",
}
TEMPLATES = (
    "{style} of a {finding}.",
    "a {finding} on a {style}.",
    "{style} showing a {finding}, {place}.",
    "{style}: {description}.",
    "{style}, {description} {place}.",
    "a photo of a {finding}.",
    "a photo of a {style}.",
    "a photo of a {description}.",
)


def captioned(count: int, rng: np.random.Generator) -> tuple[Tensor, list[dict]]:
    """Scans (count, 1, SIZE, SIZE) uint8 and what a caption may say of each."""
    pictures, facts = torch.empty(count, 1, SIZE, SIZE, dtype=torch.uint8), []
    for i in tqdm(range(count), desc="drawing scans", mininterval=5):
        finding, style = str(rng.choice(list(FINDINGS))), str(rng.choice(list(STYLES)))
        picture, (y, x) = scan(finding, style, GOOD, rng)
        pictures[i, 0] = torch.from_numpy(np.array(picture))
        place = f"{'upper' if y < 0.5 else 'lower'} {'left' if x < 0.5 else 'right'}"
        facts.append(dict(finding=finding, style=style, place=place, description=DESCRIPTIONS[finding]))
    return pictures, facts


def build(bert: bool = False) -> CLIP:
    """64 x 64 pixels in patches of 16, four layers of width 128 in both towers, joint size 128."""
    if bert:
        text = TextTower(128, 4, context=tiny.CONTEXT, embed=128, **tiny.TEXT)
        words = word_pieces(VOCABULARY, tiny.CONTEXT)
        model = CLIP(ImageTower(SIZE, 16, 128, 4, embed=128, **tiny.IMAGE), text, len(VOCABULARY), words)
    else:
        model = CLIP(ImageTower(SIZE, 16, 128, 4, 2, 128), TextTower(128, 4, 2, 77, 128), 49408)
    torch.nn.init.normal_(model.token_embedding.weight, std=0.02)
    for tower in (model.visual, model.text):
        for block in tower.transformer.blocks:
            if not block.style.post_norm:
                for matrix in (block.attn.out_proj.weight, block.mlp["c_proj"].weight):
                    torch.nn.init.normal_(matrix, std=128**-0.5 / math.sqrt(2 * 4))
    return model


def said() -> list[str]:
    """Every word a caption may hold."""
    facts = dict.fromkeys(("finding", "style", "place", "description"), "")
    captions = [template.format(**facts) for template in TEMPLATES]
    return [*captions, *FINDINGS, *STYLES, *DESCRIPTIONS.values(), "upper lower left right"]


def vocabulary() -> list[str]:
    """Whole words of the captions, and single characters, of which any other word is made."""
    words = {word.strip(",.:") for text in said() for word in text.lower().replace("-", " ").split()}
    letters = string.ascii_lowercase + string.digits
    pieces = [*string.punctuation, *letters, *(f"##{letter}" for letter in letters)]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces, *sorted(words - {*pieces, ""})]


VOCABULARY = vocabulary()


def normalise(pictures: Tensor) -> Tensor:
    """(B, 1, SIZE, SIZE) uint8 -> (B, 3, SIZE, SIZE)."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return (pictures / 255 - mean) / std


def loss(model: CLIP, pictures: Tensor, captions: list[str]) -> Tensor:
    tokens = model.tokenize(sorted(set(captions)))
    which = torch.tensor([sorted(set(captions)).index(c) for c in captions])  # (B,), each picture's caption
    image = F.normalize(model.encode_image(normalise(pictures)), dim=-1)
    text = F.normalize(model.encode_text(tokens), dim=-1)
    logits = model.logit_scale.exp() * image @ text.T  # (B, distinct captions)
    mates = F.one_hot(which, len(tokens)).float()  # (B, T)
    return (F.cross_entropy(logits, which) + F.cross_entropy(logits.T, mates.T / mates.sum(0)[:, None])) / 2


def small(model: CLIP) -> dict[str, Tensor]:
    """The weights in half precision; of OpenAI's vocabulary only the words the captions use."""
    weights = {k: v.half().contiguous() for k, v in model.openai_state_dict().items()}
    table = weights["token_embedding.weight"]
    if len(table) == len(VOCABULARY):
        return weights
    del weights["token_embedding.weight"]
    ids = model.tokenize(said()).unique()
    return weights | {"token_embedding.ids": ids, "token_embedding.rows": table[ids]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=40_000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bert", action="store_true", help="make tiny-bert")
    parser.add_argument("--out", type=Path, help="the file to write")
    args = parser.parse_args()
    args.out = args.out or (tiny.TINY_BERT if args.bert else tiny.TINY)

    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    pictures, facts = captioned(args.scans, rng)
    model = build(args.bert).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.1, betas=(0.9, 0.98))
    steps = args.epochs * (args.scans // args.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, args.lr, steps, pct_start=0.1)
    progress = tqdm(range(steps), desc="training", mininterval=5)
    for step in progress:
        if step % (args.scans // args.batch) == 0:
            order = torch.randperm(args.scans)
        chosen = order[step * args.batch % (args.scans // args.batch * args.batch) :][: args.batch]
        captions = [str(rng.choice(TEMPLATES)).format(**facts[i]) for i in chosen]
        value = loss(model, pictures[chosen], captions)
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))
        if step % 50 == 0:
            progress.set_postfix(loss=f"{value.item():.3f}", scale=f"{model.logit_scale.exp().item():.1f}")
    stated = {"vocabulary": json.dumps(VOCABULARY)} if args.bert else {"activation": "quick_gelu"}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(small(model), args.out, stated)
    print(f"{args.out}: {args.out.stat().st_size / 2**20:.2f} MB")


if __name__ == "__main__":
    main()
