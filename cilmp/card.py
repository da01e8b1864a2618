"""A model card of a finished run: README.md with the YAML head that hubs read, from its record alone.

cilmp card output/busi/CILMP/vit_b16_16shots/seed1 --license cc-by-4.0
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from cilmp.errors import UserError, exit_on_user_error
from cilmp.files import write_text
from cilmp.results import records
from cilmp.results.portable import portable
from cilmp.results.runs import protocol_of, spell
from cilmp.results.tables import Listing, markdown

NAME = "README.md"
MARK = "\n<!-- cilmp card "
UNKNOWN = "unknown"  # a licence, in the words of hubs
LICENSE = "the licence, in the hub's words: mit, cc-by-4.0, other; the backbone and the data have theirs"
ON_HUBS = {"macro_f1": "f1", "auroc": "roc_auc"}  # their names of our metrics, where these differ
LIMITS = """\
- Not for clinical use: no medical device, and not tested as one.
- It answers with one of the classes above, whatever it is shown; its probabilities are not calibrated.
- The numbers are of one seed and one test split. Images of other hospitals, scanners and patients may give lower ones.
- The backbone and the data set come with licences of their own."""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="cilmp card", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="folder of the finished run")
    add("--out", type=Path, help=f"file to write; default: {NAME} in the run's folder")
    add("--license", default=UNKNOWN, help=LICENSE)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    text = card(records.read(args.run), args.license)
    if not args.out and changed(args.run / NAME):
        raise UserError(f"{args.run / NAME} is not as `cilmp card` writes it: give --out FILE, or move it away.")
    print(write_text(args.out or args.run / NAME, text, mend="check --out"))


def card(record: dict, license: str = UNKNOWN) -> str:
    """The whole text.  UserError for a licence that is none of a hub's words."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", license):
        raise UserError(f"--license is '{license}': hubs know words such as mit, cc-by-4.0, other and {UNKNOWN}.")
    body = body_of(record := portable(record))
    return signed(f"---\n{yaml.safe_dump(head(record, license), sort_keys=False, allow_unicode=True)}---\n\n{body}")


def signed(text: str) -> str:
    """With a last line by which a card is known again; a reader does not see it."""
    return f"{text}{MARK}{hashlib.sha256(text.encode()).hexdigest()} -->\n"


def changed(path: Path) -> bool:
    """Whether there is a file that is no card, or one that somebody went on writing."""
    if not path.exists():
        return False
    try:
        there = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        there = ""
    return there != signed(there.rpartition(MARK)[0])


def head(record: dict, license: str) -> dict:
    """What hubs read; a metric that does not exist is left out."""
    results = [
        {"type": ON_HUBS.get(name, name), "value": value, "name": f"{name}, %"}
        for name, value in record["metrics"].items()
        if value is not None
    ]
    data = {"type": record["dataset"].lower(), "name": record["dataset"], "split": record.get("split") or "test"}
    task = {"type": "image-classification", "name": "Image classification"}
    return {
        "license": license,
        "library_name": "cilmp",
        "pipeline_tag": "image-classification",
        "tags": ["medical", "clip", record["trainer"].lower(), *filter(None, [record.get("method", {}).get("kind")])],
        "datasets": [record["dataset"].lower()],
        "metrics": [result["type"] for result in results],
        "model-index": [{"name": title(record), "results": [{"task": task, "dataset": data, "metrics": results}]}],
    }


def title(record: dict) -> str:
    return f"{record['trainer']} on {record['dataset']}"


def body_of(record: dict) -> str:
    kind, recall = record.get("method", {}).get("kind"), record.get("per_class", {})
    facts = {
        "method": record["trainer"] + (f", {kind}, {record['method'].get('year')}" if kind else ""),
        "backbone": record.get("backbone", ""),
        "data set": f"{record['dataset']}, {record.get('split') or 'test'} split, {record['classes']} classes",
        "protocol": protocol_of(record),
        "training images a class": spell("shots", record["shots"]),
        "seed": record["seed"],
    }
    made = {f"SHA-256 of the {name}": value for name, value in record.get("made_from", {}).items() if value}
    if knowledge := record.get("knowledge"):
        made["knowledge"] = ", ".join(filter(None, (knowledge.get("source"), knowledge.get("model"))))
    made |= {name: value for name, value in record.get("versions", {}).items() if value}
    made |= {name: record[name] for name in ("commit", "finished") if record.get(name)}
    return f"""\
# {markdown(title(record))}

{listing(["", ""], facts)}
## Metrics

{listing(["metric", "%"], record["metrics"])}
{listing(["class", "recall, %"], recall)}
## Made from

{listing(["", ""], made)}
## Use

`cilmp hub pull` fetches these files into a folder; then

```python
import cilmp

model = cilmp.load("FOLDER")
model("image.png")  # {{class: probability}}
```

or `cilmp predict --model-dir FOLDER images/`. The prompts are safetensors; nothing of them is run.

## Limits

{LIMITS}
"""


def listing(columns: Sequence[str], values: dict) -> str:
    rows = [((str(name),), [float("nan") if v is None else markdown(v) if isinstance(v, str) else v])
            for name, v in values.items()]  # fmt: skip
    table = Listing("", columns[:1], columns[1:], rows).render("md")
    return table.split("\n", 2)[2].rstrip() + "\n"  # without a title


if __name__ == "__main__":
    exit_on_user_error(main)
