from __future__ import annotations

import re

from cilmp.datasets.base import SplitDataset
from cilmp.datasets.card import Card
from cilmp.datasets.prepare.names import Names
from cilmp.datasets.prepare.records import Record, column
from cilmp.datasets.prepare.tree import Tree
from dassl.data.datasets import DATASET_REGISTRY

LETTERS = "NDGCAHMO"  # the columns of the tables, in the order of ODIR's class names


def eyes(tree: Tree) -> list[tuple[str, str, str]]:
    """(image, letter, patient) of each eye with one label of its own.

    The columns N to O are a patient's: patient 0 has C = 1 while its right eye is normal.  full_df.csv states a label
    an eye.  With the original sheet alone an eye is normal if its keywords say so, else it has its patient's one
    disease; eyes of patients with several diseases are left out.
    """
    names = Names(tree, prefer="preprocessed_images/")  # Kaggle's copy holds the cropped images beside the originals
    if (table := tree.find("full_df.csv")) is not None:
        rows = [(column(r, "filename"), re.sub("[^A-Z]", "", column(r, "labels")), r) for r in tree.table(table)]
    else:
        rows = []
        for r in tree.table(tree.need("ODIR-5K_Training_Annotations*.xlsx", "*Annotations*.xlsx")):
            ill = [letter for letter in LETTERS[1:] if float(column(r, letter) or 0)]
            for side in ("Left", "Right"):
                normal = column(r, f"{side}-Diagnostic Keywords").lower() == "normal fundus"
                rows.append((column(r, f"{side}-Fundus"), "N" if normal else "".join(ill), r))
    found = []
    for file, letter, row in rows:
        one = len(letter) == 1 and letter in LETTERS
        if one and (member := names.find(file.rsplit(".", 1)[0])) is not None:
            found.append((member, letter, f"patient {column(row, 'ID')}"))
    names.tell("the table")
    return found


class Ocular(SplitDataset):
    group_pattern = r"(?:^|/)(\d+)_(?:left|right)"
    letters = LETTERS

    @classmethod
    def records(cls, tree: Tree) -> list[Record]:
        names = dict(zip(cls.letters, cls.classnames, strict=True))
        return [Record(member, names[letter], patient) for member, letter, patient in eyes(tree) if letter in names]


def card(images: dict[str, int]) -> Card:
    return Card(
        modality="colour fundus photograph",
        organ="retina",
        source="odir2019.grand-challenge.org; kaggle.com/datasets/andrewmvd/ocular-disease-recognition-odir5k",
        citation="Li et al., A benchmark of ocular disease intelligent recognition (OIA-ODIR), Bench 2020",
        labels="by readers, per eye in keywords, per patient in the columns N to O; here per eye, "
        "single-label eyes only",
        images=images,
        group="patient: ID, the number that starts the file name",
        faults=(
            "the columns N to O are a patient's and multi-label; 888 of 3034 two-eye patients differ between the eyes",
            "110 images carry quality keywords (low image quality, lens dust, no fundus image)",
            "edited copies of full_df.csv circulate, with renamed columns, half the rows or augmented images",
            "labels of the challenge's test images are not public",
        ),
    )


@DATASET_REGISTRY.register()
class ODIR(Ocular):
    dataset_dir, split, images = "odir", "odir.json", ""
    classnames = (
        "normal",
        "diabetes",
        "glaucoma",
        "cataract",
        "age related macular degeneration",
        "hypertension",
        "pathological myopia",
        "other diseases or abnormalities",
    )
    card = card(dict(zip(classnames, (2873, 1608, 284, 293, 266, 128, 232, 708), strict=True)))


@DATASET_REGISTRY.register()
class ODIR2(Ocular):
    """How the CILMP paper chose its images is not published: here all normal and cataract eyes."""

    dataset_dir, split, images = "odir_simple", "odir2.json", ""
    classnames = ("normal", "cataract")
    letters = "NC"
    card = card({"normal": 2873, "cataract": 293})
