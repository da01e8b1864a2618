"""Answers written by somebody else, a clinician or a larger model, for the LLM to encode."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from cilmp.errors import UserError
from cilmp.llm import store
from cilmp.llm.classes import Classes


def fingerprint(path: str) -> str:
    """Of a file of answers, "" for none."""
    if not path:
        return ""
    if not Path(path).is_file():
        raise UserError(f"No answers at {path}: check --answers.")
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def read(path: Path, classes: Classes, questions: int) -> dict[str, list[str]]:
    """class -> one answer a question, from JSON {class: text or list of texts} or a representation file."""
    if path.suffix == ".safetensors":
        known = store.read(path).metadata.get("answers") or {}
    else:
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path} is not JSON ({error}): write {{class name: answer}}.") from None
    if not isinstance(known, dict):
        raise UserError(f"{path} holds a {type(known).__name__}: write {{class name: answer}}.")
    found = {}
    for name in classes.names:
        alike = [key for key in known if key == name] or [key for key in known if store.loose(key) == store.loose(name)]
        if len(alike) != 1:
            raise UserError(f"{path} has {len(alike)} answers for class '{name}': write one under its name.")
        texts = known[alike[0]]
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or len(texts) != questions or not all(isinstance(t, str) and t for t in texts):
            raise UserError(f"{path}: class '{name}' needs {questions} answer(s), one a question, as text.")
        found[name] = texts
    return found
