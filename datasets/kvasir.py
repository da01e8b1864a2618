from __future__ import annotations

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.records import Record, by_folder
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY


class Endoscopy(SplitDataset):
    group_pattern = r"([0-9a-f]{8}-[0-9a-f-]{27})"
    similar = True  # the identifier joins only a few frames of one video

    @classmethod
    def records(cls, tree: Tree) -> list[Record]:
        """A folder a class; one copy in circulation nests each class folder twice."""
        return by_folder(tree, {name.replace(" ", "-"): name for name in KVASIR.classnames}, classify=cls.named)

    @classmethod
    def named(cls, classname: str, file: str) -> str:
        return cls.classnames[KVASIR.classnames.index(classname)]


def card(classnames: tuple[str, ...], version: str, each: int, source: str) -> Card:
    return Card(
        modality="endoscopy",
        organ="gastrointestinal tract",
        source=source,
        citation="Pogorelov et al., Kvasir: a multi-class image dataset for computer aided gastrointestinal disease "
        "detection, MMSys 2017",
        licence="research and education",
        labels=f"by endoscopists of Vestre Viken, Norway; version {version}",
        images={name: each for name in classnames},
        group="the identifier that starts some file names; similar images",
        faults=("no patient or video is identified: neighbouring frames can lie in two splits",),
    )


@DATASET_REGISTRY.register()
class KVASIR(Endoscopy):
    dataset_dir, split, images = "kvasir", "kvasir.json", ""
    classnames = (
        "dyed lifted polyps",
        "dyed resection margins",
        "esophagitis",
        "normal cecum",
        "normal pylorus",
        "normal z-line",
        "polyps",
        "ulcerative colitis",
    )
    reference = {name: (800, 100, 100) for name in classnames}
    card = card(classnames, "2", 1000, "datasets.simula.no/kvasir, kvasir-dataset-v2.zip")


@DATASET_REGISTRY.register()
class Kvasir(Endoscopy):
    """Not KVASIR: BiomedCoOp's, of version 1's 4000 images."""

    dataset_dir, split, images = "Kvasir", "split_Kvasir.json", "Kvasir"
    representations = "kvasir_biomedcoop"
    classnames = (*KVASIR.classnames[:5], "normal z line", *KVASIR.classnames[6:])
    reference = {name: (250, 100, 150) for name in classnames}
    card = card(classnames, "1", 500, "datasets.simula.no/kvasir, kvasir-dataset.zip")
