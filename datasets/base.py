"""A data set is a declaration: a folder, a split file, its class names and a card.

@DATASET_REGISTRY.register()
class BUSI(SplitDataset):
    dataset_dir, split, classnames = "busi", "busi.json", ("normal", "malignant", "benign")
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cilmp.datasets import fewshot, matching, splits
from cilmp.datasets.card import Card
from cilmp.errors import UserError, brief
from cilmp.images import require_readable
from dassl.data.datasets import DatasetBase, Datum

if TYPE_CHECKING:
    from cilmp.datasets.prepare.records import Record
    from cilmp.datasets.prepare.tree import Tree


class Layout(NamedTuple):
    """Where a family of code bases keeps a data set below the root, and its class names in label order."""

    dataset_dir: str
    split: str
    images: str  # image folder inside dataset_dir; "" = dataset_dir itself
    classnames: tuple[str, ...]


class SplitDataset(DatasetBase):
    """Reads <ROOT>/<dataset_dir>/<split> with its images below <ROOT>/<dataset_dir>/<images>.

    A declaration's class names are what `check` holds a split file to; a model sees those of the split file, as
    `classnames` of the instance.  Options, all under cfg.DATASET: NUM_SHOTS (-1 = all), FEWSHOT, SUBSAMPLE_CLASSES,
    BASE_CLASSES, HELD_BACK, SPLIT_FILE, CLASSES_OF, CLASS_MAP.  The images drawn depend on the split file, these
    options and cfg.SEED alone.
    """

    dataset_dir, split, images = "", "", ""
    classnames: tuple[str, ...] | list[str] = ()
    also: tuple[Layout, ...] = ()  # other layouts that go by the same registered name
    card: Card | None = None
    representations = ""  # stem of its file of LLM states; "" = the name in lower case
    graded = False  # classes in order of severity: quadratic kappa is reported
    # {source: {class here: class there}} of sets from elsewhere that show the same; classes of one name need no entry
    matches: dict[str, dict[str, str]] = {}
    # for `prepare` and `check`:
    group_pattern = ""  # finds in a path what must stay in one split: a patient, a slide
    similar = False  # group similar images too, because the pattern does not identify all
    reference: (
        dict[str, tuple[int, int, int]] | tuple[int, int, int]
    ) = ()  # a reference's train, val, test: a class or all
    reference_pool = ""  # the part of the published split that the reference divided; "" = all of it

    def __init__(self, cfg):
        options = cfg.DATASET
        folder = self.folder(options.ROOT)
        path = self.split_path(folder, options.get("SPLIT_FILE", ""))
        split = splits.read(path)
        names = splits.classnames(split, path)
        images = self.image_folder(folder, split)
        absent = splits.missing(images, (item.path for items in split.values() for item in items))
        if absent:
            total = sum(map(len, split.values()))
            raise UserError(
                f"{len(absent)} of {total} images of {path} are missing below {images}: {brief(absent, 3)}. "
                "Fetch them again or check --root."
            )
        held = options.get("HELD_BACK", 0.0)
        if "val" not in split and not held:
            print(f"{path.name} has no list 'val': no validation set")
        if options.get("CLASSES_OF", ""):
            split, names = matching.under(type(self), split, names, options)
        split = fewshot.few(split, options.NUM_SHOTS, options.get("FEWSHOT", "balanced"), cfg.SEED)
        if held:
            split = fewshot.held_back(split, held, cfg.SEED, str(path))
        which, base = options.get("SUBSAMPLE_CLASSES", "all"), options.get("BASE_CLASSES", ())
        labels = fewshot.half(names, which, base, type(self).__name__)
        split = fewshot.keep(split, labels)
        for name in ("train", "test"):
            if not split[name]:
                raise UserError(f"{path}: no {name} image of the classes in use ({which}).")
        require_readable([str(images / item.path) for items in split.values() for item in items])
        train, val, test = (
            [Datum(str(images / item.path), item.label, classname=item.classname) for item in split.get(name, ())]
            for name in splits.NAMES
        )
        super().__init__(train_x=train, val=val or None, test=test)
        # from the whole split: an imbalanced draw may lack a class
        self.classnames = [names[label] for label in labels]
        self._classnames, self._num_classes = self.classnames, len(labels)
        self._lab2cname = dict(enumerate(self.classnames))

    @classmethod
    def layouts(cls) -> tuple[Layout, ...]:
        return (Layout(cls.dataset_dir, cls.split, cls.images, tuple(cls.classnames)), *cls.also)

    @classmethod
    def records(cls, tree: Tree) -> list[Record]:
        """What an original download says of its images: the recipe of `prepare`."""
        raise UserError(f"{cls.__name__} has no recipe: it is not made from a download.")

    @classmethod
    def group_of(cls, path: str) -> str:
        """The group that a path names, or ''."""
        match = re.search(cls.group_pattern, path) if cls.group_pattern else None
        return next(filter(None, match.groups()), "") if match else ""

    def folder(self, root: str) -> Path:
        """Where this data set lies; the first of its layouts that is there.  Override to put it elsewhere."""
        if not root:
            raise UserError(f"No data folder given for {type(self).__name__}: use --root (or DATASET.ROOT).")
        base = Path(root).expanduser()
        if not os.path.isdir(base):  # unlike Path's, False where a folder above may not be entered
            raise UserError(f"No data folder at {base}: check --root (or DATASET.ROOT).")
        layouts = self.layouts()
        there = [layout for layout in layouts if os.path.isfile(base / layout.dataset_dir / layout.split)]
        there = there or [layout for layout in layouts if os.path.isdir(base / layout.dataset_dir)]
        if not there:
            names = " or ".join(f"{layout.dataset_dir}/" for layout in layouts)
            raise UserError(
                f"{type(self).__name__} is not below {base.resolve()}: there is no {names} there. Check --root, or "
                f"make it with {self.command(root)}"
            )
        return base / there[0].dataset_dir

    @classmethod
    def located(cls, root: str) -> Path:
        """`folder` without reading the data set."""
        return cls.__new__(cls).folder(root)

    @classmethod
    def split_path(cls, folder: Path, given: str = "") -> Path:
        """The user's split file (looked for in the data set's folder, then from here), or the data set's own."""
        if given:
            places = [folder / given, Path(given).expanduser()]
            for place in places:
                if place.is_file():
                    return place
            raise UserError(f"No split file at {' or '.join(map(str, places))}: check DATASET.SPLIT_FILE.")
        names = dict.fromkeys(layout.split for layout in cls.layouts())
        for name in names:
            if (folder / name).is_file():
                return folder / name
        raise UserError(
            f"No split file {' or '.join(names)} in {folder}: copy it there, name one by DATASET.SPLIT_FILE, or make "
            f"one with {cls.command(folder if not cls.dataset_dir else folder.parent)}"
        )

    @classmethod
    def split_file(cls, cfg) -> Path | None:
        """The split file a run with this configuration reads; None where there is none yet."""
        given = cfg.DATASET.get("SPLIT_FILE", "")
        for layout in cls.layouts():
            folder = Path(cfg.DATASET.ROOT).expanduser() / layout.dataset_dir
            for path in (folder / given, Path(given).expanduser()) if given else (folder / layout.split,):
                if path.is_file():
                    return path
        return None

    @classmethod
    def command(cls, root: str | Path) -> str:
        """What makes this data set."""
        words = ["python", "-m", "cilmp.datasets", "prepare", cls.__name__, "--source", "DOWNLOAD", "--root", str(root)]
        return shlex.join(words)

    @classmethod
    def image_folder(cls, folder: Path, split: splits.Split) -> Path:
        """The folder that holds the split's images, in whichever layout."""
        first = split["train"][0].path
        places = list(
            dict.fromkeys(folder / images for images in [*(x.images for x in cls.layouts()), folder.name, ""])
        )
        return next((place for place in places if (place / first).is_file()), places[0])
