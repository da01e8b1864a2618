"""A trainer whose method reads sentences about each class, as a language model writes them."""

from __future__ import annotations

from cilmp.errors import UserError
from cilmp.files import sha256
from cilmp.llm import sentences
from cilmp.trainers.engine.config import classes_of
from cilmp.trainers.method import Task
from dassl.data.datasets import DATASET_REGISTRY


def stem_of(dataset: str) -> str:
    """What a data set states as the name of its file of knowledge."""
    known = dataset in DATASET_REGISTRY.registered_names()
    return getattr(DATASET_REGISTRY.get(dataset), "representations", "") if known else ""


class Informed:
    """Mixin before CLIPTrainer; the trainer's options hold SENTENCES (a file, or a folder of <data set>.json; empty:
    shipped, or in sentences/) and N_PROMPTS (sentences of a class; 0 for none)."""

    @classmethod
    def made_from(cls, cfg) -> dict[str, str]:
        """The hash of the file of sentences, where it is there."""
        options, dataset = cfg.TRAINER[cls.__name__.upper()], classes_of(cfg)
        try:
            path = sentences.locate(options.SENTENCES, dataset, stem_of(dataset))
        except UserError:  # told when it is read
            return {}
        return {"knowledge": sha256(path)} if options.N_PROMPTS else {}

    def task(self) -> Task:
        if not self.options.N_PROMPTS:
            return super().task()
        names, dataset = list(self.classnames), classes_of(self.cfg)
        path = sentences.locate(self.options.SENTENCES, dataset, stem_of(dataset))
        said = sentences.load(path, names, self.options.N_PROMPTS, dataset)
        self.knowledge = sentences.read(path).made | {"source": path.name, "sha256": sha256(path)}
        return Task(names, dataset, sentences=said)
