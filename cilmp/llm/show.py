"""Look into a representation file: how it was made, what the LLM said, which classes it can tell apart."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor
from torch.nn import functional as F

from cilmp.errors import UserError
from cilmp.llm.cka import between_layers
from cilmp.llm.store import Knowledge, read


def show(path: Path, plot: Path | None = None) -> None:
    knowledge = read(path)
    facts = {k: v for k, v in knowledge.metadata.items() if k != "answers" and v not in ("", 0, None)}
    print(tabulate([(key, str(value)) for key, value in facts.items()], tablefmt="plain", maxcolwidths=[None, 96]))
    for name, said in (knowledge.metadata.get("answers") or {}).items():
        for answer in said:
            print(f"\n{name}: {answer}")
    print("\n" + norms(knowledge))
    if len(knowledge.classnames) < 2:
        return
    states = stacked(knowledge, path)
    print(
        "\nCosine similarity of classes (three or more: their common mean removed)\n"
        + by_layer(knowledge.classnames, states)
    )
    if plot:
        draw(knowledge.classnames, states, plot)
        print(f"\n{plot}: linear CKA between layers, similarity of classes")


def norms(knowledge: Knowledge) -> str:
    table = []
    for name, h in zip(knowledge.classnames, knowledge.states, strict=True):
        size = h.float().norm(dim=1)
        table.append((name, "x".join(map(str, h.shape)), size[0], size.median(), size.max(), size[-1]))
    heads = ("class", "layers x width", "norm: first layer", "median", "largest", "last layer")
    return tabulate(table, heads, floatfmt=".1f")


def stacked(knowledge: Knowledge, path: Path) -> Tensor:
    """(C, L, d)."""
    if len({len(h) for h in knowledge.states}) > 1:
        raise UserError(f"The classes of {path} have different numbers of layers: they cannot be compared by layer.")
    return torch.stack([h.float() for h in knowledge.states])


def similarity(states: Tensor) -> Tensor:
    """(C, L, d) -> (L, C, C), cosine after the mean over classes is removed: what all classes share (an LLM's few
    huge activations above all) would hide what tells them apart.  Two classes, opposite by then, are left as they are.
    """
    centre = states.mean(0) if len(states) > 2 else 0.0
    x = F.normalize(states - centre, dim=-1).transpose(0, 1)
    return x @ x.transpose(1, 2)


def by_layer(names: list[str], states: Tensor, most: int = 8) -> str:
    """Mean distance between classes relative to their size, and the closest pair, for each layer (at most `most`)."""
    like = similarity(states)
    pairs = list(itertools.combinations(range(len(names)), 2))
    depth = states.shape[1]
    layers = sorted({round(i) for i in torch.linspace(0, depth - 1, min(most, depth)).tolist()})
    table = []
    for layer in layers:
        a, b = max(pairs, key=lambda pair: float(like[layer][pair]))
        apart = torch.pdist(states[:, layer]).mean() / states[:, layer].norm(dim=-1).mean()
        table.append((layer + 1, apart, like[layer, a, b], f"{names[a]} / {names[b]}"))
    return tabulate(table, ("row", "distance / norm", "closest pair", "classes"), floatfmt=("d", ".4f", ".3f"))


def draw(names: list[str], states: Tensor, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    side = max(4.0, 0.45 * len(names))
    figure, (left, right) = plt.subplots(1, 2, figsize=(5 + side + 1.5, max(4.0, side)), layout="constrained")
    depth = states.shape[1]
    image = left.imshow(between_layers(states).numpy(), vmin=0, vmax=1, origin="lower", extent=(0.5, depth + 0.5) * 2)
    left.set(title="Linear CKA between layers", xlabel="layer", ylabel="layer")
    figure.colorbar(image, ax=left, shrink=0.8)
    image = right.imshow(similarity(states).mean(0).numpy(), vmin=-1, vmax=1, cmap="RdBu_r")
    right.set(title="Similarity of classes, mean over layers")
    right.set_xticks(range(len(names)), names, rotation=45, ha="right")
    right.set_yticks(range(len(names)), names)
    figure.colorbar(image, ax=right, shrink=0.8)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot write {path} ({error}): give --plot a path such as cka.png.") from None
    finally:
        plt.close(figure)
