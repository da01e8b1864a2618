"""What a sweep prints once its runs have ended: its own table, whatever becomes of published figures, and failures."""

import pytest

from cilmp.errors import UserError
from cilmp.results import records
from cilmp.sweep.__main__ import report
from cilmp.sweep.jobs import Job

HEAD = "paper,source,method,backbone,dataset,protocol,shots,classes,metric,value,deviation,seeds"


@pytest.fixture
def ended(tmp_path):
    """Two jobs of a few-shot sweep, the second of which failed."""
    fields = [dict(trainer="CoOp", dataset="X", config="tiny", classes="all", shots=16, seed=seed) for seed in (1, 2)]
    jobs = [Job(tmp_path / f"out/X/CoOp/tiny_16shots/seed{f['seed']}", [], f) for f in fields]
    record = dict(version=records.VERSION, split="test", backbone="tiny", metrics=dict(accuracy=80.0))
    records.write(jobs[0].folder / records.NAME, fields[0] | record)
    return jobs, {jobs[1]: "out of memory"}


def test_figures_in_a_metric_of_no_run_leave_the_table_and_one_note(tmp_path, ended, capsys):
    path = tmp_path / "top5.csv"
    path.write_text(f"{HEAD}\nP,t,CoOp,tiny,X,few_shot,16,all,top5,95.0,,\n")
    jobs, failed = ended
    report(jobs, "few_shot", failed, None, str(path))
    shown = capsys.readouterr()
    assert "80.00 (1 of 2 seeds)" in shown.out
    note, failure, summary = shown.err.splitlines()
    assert note.startswith("note: ") and "figures in top5, which these runs do not have" in note
    assert failure == "FAILED CoOp X all 16 shots seed 2: out of memory" and summary.startswith("1 of 2 runs failed")


def test_an_error_hides_neither_the_table_nor_the_failures(tmp_path, ended, capsys):
    """The file was there when the sweep began."""
    jobs, failed = ended
    with pytest.raises(UserError, match="gone.csv"):
        report(jobs, "few_shot", failed, None, str(tmp_path / "gone.csv"))
    shown = capsys.readouterr()
    assert "80.00 (1 of 2 seeds)" in shown.out and "FAILED CoOp X all 16 shots seed 2: out of memory" in shown.err
