"""cilmp VERB ...: every program of the toolbox under one name, from any folder; the same as python -m cilmp."""

from __future__ import annotations

import runpy
import sys

import cilmp
from cilmp.errors import UserError, exit_on_user_error, nearest

VERBS = {  # verb: (the module that is its program, imported only when asked for; what it does)
    "train": ("cilmp.train", "train and test one trainer on one data set: CoOp's command line"),
    "sweep": ("cilmp.sweep", "a protocol's runs over trainers, data sets, shots and seeds, to the table"),
    "results": ("cilmp.results", "tables and paired tests of finished runs"),
    "report": ("cilmp.analysis.report", "one HTML file of everything that finished runs tell"),
    "calibrate": ("cilmp.calibrate", "a finished run's temperature and prediction sets, from its validation images"),
    "predict": ("cilmp.predict", "class probabilities of new images from a finished run"),
    "card": ("cilmp.card", "a model card from a finished run's record"),
    "hub": ("cilmp.hub", "finished runs to and from a folder or a hub: push, pull"),
    "data": ("cilmp.datasets", "data sets: list, prepare, check, show"),
    "llm": ("cilmp.llm", "class representations from an LLM: extract, import, show"),
    "clip": ("cilmp.clip", "backbones: list, show"),
}


def usage() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:{width}}  {text}" for verb, (_, text) in VERBS.items())
    return f"usage: cilmp VERB ...\n\n{cilmp.__doc__}\n\n{verbs}\n\ncilmp VERB --help tells a verb's options.\n"


def main() -> int:
    verb, *rest = sys.argv[1:] or ["--help"]
    if verb in ("-h", "--help"):
        print(usage(), end="")
    elif verb == "--version":
        print(f"cilmp {cilmp.__version__}")
    elif verb not in VERBS:
        raise UserError(f"Unknown verb '{verb}'.{nearest(verb, VERBS)}")
    else:
        sys.argv = [f"cilmp {verb}", *rest]
        runpy.run_module(VERBS[verb][0], run_name="__main__", alter_sys=True)  # ends in its own exit code
    return 0


def program() -> None:
    """The console script."""
    exit_on_user_error(main)


if __name__ == "__main__":
    program()
