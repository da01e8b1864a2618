"""Finished runs to and from others: the prompts as safetensors, the record without paths, a model card; no images.

cilmp hub push output/busi/CILMP/vit_b16_16shots/seed1 hf:OWNER/NAME     or a folder in place of hf:
cilmp hub pull hf:OWNER/NAME FOLDER && cilmp predict --model-dir FOLDER images/
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cilmp import card
from cilmp.clip.backbones import weights_in
from cilmp.errors import UserError, brief, exit_on_user_error
from cilmp.files import need_place, sha256, write_bytes, write_text
from cilmp.results import records
from cilmp.results.portable import portable
from cilmp.trainers.engine import provenance
from cilmp.trainers.engine.checkpoints import SHARED, require_shared

FILES = (card.NAME, SHARED, records.NAME)  # all that moves, the record last; zero-shot methods have no prompts
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
HUB = "hf:"


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="cilmp hub", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    push = verbs.add_parser("push", help="a finished run to a folder or a hub; a new repository is private")
    push.add_argument("run", type=Path, metavar="RUN", help="folder of the finished run")
    push.add_argument("destination", metavar="DESTINATION", help="a folder, or hf:OWNER/NAME")
    push.add_argument("--license", default=card.UNKNOWN, help=card.LICENSE)
    pull = verbs.add_parser("pull", help="a run from a folder or a hub")
    pull.add_argument("source", metavar="SOURCE", help="a folder, or hf:OWNER/NAME")
    pull.add_argument("folder", type=Path, metavar="FOLDER", help="where it will lie")
    pull.add_argument("--backbone", type=Path, help="the weights it was made on, where they were a local file")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if args.verb == "push":
        push(args.run, args.destination, args.license)
    else:
        pull(args.source, args.folder, args.backbone)


def push(run: Path, destination: str, license: str = card.UNKNOWN) -> None:
    """UserError for a run that cannot answer, or that would answer otherwise elsewhere."""
    record = records.read(run)
    require_own(run, record)
    text = card.card(record, license)
    prompts = prompts_of(run)
    if not on_hub(destination):
        write(Path(destination), text, prompts, portable(record))
        print(destination)
        return
    with tempfile.TemporaryDirectory() as place:
        with one_line(destination):
            from huggingface_hub import HfApi

            repository = named(destination)
            HfApi().create_repo(repository, private=True, exist_ok=True)
            require_same_run(fetched(destination, Path(place, "old")), portable(record), destination)
            write(Path(place, "new"), text, prompts, portable(record))
            new = dict(folder_path=Path(place, "new"), commit_message="A run of cilmp")
            print(HfApi().upload_folder(repo_id=repository, **new))


def pull(source: str, folder: Path, backbone: Path | None = None) -> None:
    """What is not one of FILES stays where it is, and what the record says of places is not believed."""
    require_empty(folder)
    with tempfile.TemporaryDirectory() as place:
        there = fetched(source, Path(place)) if on_hub(source) else Path(source)
        record = portable(records.read(there))
        require_shared(there / SHARED, record, source)
        if backbone:
            record["options"]["MODEL.BACKBONE.PATH"] = str(same(backbone, record).resolve())
        found = [(there / name).read_bytes() if (there / name).is_file() else b"" for name in (card.NAME, SHARED)]
    write(folder, found[0].decode(errors="replace"), found[1], record)
    print(folder)


def require_own(run: Path, record: dict) -> None:
    from cilmp.restore import checkpoint

    if (trained := checkpoint(run, record)).resolve() != run.resolve():
        raise UserError(f"The run in {run} was tested with the prompts of {trained}: share that one.")
    name = str(record.get("options", {}).get("MODEL.BACKBONE.NAME", ""))
    _, colon, source = name.partition(":")
    if colon and (Path(source).exists() or not REPOSITORY.fullmatch(source)):
        raise UserError(
            f"The run in {run} has a local folder for its backbone, which nobody else can name ({name}): train it with "
            "the folder as MODEL.BACKBONE.PATH, or on a repository."
        )


def prompts_of(run: Path) -> bytes:
    """As safetensors, after they were loaded; b'' of a method that learned nothing."""
    from safetensors.torch import save

    from cilmp.restore import restore

    with contextlib.redirect_stdout(sys.stderr):  # the engine talks
        state = restore(run, "cpu").model.state_dict()
    return save({name: value.detach().clone().contiguous() for name, value in state.items()}) if state else b""


def write(folder: Path, text: str, prompts: bytes, record: dict) -> None:
    require_empty(folder, FILES)
    require_same_run(folder, record, str(folder))
    need_place(folder)
    (folder / records.NAME).unlink(missing_ok=True)  # the done mark: not while old and new are mixed
    write_text(folder / card.NAME, text)
    if prompts:
        write_bytes(folder / SHARED, prompts)
        record = record | {"prompts": hashlib.sha256(prompts).hexdigest()}
    else:
        (folder / SHARED).unlink(missing_ok=True)
    records.write(folder / records.NAME, record)


def require_empty(folder: Path, but: Sequence[str] = ()) -> None:
    """Beside a run's own checkpoints others would be overlooked, and its record lost."""
    if folder.exists() and (there := sorted({path.name for path in folder.iterdir()} - set(but))):
        raise UserError(f"{folder} holds other things ({brief(there)}): give a new folder.")


def require_same_run(folder: Path, record: dict, place: str) -> None:
    """A shared run gives way to the same run alone, and its card where nobody changed it."""
    if not any((folder / name).exists() for name in FILES):
        return
    if card.changed(folder / card.NAME):
        raise UserError(
            f"{place} has a {card.NAME} that `cilmp card` did not write, or not all: give another destination."
        )
    if not (folder / records.NAME).is_file():
        raise UserError(f"{place} holds files of a run without its {records.NAME}: give another destination.")
    there = records.read(folder)
    told = records.unlike(record, there, ("trainer", "dataset", "classes", "shots", "seed"))
    if told := told or provenance.unlike(provenance.stated(record), provenance.stated(there)):
        raise UserError(f"{place} holds another run ({brief(told)}): give another destination.")


def same(backbone: Path, record: dict) -> Path:
    then = record.get("made_from", {}).get("backbone", "")
    if sha256(weights_in(backbone)) != then:
        raise UserError(f"{backbone} is not what the run was made on (SHA-256 {then or 'of no local file'}).")
    return backbone


def on_hub(place: str) -> bool:
    return place.lower().startswith(HUB)


def named(place: str) -> str:
    if not REPOSITORY.fullmatch(repository := place[len(HUB) :]):
        raise UserError(f"{place} names no repository: give {HUB}OWNER/NAME.")
    return repository


def fetched(source: str, place: Path) -> Path:
    place.mkdir(exist_ok=True)
    with one_line(source):
        from huggingface_hub import HfApi

        repository = named(source)
        for name in set(FILES) & set(HfApi().list_repo_files(repository)):  # what lacks is told when it is read
            HfApi().hf_hub_download(repository, name, local_dir=place)
    return place


@contextlib.contextmanager
def one_line(place: str):
    """The hub's library fails in many ways."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        why = " ".join((str(error) or type(error).__name__).split())
        raise UserError(f"{place}: {why[:200]}; check the name, the network and your token (HF_TOKEN).") from None


if __name__ == "__main__":
    exit_on_user_error(main)
