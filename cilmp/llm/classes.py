"""Whose representations: a data set's class names, its modality and organ."""

from __future__ import annotations

from dataclasses import dataclass

from cilmp.errors import UserError


@dataclass(frozen=True)
class Classes:
    dataset: str
    names: list[str]
    modality: str = ""
    organ: str = ""

    def __post_init__(self):
        if not self.names or not all(name.strip() for name in self.names):
            raise UserError(f"{self.dataset or 'The class list'} has an empty class name: mend the list.")
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise UserError(f"Class {', '.join(twice)} is given more than once: name every class once.")

    def fill(self, question: str, name: str) -> str:
        """A question about one class; {classname}, {modality} and {organ} are filled in."""
        facts = {"classname": name.replace("_", " "), "modality": self.modality, "organ": self.organ}
        for key in ("modality", "organ"):
            if f"{{{key}}}" in question and not facts[key]:
                raise UserError(
                    f"The question uses {{{key}}}, and the card of {self.dataset or 'a bare class list'} states no "
                    f"{key}: use another --question, or state it there."
                )
        try:
            return question.format(**facts)
        except (KeyError, ValueError, IndexError, AttributeError):
            raise UserError(
                f"--question '{question}' may hold {{classname}}, {{modality}} and {{organ}}, nothing else in braces."
            ) from None
