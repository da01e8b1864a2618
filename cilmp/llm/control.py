"""Controls: the same prompts without an LLM's knowledge, to learn whether the knowledge is what helps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cilmp.clip import CLIP, load_clip
from cilmp.errors import UserError
from cilmp.llm.extract import stamp
from cilmp.llm.store import Knowledge, read


def random(like: Path, seed: int = 1) -> Knowledge:
    """Gaussian states with the mean and the deviation over classes that a file has at each layer and dimension.

    So the scale, the layers' course and the few huge activations stay; which class is like which does not.
    """
    source = read(like)
    if len({len(h) for h in source.states}) > 1 or len(source.states) < 2:
        raise UserError(f"{like} needs two classes or more, of equally many layers, to take statistics from.")
    states = torch.stack([h.float() for h in source.states])  # (C, L, d)
    noise = torch.randn(states.shape, generator=torch.Generator().manual_seed(seed))
    drawn = states.mean(0) + states.std(0) * noise
    facts = {key: value for key, value in source.metadata.items() if key not in ("answers", "classes_sha256")}
    facts |= {"control": "random", "seed": seed, "model": f"random, statistics of {source.metadata.get('model')}"}
    return Knowledge(source.classnames, list(drawn), facts | stamp())


def text(like: Path, backbone: str) -> Knowledge:
    """CLIP's own text tower reading the answers in a file: the state at EOS after every block, (blocks, width).

    backbone: a name for load_clip, or a file of weights.  An answer longer than the tower's 77 tokens is read in
    pieces of whole sentences, and the pieces averaged.
    """
    weights = backbone if Path(backbone).is_file() else ""
    source, clip = read(like), load_clip(backbone, weights)
    answers = source.metadata.get("answers") or {}
    missing = [name for name in source.classnames if name not in answers]
    if missing:
        raise UserError(f"{like} holds no answer for {', '.join(missing)}: --control text needs a file with answers.")
    states = [
        clip_states(clip, [p for a in answers[name] for p in pieces(clip, a, name)]) for name in source.classnames
    ]
    kept = {key: source.metadata[key] for key in ("dataset", "questions", "answers") if key in source.metadata}
    facts = {
        "model": f"CLIP {Path(backbone).name if weights else backbone}, text tower",
        "control": "text",
        "answers_by": source.metadata.get("model"),
    }
    return Knowledge(source.classnames, states, kept | facts | stamp())


@torch.no_grad()
def clip_states(clip: CLIP, texts: Sequence[str]) -> Tensor:
    """(blocks, width), averaged over the texts."""
    return clip.text_layers(clip.tokenize(texts)).mean(1)


def pieces(clip: CLIP, answer: str, name: str) -> list[str]:
    """Whole sentences as long as the tower can read together; a longer sentence is cut between words."""
    units = [s for s in re.split(r"(?<=[.!?])\s+|\n+", answer) if s.strip()] or [name]
    found: list[str] = []
    while units:
        unit = units.pop(0)
        if found and fits(clip, f"{found[-1]} {unit}"):
            found[-1] = f"{found[-1]} {unit}"
        elif fits(clip, unit):
            found.append(unit)
        else:
            words = unit.split()
            if len(words) == 1:
                raise UserError(f"A word of {len(unit)} letters in the answer for '{name}' does not fit CLIP.")
            half = len(words) // 2
            units[:0] = [" ".join(words[:half]), " ".join(words[half:])]
    return found


def fits(clip: CLIP, piece: str) -> bool:
    try:
        return bool(clip.tokenizer.encode(piece))
    except UserError:
        return False
