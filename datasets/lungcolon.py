from __future__ import annotations

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.records import Record, by_folder, column
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class LungColon(SplitDataset):
    dataset_dir, split, images = "LungColon", "split_LungColon.json", "LungColon"
    classnames = (
        "colon adenocarcinoma",
        "colon benign tissue",
        "lung adenocarcinoma",
        "lung benign tissue",
        "lung squamous cell carcinoma",
    )
    reference = {name: (2500, 1000, 1500) for name in classnames}
    card = Card(
        modality="H&E histopathology",
        organ="lung and colon",
        source="LC25000, github.com/tampapath/lung_colon_image_set",
        citation="Borkowski et al., Lung and colon cancer histopathological image dataset (LC25000), arXiv "
        "1912.12142, 2019",
        labels="by pathologists",
        images={name: 5000 for name in classnames},
        group="copies of one original: put lc25000_image_groups.csv of github.com/GeorgeBatch/LC25000-clean beside the "
        "download; without it similar images, which miss rotated copies",
        faults=(
            "the 5000 images of a class are rotations and flips of 250 originals: in a random split 99 % of the test "
            "images have a copy in training, and near-perfect accuracy is an artefact",
        ),
    )

    @classmethod
    def records(cls, tree: Tree) -> list[Record]:
        folders = ("colon_aca", "colon_n", "lung_aca", "lung_n", "lung_scc")
        records = by_folder(tree, dict(zip(folders, cls.classnames, strict=True)))
        if (table := tree.find("lc25000_image_groups.csv")) is not None:
            groups = {column(row, "filename"): column(row, "group_id") for row in tree.table(table)}
            for record in records:
                record.group = groups.get(record.filename, "")
        else:
            print("No lc25000_image_groups.csv in the download: rotated copies of one original will not be recognised")
        return records
