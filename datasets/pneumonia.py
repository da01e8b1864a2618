from __future__ import annotations

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.records import Record, by_folder, by_npz
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY


class Kermany(SplitDataset):
    """Chest X-rays of children of one to five years; two and three classes of the same images."""

    dataset_dir, images = "pneumonia", ""
    group_pattern = r"(person\d+)_|((?:NORMAL2-)?IM-\d+)-"

    @classmethod
    def kind(cls, classname: str, file: str) -> str:
        return classname

    @classmethod
    def records(cls, tree: Tree, size: int = 0) -> list[Record]:
        """chest_xray/{train,val,test}/{NORMAL,PNEUMONIA}; for two classes also MedMNIST's pneumoniamnist.npz."""
        if tree.find("pneumoniamnist*.npz") and len(cls.classnames) == 2:
            return by_npz(tree, "pneumoniamnist", cls.classnames, size)
        folders = {"NORMAL": "normal", "PNEUMONIA": "pneumonia"}
        return by_folder(tree, folders, official=True, classify=cls.kind)


def card(images: dict[str, int]) -> Card:
    return Card(
        modality="chest X-ray, frontal, paediatric",
        organ="lung",
        source="Mendeley Data rscbjbr9sj; kaggle.com/datasets/paultimothymooney/chest-xray-pneumonia; MedMNIST's "
        "pneumoniamnist.npz",
        citation="Kermany et al., Identifying medical diagnoses and treatable diseases by image-based deep "
        "learning, Cell "
        "172(5):1122-1131, 2018",
        licence="CC BY 4.0",
        labels="two physicians, the test images checked by a third; bacterial or viral is read from the file name",
        images=images,
        official=(5216, 16, 624),
        group="person<id> or [NORMAL2-]IM-<id> in the file name",
        faults=(
            "16 validation images are too few to select by (MedMNIST's form has 4708/524/624)",
            "74 % of the training and 62.5 % of the test images show pneumonia",
            "whether person numbers restart in the test folder is not known",
        ),
    )


@DATASET_REGISTRY.register()
class PNEUMONIA2(Kermany):
    split = "pneumonia2.json"
    classnames = ("normal", "pneumonia")
    card = card({"normal": 1583, "pneumonia": 4273})


@DATASET_REGISTRY.register()
class PNEUMONIA3(Kermany):
    split = "pneumonia3.json"
    classnames = ("normal", "bacteria pneumonia", "virus pneumonia")
    matches = {
        "CPN_X_RAY": {"bacteria pneumonia": "pneumonia", "virus pneumonia": "pneumonia"},
        "COVID_19": {"normal": "normal lungs", "virus pneumonia": "viral pneumonia lungs"},
    }
    card = card({"normal": 1583, "bacteria pneumonia": 2780, "virus pneumonia": 1493})

    @classmethod
    def kind(cls, classname: str, file: str) -> str:
        if classname == "normal":
            return classname
        return "virus pneumonia" if "virus" in file.lower() else "bacteria pneumonia"
