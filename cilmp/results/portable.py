"""A record for other eyes: without the places of the machine it was made on, where names of people and patients stand.

What such a place holds is known by its hash (`made_from`, `knowledge.sha256`), which a program that reads it compares.
"""

from __future__ import annotations

import re
from typing import Any

# The last words of options that name a place; without one, what the data set, the backbone or the method ships is read.
PLACES = ("ROOT", "OUTPUT_DIR", "RESUME", "SPLIT_FILE", "FEATURE_CACHE", "INIT_WEIGHTS", "PATH", "REPRESENTATIONS",
          "SENTENCES")  # fmt: skip
SOURCE = re.compile(r"(hf:|open_clip:)?(.*)", re.DOTALL)  # of a backbone
ABSOLUTE = re.compile(r"[/\\~]|[A-Za-z]:[/\\]|file:")


def portable(record: dict) -> dict:
    """The record without PLACES and `model_dir`; any other path that begins at a root keeps its last part."""
    options = {key: value for key, value in record.get("options", {}).items() if key.split(".")[-1] not in PLACES}
    knowledge = dict(record.get("knowledge") or {})
    if "source" in knowledge:
        knowledge["source"] = last(str(knowledge["source"]))
    return bare(record | {"options": options, "knowledge": knowledge or None, "model_dir": ""})


def bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: bare(item) for key, item in value.items()}
    if isinstance(value, list):
        return [bare(item) for item in value]
    if not isinstance(value, str):
        return value
    kind, place = SOURCE.fullmatch(value).groups()  # type: ignore[union-attr]
    return (kind or "") + last(place) if ABSOLUTE.match(place) else value


def last(place: str) -> str:
    return re.split(r"[/\\]", place.rstrip("/\\"))[-1]
