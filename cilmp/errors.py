"""The one exception a user may see: a mistake they can mend, told in one line."""

import difflib
import os
import sys
from collections.abc import Callable, Iterable, Sequence


class UserError(Exception):
    """The message names the thing, where it was looked for, and the mend. Programs print it and exit with 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """' Did you mean X or Y? Known: ...' for a name that is not among the known ones."""
    known = sorted(known)
    lower = {k.lower(): k for k in known}
    close = [lower[c] for c in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    return f"{hint} Known: {', '.join(known)}."


def brief(things: Sequence[object], n: int = 5) -> str:
    """'a, b, c and 7 more'"""
    text = ", ".join(str(thing) for thing in things[:n])
    return text if len(things) <= n else f"{text} and {len(things) - n} more"


def exit_on_user_error(program: Callable[[], int | None]) -> None:
    """Run a program's main; a UserError becomes one line on stderr and exit code 2."""
    try:
        sys.exit(program())
    except BrokenPipeError:  # `... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
