from __future__ import annotations

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.records import Record, by_folder
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class COVID_19(SplitDataset):
    dataset_dir, split, images = "COVID_19", "split_COVID_19.json", "COVID_19"
    classnames = ("covid lungs", "lung opacity lungs", "viral pneumonia lungs", "normal lungs")
    matches = {
        "CPN_X_RAY": {"normal lungs": "normal", "covid lungs": "covid", "viral pneumonia lungs": "pneumonia"},
        "PNEUMONIA2": {"normal lungs": "normal", "viral pneumonia lungs": "pneumonia"},
        "PNEUMONIA3": {"normal lungs": "normal", "viral pneumonia lungs": "virus pneumonia"},
    }
    reference = dict(
        zip(classnames, ((1808, 723, 1085), (3006, 1202, 1804), (672, 269, 404), (5096, 2038, 3058)), strict=True)
    )
    card = Card(
        modality="chest X-ray, frontal",
        organ="lung",
        source="COVID-19 Radiography Database, kaggle.com/datasets/tawsifurrahman/covid19-radiography-database",
        citation="Chowdhury et al., Can AI help in screening viral and COVID-19 pneumonia?, IEEE Access "
        "8:132665, 2020; "
        "Rahman et al., Computers in Biology and Medicine 132:104319, 2021",
        labels="those of the public sets it was collected from",
        images=dict(zip(classnames, (3616, 6012, 1345, 10192), strict=True)),
        group="none given; similar images",
        faults=(
            "the class is confounded with source and age: viral pneumonia is all paediatric (reviews PMC8479314, "
            "PMC8545228, arXiv 2102.04300)",
            "viral pneumonia and 1341 of the normal lungs are Kermany's: no other hospital than that of PNEUMONIA2 and "
            "PNEUMONIA3 for these (`data check --against` counts them)",
            "BiomedCoOp's table calls it COVID-QU-Ex, which is another set",
        ),
    )

    @classmethod
    def records(cls, tree: Tree) -> list[Record]:
        folders = ("COVID", "Lung_Opacity", "Viral Pneumonia", "Normal")
        return by_folder(tree, dict(zip(folders, cls.classnames, strict=True)), skip="/masks/")
