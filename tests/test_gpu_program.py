"""scripts/gpu.sh: whatever happens to a part, the others' figures are there."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import gpu
import pytest
from gpu import Part

HOME = Path(__file__).parents[1]


def test_times_are_kept():
    """Ten minutes, and four with --quick."""
    assert sum(part.seconds[0] for part in gpu.PARTS) <= 600
    assert sum(part.seconds[1] or 0 for part in gpu.PARTS) < 240


def test_no_part_hides_another(monkeypatch, tmp_path, capsys):
    asleep = ["-m", "timeit", "-n", "1", "-r", "1", "import time; time.sleep(99)"]
    parts = [
        Part("fails", ["-m", "no_such_module"], (20, None), needs=()),
        Part("hangs", asleep, (1, None), needs=()),
        Part("lacks", ["-m", "this"], (20, None), needs=("no_such_package",)),
        Part("works", ["-m", "this"], (20, None), needs=()),
    ]
    monkeypatch.setattr(gpu, "facts", lambda environment: dict(device="a stand-in"))
    monkeypatch.setattr(gpu, "PARTS", parts)
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    assert gpu.main(["--device", "cpu"]) == 1
    whole = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert [(part["part"], part["ended"]) for part in whole["parts"]] == [
        ("fails", "failed with exit code 1"),
        ("hangs", "cut after 1 s; its rows are those it had"),
        ("lacks", "left out: no no_such_package"),
        ("works", "well"),
    ]
    assert whole["missing"] == ["no_such_package"] and "no_such_package" in capsys.readouterr().out
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "No module named no_such_module" in log and "Namespaces are one honking great idea" in log
    assert "| works | well |" in (tmp_path / "out" / "summary.md").read_text()


def test_a_missing_package_is_taken_from_wheels(monkeypatch, tmp_path):
    info = "brought-1.0.dist-info"
    files = {
        "brought.py": "print('it is here')",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: brought\nVersion: 1.0",
    }
    files |= {f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any", f"{info}/RECORD": ""}
    with zipfile.ZipFile(tmp_path / "brought-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text + "\n" * bool(text))
    monkeypatch.setattr(gpu, "facts", lambda environment: dict(device="a stand-in"))
    monkeypatch.setattr(gpu, "PARTS", [Part("brought", ["-m", "brought"], (20, 20), needs=("brought",))])
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    monkeypatch.setenv("WHEELS", str(tmp_path))
    assert gpu.main(["--device", "cpu"]) == 0
    assert "it is here" in (tmp_path / "out" / "log.txt").read_text()


@pytest.mark.slow
def test_on_a_cpu_from_end_to_end(monkeypatch, tmp_path):
    """The toy of every kind of part, but those that only run others' programs."""
    monkeypatch.setenv("OUT", str(tmp_path / "out"))
    monkeypatch.setenv("PYTHON", sys.executable)
    parts = ["trace", "extraction", "epoch", "step bf16", "step literal"]
    line = ["bash", HOME / "scripts/gpu.sh", "--tiny", "--quick", "--device", "cpu", "--parts", *parts]
    run = subprocess.run(line, capture_output=True, text=True)
    whole = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert run.returncode == 0, whole
    assert [part["part"] for part in whole["parts"]] == parts[:4]  # --quick leaves the last one out
    assert all(result["rows"] for part in whole["parts"] for result in part["results"])
    files = list((tmp_path / "out").iterdir())
    assert len(files) <= 8 and all(0 < file.stat().st_size <= 16 << 20 for file in files)
    assert "trace.json.gz" in {file.name for file in files}
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert "| both_seconds |" in summary and "| peak_gb |" in summary


@pytest.mark.slow
def test_a_way_that_fails_leaves_the_others(tmp_path):
    line = [sys.executable, HOME / "benchmarks/graph.py", "--tiny", "--device", "cpu", "--precision", "fp32"]
    line += ["--classes", 2, "--batch", 2, "--trainers", "CoOp", "--ways", "graph", "eager", "--out", tmp_path]
    run = subprocess.run([str(word) for word in line], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    failed, eager = json.loads(next(tmp_path.glob("graph-*.json")).read_text())["rows"]
    assert failed["why"] and failed["seconds"] is None  # a CPU holds no graph
    assert not eager["why"] and eager["seconds"] > 0 and eager["off"] == 0
