"""Sentences about each class: made by an LLM, or read from a file; they become text features of a frozen CLIP.

    {"classes": {class: [sentence, ...]}, "made": {how}}      what is written here
    {class: [sentence, ...]}                                  what others write, as JSON or as the dict of a .py file

A .py file (BiomedCoOp's table) is parsed, never run.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cilmp.errors import UserError
from cilmp.files import write_bytes
from cilmp.llm import store
from cilmp.llm.classes import Classes
from cilmp.llm.extract import require_writable, stamp
from cilmp.llm.model import LLM, enough_memory, pad
from cilmp.llm.states import prompt, tokens

SHIPPED = Path(__file__).parents[1] / "assets" / "sentences"
FOUND = Path("sentences")  # below the working directory
QUESTION = "Describe in one short sentence what {classname} looks like in a {modality} image of the {organ}."
BARE = "Describe in one short sentence what {classname} looks like in a medical image."  # where the card states neither
LEAST, MOST = 3, 40  # words of a sentence; CLIP reads 77 tokens
ROUNDS = 20  # of sampling, before a class is given up


@dataclass(frozen=True)
class Sentences:
    """classes: {class: its sentences}.  made: how, JSON-able."""

    classes: dict[str, list[str]]
    made: dict


def locate(source: str, dataset: str, stem: str = "") -> Path:
    """The file, or the data set's in a folder; "" is what is shipped or else stands in `sentences/`."""
    file = f"{stem or dataset.lower()}.json"
    places = [Path(source) / file, Path(source)] if source else [SHIPPED / file, FOUND / file]
    for path in places:
        if path.is_file():
            return path
    where = f"at {source}" if source else f"of {dataset}, neither shipped nor as {FOUND / file}"
    raise UserError(f"No class sentences {where}: make them with {command(dataset)}, or name a JSON or .py file.")


def load(path: Path, classnames: Sequence[str], n: int, dataset: str = "") -> list[list[str]]:
    """The first n sentences of each class; found by name as representations are."""
    known = read(path).classes
    found = []
    for name in classnames:
        alike = [k for k in known if k == name] or [k for k in known if store.loose(k) == store.loose(name)]
        if len(alike) != 1:
            raise UserError(
                f"{path} has {len(alike) or 'no'} entries for class '{name}' (it has {', '.join(known)[:200]}): write "
                f"one under its name, or make them with {command(dataset)}"
            )
        if len(known[alike[0]]) < n:
            raise UserError(f"{path} has {len(known[alike[0]])} sentences for class '{name}', and {n} are asked for.")
        found.append(known[alike[0]][:n])
    return found


def read(path: Path) -> Sentences:
    try:
        text = path.read_text(encoding="utf-8")
        tree = table(ast.parse(text)) if path.suffix == ".py" else json.loads(text)
    except (OSError, ValueError, SyntaxError, RecursionError) as error:
        raise UserError(f"Cannot read class sentences from {path} ({error}): see docs/llm.md.") from None
    made = {}
    if isinstance(tree, dict) and tree.keys() == {"classes", "made"}:
        tree, made = tree["classes"], tree["made"]
    if not isinstance(tree, dict) or not tree or not all(map(are_sentences, tree.values())):
        raise UserError(f"{path} holds no {{class: [sentence, ...]}}: see docs/llm.md.")
    return Sentences({str(name): list(said) for name, said in tree.items()}, made)


def are_sentences(said) -> bool:
    return isinstance(said, list) and bool(said) and all(isinstance(text, str) and text.strip() for text in said)


def table(module: ast.Module) -> dict:
    """The largest dict that a Python file states literally."""
    found = [ast.literal_eval(node.value) for node in module.body
             if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)]  # fmt: skip
    return max(found, key=len, default={})


def make(
    classes: Classes, llm: Callable[[], LLM], out: Path, n: int, question: str = "", seed: int = 1,
    temperature: float = 0.9, chat: str = "auto", say: Callable[[str], None] = print,
) -> Sentences:  # fmt: skip
    """n different sentences a class, sampled; classes already in `out` under the same recipe are kept."""
    question = question or (QUESTION if classes.modality and classes.organ else BARE)
    asked = [classes.fill(question, name) for name in classes.names]
    recipe = {"question": question, "n": n, "seed": seed, "temperature": temperature, "chat": chat}
    done = Sentences({}, {})
    if out.is_file():
        done = read(out)
        if {key: done.made.get(key) for key in recipe} != recipe:
            raise UserError(f"{out} was made otherwise: give another --out or remove it.")
        if all(name in done.classes for name in classes.names):
            say(f"{out}: up to date ({len(done.classes)} classes)")
            return done
    require_writable(out)
    model = llm()
    made = recipe | {"model": model.source.name, "commit": model.commit, "dataset": classes.dataset} | stamp()
    if done.made and done.made["model"] != made["model"]:
        raise UserError(f"{out} was made by {done.made['model']}: give another --out or remove it.")
    found = dict(done.classes)
    for name, text in zip(classes.names, asked, strict=True):
        if name not in found:
            with enough_memory(model.source):
                found[name] = different(model, text, n, seed, temperature, chat, name)
            say(f"{name}: {found[name][0]}")
            whole = json.dumps({"classes": found, "made": made}, indent=1, ensure_ascii=False)
            write_bytes(out, whole.encode(), mend="check --out")
    return Sentences(found, made)


def different(llm: LLM, question: str, n: int, seed: int, temperature: float, chat: str, name: str) -> list[str]:
    start = tokens(llm, *prompt(llm, question, chat))
    found: dict[str, str] = {}
    for turn in range(ROUNDS):
        missing = n - len(found)
        for text in sample(llm, start, missing + missing // 4 + 1, temperature, seed * ROUNDS + turn):
            sentence = first_sentence(text)
            if sentence:
                found.setdefault(store.loose(sentence), sentence)
        if len(found) >= n:
            return list(found.values())[:n]
    raise UserError(
        f"{llm.source.name} made {len(found)} different sentences for '{name}', not {n}: ask for fewer (--n)."
    )


@torch.no_grad()
def sample(llm: LLM, start: list[int], n: int, temperature: float, seed: int, most: int = 48) -> list[str]:
    """n sampled answers."""
    ids, mask = pad(llm, [start] * n, left=True)
    with torch.random.fork_rng(devices=[ids.device] if ids.device.type == "cuda" else []):
        torch.manual_seed(seed)
        out = llm.model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=most, do_sample=True, temperature=temperature, top_p=0.95
        )
    return [llm.tokenizer.decode(row, skip_special_tokens=True) for row in out[:, ids.shape[1] :].tolist()]


def first_sentence(text: str) -> str:
    """The first whole sentence of an answer; '' where it has none of a sensible length."""
    match = re.match(r"\W*(.+?[.!?])(\s|$)", " ".join(text.split()))
    sentence = match.group(1) if match else ""
    return sentence if LEAST <= len(sentence.split()) <= MOST else ""


def command(dataset: str) -> str:
    made = f"--dataset-config-file {dataset.lower() or '<data set>'} --model meta-llama/Meta-Llama-3-8B-Instruct"
    return f"`python -m cilmp.llm sentences {made}`"
