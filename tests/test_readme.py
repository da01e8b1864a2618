"""What README and docs tell a reader to type exists, and what needs no download runs."""

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]
PAGES = [HOME / "README.md", HOME / "CONTRIBUTING.md", *sorted((HOME / "docs").glob("*.md"))]
RUNS = HOME / "tests" / "results" / "golden" / "runs"
OFFLINE = {  # commands that need neither data nor a network: run as they stand, in a folder with an `output` of runs
    "cilmp data list",
    "cilmp clip list",
    "cilmp clip show tiny",
    "cilmp results output --format latex",
    "cilmp results output --beside",
    "cilmp report output --out report.html",
    "cilmp llm show cilmp/assets/representations/phantoms.safetensors",
}


def commands(page: Path) -> list[str]:
    """Lines of its shell blocks and `inline` commands, comments and variables in front taken off."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for block in re.findall(r"```(?:bash)?\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    lines += re.findall(r"`((?:cilmp|python -m cilmp|bash scripts)[^`]*)`", text)
    told = []
    for line in lines:
        words = shlex.split(line, comments=True) if re.match(r"[A-Z_]+=|cilmp |python |bash |torchrun ", line) else []
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words and "..." not in words:
            told.append(shlex.join(words))
    return told


TOLD = sorted({command for page in PAGES for command in commands(page)})
CALLS = [command for command in TOLD if re.match(r"cilmp \w|python -m cilmp\.\w|python train\.py", command)]


def program(command: str) -> list[str]:
    """Its words up to where options begin, as Python's arguments."""
    words = shlex.split(command)
    if words[0] == "cilmp":
        verbs = [word for word in words[2:3] if words[1] in ("data", "llm", "clip", "hub") and not word.startswith("-")]
        return ["-m", "cilmp", words[1], *verbs]
    if words[1] == "train.py":
        return ["-m", "cilmp.train"]
    verbs = [word for word in words[3:4] if words[2] in ("cilmp.datasets", "cilmp.llm") and not word.startswith("-")]
    return ["-m", words[2], *verbs]


@functools.cache
def helped(words: tuple[str, ...]) -> str:
    run = subprocess.run([sys.executable, *words, "--help"], capture_output=True, text=True, cwd=HOME)
    assert run.returncode == 0, (words, run.stderr)
    return run.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", CALLS)
def test_every_option_told_exists(command):
    told = helped(tuple(program(command)))
    asked = shlex.split(command)
    asked = asked[: asked.index("--")] if "--" in asked else asked
    for word in asked:
        if word.startswith("--"):
            assert re.search(rf"{re.escape(word.split('=')[0])}\b", told), word


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(OFFLINE))
def test_what_needs_no_download_runs(command, tmp_path):
    shutil.copytree(RUNS, tmp_path / "output")
    (tmp_path / "cilmp").symlink_to(HOME / "cilmp")
    words = [sys.executable, "-m", *shlex.split(command)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [HOME, HOME / "dassl-compat"]))}
    run = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert run.returncode == 0 and run.stdout.strip(), run.stderr


def test_offline_commands_are_those_of_the_pages():
    assert set(TOLD) >= OFFLINE, OFFLINE - set(TOLD)


@pytest.mark.parametrize("command", [command for command in TOLD if command.startswith("bash ")])
def test_scripts_told_exist(command):
    assert (HOME / shlex.split(command)[1]).is_file()


def test_links_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert "://" in link or (page.parent / link).exists(), (page.name, link)


def test_the_house_is_told_whole():
    """README's tree names every top folder, and nothing that is not there."""
    text = (HOME / "README.md").read_text(encoding="utf-8").split("## The house")[1]
    told = {line.split()[0].rstrip("/") for line in text.split("```")[1].splitlines() if line.strip()}
    assert all((HOME / name).exists() for name in told)
    there = {path.name for path in HOME.iterdir() if path.is_dir() and not path.name.startswith(".")}
    ignored = {"build", "output", "data", "representations"} | {name for name in there if name.endswith("egg-info")}
    assert there - ignored - {"__pycache__"} <= told
