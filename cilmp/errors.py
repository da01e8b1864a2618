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


def of_a_file(error: OSError) -> str:
    """'path: Read-only file system', as far as the error knows."""
    place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes, os.PathLike)) else ""
    return place + " ".join((error.strerror or str(error) or type(error).__name__).split())


def exit_on_user_error(program: Callable[[], int | None]) -> None:
    """Run a program's main; a UserError or an OSError becomes one line on stderr and exit code 2."""
    try:
        sys.exit(program())
    except BrokenPipeError:  # `... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:  # a disk that is full, gone, read-only: the program's own files, wherever it met them
        print(f"error: {of_a_file(error)}", file=sys.stderr)
        sys.exit(2)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
