"""What a protocol asks for: the runs of train.py, their folders (CoOp's), and which waits for which."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from cilmp.errors import UserError, nearest
from cilmp.results import records
from cilmp.yamls import PACKAGE, pick

Facts = Callable[[str], dict[str, Any]]  # what a trainer states of its method, by its name


@dataclass(eq=False)
class Job:
    """One run of the program: `arguments` is its command line, `folder` where its record will be."""

    folder: Path
    arguments: list[str]
    fields: dict[str, Any]  # what the record has to say: trainer, config, classes, shots, seed
    after: Job | None = None
    point: str = ""  # of a grid of options
    options: dict[str, Any] | None = None  # the config it asks for, as differences from the defaults; None: not known
    made_from: dict[str, str] = field(default_factory=dict)  # SHA-256 of the files it reads, '' where not known
    kind: tuple[object, ...] = field(init=False)  # runs of one kind take about the same time

    def __post_init__(self) -> None:
        shown = (self.fields.get(name) for name in ("trainer", "config", "dataset", "shots"))
        self.kind = (*shown, self.after is None)

    @property
    def name(self) -> str:
        f = self.fields
        point = f" [{self.point}]" if self.point else ""
        return f"{f['trainer']}{point} {f['dataset']} {f['classes']} {f['shots']} shots seed {f['seed']}"

    def command(self, program: Path) -> str:
        return shlex.join(["python", *started(program), *self.arguments])

    def state(self) -> tuple[str, str]:
        """('done' | 'differs' | 'broken' | 'missing', why), read from the disk."""
        if not (self.folder / records.NAME).exists():
            return ("broken", "no record") if (self.folder / STARTED).exists() else ("missing", "")
        try:
            record = records.read(self.folder)
        except UserError as error:
            return "broken", str(error)
        options = record.get("options", {}) if self.options is not None else {}
        asked, there = self.asked(), {**record, **options}
        known = (set(asked) | set(options)) - records.IRRELEVANT - {"dataset"}
        told = records.unlike(asked, there, known) + records.remade(self.made_from, record.get("made_from", {}))
        return ("differs", ", ".join(told)) if told else ("done", "")

    def asked(self) -> dict[str, Any]:
        """What tells this run from another in the same folder, as JSON holds it."""
        options = {key: value for key, value in (self.options or {}).items() if key not in records.IRRELEVANT}
        asked: dict[str, Any] = records.plain({**self.fields, **options})
        return asked


def started(program: Path) -> list[str]:
    """What Python is told: the package's own program by its module, or its folder would hide `clip` with cilmp/clip."""
    return ["-m", f"cilmp.{program.stem}"] if program.resolve().parent == PACKAGE else [str(program)]


STARTED = ".sweep"  # in a run's folder: started by a sweep; locked while it runs


@dataclass
class Plan:
    """The user's choices, from which a protocol makes jobs."""

    protocol: str
    configs: Path  # the folder of datasets/ and trainers/
    data: str
    output: Path
    datasets: Sequence[str]
    trainers: Sequence[str]
    seeds: Sequence[int]
    shots: Sequence[int]
    config: str  # '': tiny on the embedded set, vit_b16 elsewhere
    extra: Sequence[str] = ()  # KEY VALUE
    point: str = ""  # of a grid of options

    def check(self, facts: Facts | None = None) -> None:
        """Every slip before anything starts.  facts: what a trainer states of its method; None: nothing is known."""
        for data in self.datasets:
            self.dataset_name(data)
            for trainer in self.trainers:
                self.trainer_yaml(trainer, data)
        for trainer in self.trainers:
            served = facts(trainer)["protocols"] if facts else [self.protocol]
            if self.protocol not in served:
                known = f"{trainer} knows only the classes it was trained on"
                raise UserError(f"{known}, so no {self.protocol}; use {' or '.join(served)}.")
        if PROTOCOLS[self.protocol] in (cross_dataset, domain_generalisation) and len(self.datasets) < 2:
            told = f"{self.protocol} needs a source and at least one target"
            raise UserError(f"{told}: {self.protocol} SOURCE TARGET ...")
        if len(self.extra) % 2:
            raise UserError(f"Options come in pairs KEY VALUE; '{self.extra[-1]}' has no value.")

    def dataset_yaml(self, data: str) -> Path:
        return pick(self.configs / "datasets", data, "data set")

    def dataset_name(self, data: str) -> str:
        tree = yaml.safe_load(self.dataset_yaml(data).read_text(encoding="utf-8")) or {}
        return str(tree.get("DATASET", {}).get("NAME", data))

    def config_of(self, data: str) -> str:
        return self.config or ("tiny" if data in EMBEDDED else "vit_b16")

    def trainer_yaml(self, trainer: str, data: str) -> Path:
        """`<config>_<protocol>.yaml` where there is one: a setting may be published for one protocol."""
        folder = self.configs / "trainers"
        if not (folder / trainer).is_dir():
            known = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
            raise UserError(f"Unknown trainer '{trainer}'.{nearest(trainer, known)}")
        config = self.config_of(data)
        named = folder / trainer / f"{config}_{self.protocol}.yaml"
        return named if named.is_file() else pick(folder / trainer, config, f"config of {trainer}")

    def job(
        self,
        folder: Path,
        data: str,
        trainer: str,
        seed: int,
        shots: int,
        classes: str,
        after: Job | None = None,
        more: dict[str, str] | None = None,
    ) -> Job:
        """more: options of this job alone."""
        config = self.trainer_yaml(trainer, data)
        flags = {
            "--root": self.data,
            "--seed": str(seed),
            "--trainer": trainer,
            "--dataset-config-file": str(self.dataset_yaml(data)),
            "--config-file": str(config),
            "--output-dir": str(folder),
        }
        arguments = [part for pair in flags.items() for part in pair if pair[1]]
        if after:
            arguments += ["--eval-only", "--model-dir", str(after.folder)]
        pairs = {"DATASET.NUM_SHOTS": shots, "DATASET.SUBSAMPLE_CLASSES": classes, "TEST.SAVE_PREDICTIONS": True}
        arguments += [str(part) for pair in (pairs | (more or {})).items() for part in pair] + list(self.extra)
        fields = dict(trainer=trainer, dataset=self.dataset_name(data), config=config.stem)
        return Job(folder, arguments, fields | dict(classes=classes, shots=shots, seed=seed), after, self.point)

    def each(self, datasets: Sequence[str]) -> Iterator[tuple[str, str, str, int, int]]:
        """(data set, trainer, config, shots, seed)."""
        for data in datasets:
            for trainer in self.trainers:
                for shots in self.shots:
                    for seed in self.seeds:
                        yield data, trainer, self.trainer_yaml(trainer, data).stem, shots, seed


def base2new(plan: Plan) -> list[Job]:
    jobs = []
    for data, trainer, config, shots, seed in plan.each(plan.datasets):
        tail = Path(data, f"shots_{shots}", trainer, config, f"seed{seed}")
        root = plan.output / "base2new"
        base = plan.job(root / "train_base" / tail, data, trainer, seed, shots, "base")
        jobs += [base, plan.job(root / "test_new" / tail, data, trainer, seed, shots, "new", after=base)]
    return jobs


def few_shot(plan: Plan, datasets: Sequence[str] | None = None) -> list[Job]:
    jobs = []
    for data, trainer, config, shots, seed in plan.each(datasets or plan.datasets):
        setting = f"{config}_full" if shots == -1 else f"{config}_{shots}shots"
        folder = plan.output / data / trainer / setting / f"seed{seed}"
        jobs.append(plan.job(folder, data, trainer, seed, shots, "all"))
    return jobs


def transferred(plan: Plan, place: Path, more: dict[str, str] | None = None) -> list[Job]:
    """The first data set is the source; its runs are those of few_shot.  place, more: of the runs on the targets."""
    source, *targets = plan.datasets
    kept = [pair for pair in zip(plan.extra[::2], plan.extra[1::2], strict=True) if pair[0] not in OF_TARGETS]
    jobs = few_shot(replace(plan, extra=[word for pair in kept for word in pair]), [source])
    trained = {tuple(job.fields[k] for k in ("trainer", "shots", "seed")): job for job in jobs}
    for data, trainer, config, shots, seed in plan.each(targets):
        folder = place / source / trainer / f"{config}_{shots}shots" / data / f"seed{seed}"
        jobs.append(plan.job(folder, data, trainer, seed, shots, "all", after=trained[trainer, shots, seed], more=more))
    return jobs


def cross_dataset(plan: Plan) -> list[Job]:
    """Every target in its own classes, which may be others than the source's."""
    return transferred(plan, plan.output / "evaluation")


def domain_generalisation(plan: Plan) -> list[Job]:
    """Every target in the source's classes: the same findings, seen in other hospitals."""
    source = {"DATASET.CLASSES_OF": plan.dataset_name(plan.datasets[0])}
    return transferred(plan, plan.output / "domain_generalisation", source)


OF_TARGETS = ("DATASET.CLASS_MAP",)  # options that the source's own runs have no use for
PROTOCOLS = {
    "base2new": base2new,
    "few_shot": few_shot,
    "full": few_shot,
    "cross_dataset": cross_dataset,
    "domain_generalisation": domain_generalisation,
}
SHOTS = {
    "base2new": [16],
    "few_shot": [1, 2, 4, 8, 16],
    "full": [-1],
    "cross_dataset": [16],
    "domain_generalisation": [16],
}
EMBEDDED = ("phantoms", "phantoms_b")
