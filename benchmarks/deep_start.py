"""How should deep text prompts start on a post-norm tower, which does not normalise what is written into it?

    python benchmarks/deep_start.py --root data --out benchmarks/results

Trains on the base classes of PHANTOMS, 16 shots, with each tower's own yaml, and tests base and new.  Starts of the
tokens before blocks 1, 2, ...: `noise`, contexts N(0, 0.02) and CILMP's tokens of an LLM at whatever size they have, as
every reference; `level`, both as large as what they overwrite (the root mean square of the frozen stream there);
`words`, contexts the stream of "a photo of a" at these places, tokens of the LLM level.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

import cilmp.datasets
import cilmp.trainers  # noqa: F401  both register
from cilmp.clip import CLIP
from cilmp.results.protocols import harmonic
from cilmp.trainers.engine.config import build_cfg
from dassl.engine import build_trainer
from dassl.utils import set_random_seed

STARTS = ("noise", "level", "words")
ABSENT = ("resume", "source_domains", "target_domains", "transforms", "backbone", "head")  # flags that are not given


@torch.no_grad()
def stream(clip: CLIP, words: str, n: int) -> Iterator[Tensor]:
    """(n, D): what n tokens behind the first are, ahead of every block of the frozen tower."""
    segment, _ = clip.sentences(clip.tokenize([words]))
    x = clip.text.enter(segment.dense()[0])
    for block in clip.text.transformer.blocks:
        yield x[0, 1 : 1 + n].float()
        x = block(x, causal=clip.text.causal, real=segment.mask)


def rms(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()


@torch.no_grad()
def begin(model: torch.nn.Module, start: str) -> None:
    if start == "noise":
        return
    for i, there in enumerate(stream(model.clip, "a photo of a", len(model.ctx[0]))):
        if 0 < i < len(model.ctx):
            model.ctx[i].copy_(there if start == "words" else model.ctx[i] * rms(there) / 0.02)
        if i < len(getattr(model, "layers", ())):  # CILMP's
            layer, f = model.layers[i], torch.full((1, model.clip.embed), model.clip.embed**-0.5)
            tokens = layer.literal(model.states, (model.head, model.tail), model.place, f)
            layer.lora_proj.lora_B *= rms(there) / rms(tokens)


def accuracies(trainer: str, config: str, start: str, seed: int, root: Path) -> tuple[float, float]:
    """Of one run, on base and on new classes, in %."""
    found = []
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        with contextlib.redirect_stderr(io.StringIO()):
            for classes in ("base", "new"):
                opts = ["DATASET.NUM_SHOTS", "16", "DATASET.SUBSAMPLE_CLASSES", classes, "USE_CUDA", "False"]
                given = dict(trainer=trainer, dataset_config_file="phantoms", config_file=config, root=str(root))
                args = argparse.Namespace(**given, seed=seed, output_dir=folder, opts=opts, **dict.fromkeys(ABSENT, ""))
                set_random_seed(seed)
                built = build_trainer(build_cfg(args))
                if classes == "base":
                    begin(built.model, start)
                    built.train()
                else:
                    built.load_model(folder)
                    built.test()
                found.append(built.evaluator.scores["accuracy"])
    return found[0], found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the result")
    parser.add_argument("--trainers", nargs="+", default=["IVLP", "CILMP"])
    parser.add_argument("--configs", nargs="+", default=["tiny_bert", "tiny"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for config in args.configs:
        for trainer in args.trainers:
            for start in STARTS:
                runs = [accuracies(trainer, config, start, seed, args.root) for seed in args.seeds]
                base, new = ([run[side] for run in runs] for side in (0, 1))
                row = {"config": config, "trainer": trainer, "start": start}
                for name, values in (("base", base), ("new", new)):
                    row[name] = round(statistics.mean(values), 2)
                    row[f"{name}_deviation"] = round(statistics.stdev(values), 2) if len(values) > 1 else None
                row["H"] = round(harmonic(statistics.mean(base), statistics.mean(new)), 2)
                rows.append(row)
                print(row, flush=True)
    record = {
        "what": "starts of deep text prompts on a post-norm and a pre-norm tower: PHANTOMS, 16 shots, base to new",
        "versions": {name: metadata.version(name) for name in ("torch", "numpy")},
        "seeds": args.seeds,
        "rows": rows,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "deep_start_cpu.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
