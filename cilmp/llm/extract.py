"""Ask an LLM about each class and keep its states at the end of the answer, after every decoder layer.

docs/llm.md is the guide, states.py the computation; here is what is made, kept and gone on from.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

from cilmp import __version__
from cilmp.errors import UserError
from cilmp.llm.classes import Classes
from cilmp.llm.model import LLM, enough_memory, sees_padding
from cilmp.llm.progress import Progress
from cilmp.llm.states import ask, chosen_layers, prompt, templated
from cilmp.llm.store import Knowledge, read, save

QUESTION = "In an image, describe the distinctive visual features of {classname}."


@dataclass(frozen=True)
class Recipe:
    """What decides the numbers: it stands in the file, and a file is only continued under the same one."""

    model: str
    revision: str = ""
    questions: list[str] = field(default_factory=lambda: [QUESTION])
    given: str = ""  # hash of the answers supplied by the user
    chat: str = "auto"
    max_new_tokens: int = 256
    dtype: str = "float32"
    bits: int = 0
    layers: str = "all"
    pool: str = "eos"

    def __post_init__(self):
        for question in self.questions:
            if "{classname}" not in question:
                raise UserError(f"--question '{question}' does not name the class: write {{classname}} in it.")
        chosen_layers(self.layers, 10_000)

    def made(self, knowledge: Knowledge) -> bool:
        return all(knowledge.metadata.get(key) == value for key, value in asdict(self).items())


def extract(
    recipe: Recipe,
    classes: Classes,
    out: Path,
    llm: Callable[[], LLM],
    answers: dict[str, list[str]] | None = None,
    batch: int = 8,
) -> Knowledge:
    """The representation file of a class list; `llm` is called only if there is work left.

    answers: class -> one answer a question; the LLM then only encodes them.  Classes done are kept in
    `<out>.partial` after each batch, and a later call goes on from there.
    """
    partial = out.with_name(out.name + ".partial")
    done = resume(recipe, out, partial)
    todo = [name for name in classes.names if name not in done.classnames]
    if not todo and not partial.is_file():
        print(f"{out}: up to date ({len(classes.names)} classes)")
        return done
    if todo:
        require_writable(out)
        model = llm()
        done.metadata = describe(recipe, classes, model) | {"answers": done.metadata.get("answers", {})}
        if batch > 1 and len(todo) > 1 and sees_padding(model):
            print(f"{recipe.model} sees the padding of a batch: classes are asked one at a time")
            batch = 1
        with closing(Progress(classes.dataset or out.stem, len(classes.names), len(done.classnames))) as bar:
            for start in range(0, len(todo), batch):
                names = todo[start : start + batch]
                with enough_memory(model.source):
                    states, said = ask(model, recipe, classes, names, answers, bar)
                done.classnames += names
                done.states += states
                done.metadata["answers"] |= dict(zip(names, said, strict=True))
                save(partial, done)
                bar.update(len(names))
    order = sorted(range(len(done.classnames)), key=lambda i: order_of(classes.names, done.classnames[i]))
    names = [done.classnames[i] for i in order]
    said = done.metadata["answers"]
    whole = Knowledge(names, [done.states[i] for i in order], done.metadata | {"answers": {n: said[n] for n in names}})
    save(out, whole)
    partial.unlink(missing_ok=True)
    print(f"{out}: {len(order)} classes, {tuple(whole.states[0].shape)} each, {recipe.model}")
    return whole


def require_writable(out: Path) -> None:
    """Before the LLM is loaded, not after it has answered."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot write {out} ({error.strerror}): check --out.") from None
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise UserError(f"Cannot write {out}: check --out.")


def order_of(names: list[str], name: str) -> int:
    """In the order asked for; what the file held besides stays behind it."""
    return names.index(name) if name in names else len(names)


def resume(recipe: Recipe, out: Path, partial: Path) -> Knowledge:
    """What is already there under the same recipe; a finished file of another recipe is never overwritten."""
    done = Knowledge([], [])
    for path in (out, partial):
        if not path.is_file():
            continue
        there = read(path)
        if recipe.made(there):
            new = [i for i, name in enumerate(there.classnames) if name not in done.classnames]
            done.classnames += [there.classnames[i] for i in new]
            done.states += [there.states[i] for i in new]
            done.metadata = there.metadata | {"answers": done.metadata.get("answers", {}) | there.metadata["answers"]}
        elif path == out:
            wanted = asdict(recipe)
            other = [
                f"{k} {there.metadata.get(k)!r}, not {v!r}" for k, v in wanted.items() if there.metadata.get(k) != v
            ]
            raise UserError(f"{out} was made otherwise ({'; '.join(other)[:300]}): give another --out or remove it.")
    return done


def describe(recipe: Recipe, classes: Classes, llm: LLM) -> dict:
    first = classes.fill(recipe.questions[0], classes.names[0])
    return (
        asdict(recipe)
        | {
            "dataset": classes.dataset,
            "commit": llm.commit,
            "control": "",
            "chat_template": templated(llm, recipe.chat),
            "prompt": prompt(llm, first, recipe.chat)[0],  # of the first class, as the LLM saw it
            "end_token": llm.tokenizer.convert_ids_to_tokens(llm.end),
        }
        | stamp()
    )


def stamp() -> dict:
    versions = {name: metadata.version(name) for name in ("torch", "transformers")}
    return {"date": datetime.date.today().isoformat(), "versions": {"cilmp": __version__} | versions}
