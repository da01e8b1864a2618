"""Makes tests/results/golden, a small folder of finished runs, and the tables expected of it:

python tests/results/golden.py

The numbers are random: the folder holds tables and tests to account, it measures no method.
"""

import shutil
from pathlib import Path

import numpy as np

from cilmp.results import metrics, protocols, records, runs

HERE = Path(__file__).parent / "golden"
RUNS, EXPECTED = HERE / "runs", HERE / "expected"
SKILL = {"ZeroshotCLIP": 0.5, "CoOp": 1.2, "CILMP": 1.8}
METHODS = {"ZeroshotCLIP": ("zero-shot", 2021), "CoOp": ("prompt", 2021), "CILMP": ("prompt", 2025)}
NAMES = ["normal", "benign_lesion", "malignant"]
GONE = ("CoOp", "BUSI", "new", 16, 3)  # a run that never finished


def folder(trainer: str, data: str, classes: str, shots: int, seed: int) -> Path:
    if classes == "all":
        return RUNS / data.lower() / trainer / f"vit_b16_{shots}shots" / f"seed{seed}"
    part = {"base": "train_base", "new": "test_new"}[classes]
    return RUNS / "base2new" / part / data.lower() / f"shots_{shots}" / trainer / "vit_b16" / f"seed{seed}"


def run(trainer: str, data: str, classes: str, shots: int, seed: int) -> None:
    if (trainer, data, classes, shots, seed) == GONE:
        return
    key = [sorted(SKILL).index(trainer), len(data), "base new all".split().index(classes), shots, seed]
    rng = np.random.default_rng(key)
    labels = np.arange(30) % 3
    skill = SKILL[trainer] * (1 + 0.05 * shots if trainer != "ZeroshotCLIP" else 1)
    logits = np.round(rng.normal(size=(30, 3)) + skill * np.eye(3)[labels], 3)
    scores = metrics.scores(logits, labels)
    recall = metrics.per_class(logits.argmax(1), labels, 3).tolist()
    place = folder(trainer, data, classes, shots, seed)
    record = dict(version=1, trainer=trainer, dataset=data, config="vit_b16", backbone="ViT-B/16", classes=classes)
    record |= dict(
        split="test", shots=shots, seed=seed, per_class=dict(zip(NAMES, recall, strict=True)), metrics=scores
    )
    record |= dict(method=dict(zip(("kind", "year"), METHODS[trainer], strict=True)))
    record |= dict(options={"OPTIM.MAX_EPOCH": 100}, seconds={"total": 10.0 + seed}, trainable_parameters=2048)
    record |= dict(model_dir="", device="cpu", commit="", versions={}, finished="2026-01-01T00:00:00+00:00")
    place.mkdir(parents=True)
    paths = np.array([f"{data.lower()}/{classes}/{i:02}.png" for i in range(30)])
    np.savez_compressed(place / "predictions.npz", path=paths, label=labels, logits=logits, classnames=np.array(NAMES))
    records.write(place / records.NAME, record)


def tables() -> dict[str, str]:
    """{file name: what python -m cilmp.results makes of the folder}."""
    found, _ = runs.collect(RUNS)
    made = {}
    for style, suffix in (("text", "txt"), ("md", "md"), ("latex", "tex"), ("csv", "csv")):
        for name in ("base2new", "few_shot", "metrics"):
            made[f"{name}.{suffix}"] = "\n".join(t.render(style) for t in protocols.TABLES[name](found, "accuracy"))
    return made


def main() -> None:
    shutil.rmtree(HERE, ignore_errors=True)
    for trainer in SKILL:
        for seed in (1, 2, 3):
            for data in ("BUSI", "KVASIR"):
                for classes in ("base", "new"):
                    run(trainer, data, classes, 16, seed)
            for shots in (1, 4):
                run(trainer, "BUSI", "all", shots, seed)
    EXPECTED.mkdir()
    for name, text in tables().items():
        (EXPECTED / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
