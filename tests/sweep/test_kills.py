"""A sweep that is killed at random moments ends, asked again, in the table of one that was not."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from started import command, processes_in, sweep

from cilmp.results import protocols
from cilmp.results import runs as finished

KILLS = 10


def rendered(output):
    return protocols.few_shot(finished.collect(output)[0])[0].render("csv")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
@pytest.mark.parametrize("fork", [[], ["--no-fork"]], ids=["fork", "spawn"])
@pytest.mark.parametrize("options", [[], ["TRAIN.CHECKPOINT_FREQ", "1"]], ids=["", "checkpoints"])
def test_killed_ten_times_the_table_is_the_same(place, fork, options):
    """Driver, worker or both are killed; KILL_SEED in the environment repeats the moments of a failure."""
    seed = int(os.environ.get("KILL_SEED", time.time_ns() % 10**9))
    print(f"KILL_SEED={seed}")
    rng = random.Random(seed)
    asked = ["few_shot", "--shots", 1, 2, 4, 8, 16, "--seeds", 1, 2, "--jobs", 4, *fork]
    assert sweep(*asked, "--", "SLEEP", "0.01", *options, output="whole").returncode == 0
    hit = 0
    for _ in range(KILLS):
        length = rng.choice(["0.8", "20"])  # some end in between, some would outlive the look for what is left
        line = [*command(*asked, output="cut"), "--", "SLEEP", length, *options]
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(rng.uniform(0.3, 2.5))
        for pid in victims(process.pid, rng, place):
            hit += 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if process.poll() is None:
            process.send_signal(rng.choice([signal.SIGKILL, signal.SIGTERM]))
        said = process.communicate(timeout=30)[1]
        assert "Traceback" not in said
        until = time.time() + 5
        while processes_in(place):
            assert time.time() < until, "a process is left"
            time.sleep(0.05)
    assert hit >= KILLS
    last = sweep(*asked, "--", "SLEEP", "0.01", *options, output="cut")
    assert last.returncode == 0, last.stderr
    assert rendered("cut") == rendered("whole")
    assert not list(place.rglob("*.tmp")) and not processes_in(place)


def victims(driver, rng, place):
    """Ids of the driver, of one of its runs, or of both."""
    workers = [pid for pid in processes_in(place) if pid != driver]
    worker = [rng.choice(workers)] if workers else []
    return rng.choice([[driver], worker or [driver], [driver, *worker]])
