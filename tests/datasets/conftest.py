import pytest

from cilmp.datasets.__main__ import main
from cilmp.errors import exit_on_user_error


@pytest.fixture
def run(monkeypatch, capsys):
    """`python -m cilmp.datasets WORDS`: what it prints, or, with fails=True, the one line on stderr."""

    def program(*words: str, fails: bool = False) -> str:
        monkeypatch.setattr("sys.argv", ["cilmp.datasets", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            exit_on_user_error(main)
        out, err = capsys.readouterr()
        assert bool(end.value.code) == fails, err
        if fails:
            assert len(err.strip().splitlines()) == 1, err
        return err if fails else out

    return program
