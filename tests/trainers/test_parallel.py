"""Which processes a run joins: those that torchrun announces, and no others."""

import pytest

from cilmp.errors import UserError
from cilmp.trainers.engine import parallel

TOLD = dict(RANK="0", LOCAL_RANK="0", WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT="29500")


@pytest.fixture
def told(monkeypatch):
    def set_to(**environment):
        for name in parallel.TORCHRUN:
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return set_to


@pytest.mark.parametrize("environment", [
    {}, {"WORLD_SIZE": ""}, {"WORLD_SIZE": "2"}, {"WORLD_SIZE": "many"}, {"RANK": "1"}, {"WORLD_SIZE": "8", "RANK": ""},
    TOLD | {"WORLD_SIZE": "1"}, {"WORLD_SIZE": "1", "RANK": "3"},
])  # fmt: skip
def test_alone(told, environment):
    told(**environment)
    parallel.start()
    assert parallel.announced() == 1 and parallel.size() == 1


def test_of_two(told):
    told(**TOLD)
    assert parallel.announced() == 2


@pytest.mark.parametrize("name", ["LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
@pytest.mark.parametrize("value", ["", "x"])
def test_half_of_what_torchrun_sets_is_one_line(told, name, value):
    if name == "MASTER_ADDR" and value:
        pytest.skip("a name as any other")
    told(**TOLD | {name: value})
    with pytest.raises(UserError, match=f"{name}='{value}'.*torchrun sets all of them"):
        parallel.start()
