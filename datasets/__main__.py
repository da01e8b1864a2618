"""Data sets from the original download to a checked split.

cilmp data list    [NAME] [--root DATA [--on-disk]]
cilmp data prepare NAME --source DOWNLOAD --root DATA [--split official|reference|grouped]
cilmp data check   NAME --root DATA [--against NAME ...] [--json]
cilmp data show    NAME --root DATA [--output SHEET.png]
"""

from __future__ import annotations

import argparse
import inspect
import json
from pathlib import Path

import yaml
from tabulate import tabulate

import cilmp.datasets  # noqa: F401  registers the data sets
from cilmp import yamls
from cilmp.datasets import splits
from cilmp.datasets.base import SplitDataset
from cilmp.errors import UserError, brief, exit_on_user_error, nearest
from dassl.data.datasets import DATASET_REGISTRY


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="cilmp data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list|prepare|check|show")

    def verb(name: str, text: str, named: bool = True, rooted: bool = True) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        if named:
            sub.add_argument("name", help="registered name, as `list` shows it; FOLDER for your own images")
        sub.add_argument("--root", default="", required=rooted, help="folder that holds the data sets")
        return sub

    add = verb(
        "list", "all data sets and what is on disk; with a name its card", named=False, rooted=False
    ).add_argument
    add("name", nargs="?", default="", help="registered name: print all that is known of it")
    add("--on-disk", action="store_true", help="only what lies below --root, by its names in configs/datasets")

    add = verb("prepare", "images and split file from an original download").add_argument
    add("--source", required=True, help="the download: a folder, a zip, or an .npz of MedMNIST; it is only read")
    add("--split", default="", help="official, reference or grouped (default: official where one is published)")
    add("--seed", type=int, default=1, help="of the reference and grouped splits")
    add("--ratio", default="", help="train/val/test of a grouped split in tenths, such as 70/10/20")
    add("--copy", action="store_true", help="copy images; without it those that lie unpacked are linked")
    add("--size", type=int, default=0, help="MedMNIST: pixels a side of the file to take (default: the largest)")
    add("--encoding", default="", help="of tables that are not UTF-8, such as cp1252 or gb18030")
    add("--table", default="", help="FOLDER: CSV or XLSX with an image a row, instead of a folder a class")
    add("--path", default="", help="its column of image paths, or of file names or ids (default: path)")
    add("--label", default="", help="its column of class names (default: label)")
    add("--group", default="", help="its column of groups, such as patients (default: group, if there is one)")

    add = verb("check", "counts, damage, label order, and whatever lies in two splits; exit code 1 if any").add_argument
    add("--split-file", default="", help="another split file than the data set's own")
    add("--against", nargs="+", default=[], metavar="NAME", help="instead: its training images in other sets' tests")
    add("--json", action="store_true", help="the whole report as JSON")

    add = verb("show", "a contact sheet of examples").add_argument
    add("--output", default="", help="PNG to write (default: <NAME>.png here)")
    add("--each", type=int, default=4, help="examples a class and split")
    return parser.parse_args()


def find(name: str) -> type[SplitDataset]:
    known = DATASET_REGISTRY.registered_names()
    if name not in known:
        raise UserError(f"Unknown data set '{name}'.{nearest(name, known)}")
    return DATASET_REGISTRY.get(name)


def on_disk(dataset: type[SplitDataset], root: str) -> str:
    """train/val/test of the split file below the root; '' where there is none."""
    for layout in dataset.layouts():
        path = Path(root, layout.dataset_dir, layout.split).expanduser()
        if path.is_file():
            try:
                split = splits.read(path)
            except UserError:
                return "cannot be read: see check"
            return "/".join(str(len(split.get(name, ()))) for name in splits.NAMES)
    return ""


def list_all(root: str) -> None:
    rows = []
    for name in sorted(DATASET_REGISTRY.registered_names(), key=str.lower):
        dataset = DATASET_REGISTRY.get(name)
        card = getattr(dataset, "card", None)
        if card is not None:
            row = [name, card.modality, card.organ, len(dataset.classnames) or "", card.total or "", card.licence]
            rows.append([*row, on_disk(dataset, root) if root else ""])
    headers = ("name", "modality", "organ", "classes", "images", "licence", "on disk (train/val/test)")
    print(tabulate(rows, headers, maxcolwidths=[None, 28, 16, None, None, 26, None]))


def list_on_disk(root: str) -> None:
    """For scripts: a name of configs/datasets on each line."""
    for path in sorted((yamls.folder() / "datasets").glob("*.yaml")):
        name = yaml.safe_load(path.read_text(encoding="utf-8"))["DATASET"]["NAME"]
        if root and on_disk(DATASET_REGISTRY.get(name), root):
            print(path.stem)


def describe(dataset: type[SplitDataset]) -> str:
    """The card."""
    facts = [("name", dataset.__name__), ("classes", "; ".join(dataset.classnames))]
    for layout in dataset.layouts():
        facts.append(("on disk", f"<root>/{Path(layout.dataset_dir, layout.split).as_posix()}"))
    for key, value in vars(dataset.card).items():
        if key == "images":
            value = "; ".join(f"{name} {n}" for name, n in value.items())
        elif key == "official":
            value = "/".join(map(str, value)) if value else "no published split"
        facts += [(key, line) for line in value] if key == "faults" else [(key, value or "not known")]
    return tabulate(facts, tablefmt="plain", maxcolwidths=[None, 100])


def main() -> int:
    args = parse_args()
    if args.verb == "list" and not args.name:
        (list_on_disk if args.on_disk else list_all)(args.root)
        return 0
    dataset = find(args.name)
    if args.verb == "list":
        print(describe(dataset))
        return 0
    if args.verb == "prepare":
        from cilmp.datasets.prepare.program import prepare

        options = {key: getattr(args, key) for key in ("size", "table", "path", "label", "group") if getattr(args, key)}
        unknown = [f"--{key}" for key in options if key not in inspect.signature(dataset.records).parameters]
        if unknown:
            raise UserError(f"{args.name} takes no {brief(unknown)}: leave it out.")
        ratio = parse_ratio(args.ratio) if args.ratio else None
        prepare(dataset, args.source, args.root, args.split, args.seed, ratio, args.copy, options, args.encoding)
    elif args.verb == "check":
        from cilmp.datasets.prepare import across, check

        others = [find(name) for name in args.against]
        if dataset in others:
            raise UserError(f"--against {args.name} is the set itself: leave --against out.")
        by = across if others else check
        report = by.check(dataset, args.root, args.split_file, *([others] if others else []))
        print(json.dumps(report, indent=1, ensure_ascii=False) if args.json else by.text(report))
        return int(by.failed(report))
    else:
        from cilmp.datasets.prepare.show import show

        if args.each < 1:
            raise UserError(f"--each is {args.each}: give 1 or more.")
        print(show(dataset, args.root, Path(args.output or f"{args.name}.png"), args.each))
    return 0


def parse_ratio(text: str) -> tuple[int, int, int]:
    try:
        train, val, test = (int(part) for part in text.split("/"))
    except ValueError:
        train = val = test = 0
    if min(train, test) < 1 or val < 0:
        raise UserError(f"--ratio {text} is not train/val/test, such as 70/10/20.")
    return train, val, test


if __name__ == "__main__":
    exit_on_user_error(main)
