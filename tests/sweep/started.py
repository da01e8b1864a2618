"""How tests start a sweep: as a user does, over the stand-in program."""

import os
import subprocess
import sys
from pathlib import Path


def command(protocol="base2new", *more, output="out", trainers=("ZeroshotCLIP", "CoOp", "CILMP")):
    base = [sys.executable, "-m", "cilmp.sweep", protocol, "--program", "program.py", "--output", output]
    return [*base, "--trainers", *trainers, *map(str, more)]


def sweep(*args, **kwargs):
    return subprocess.run(command(*args, **kwargs), capture_output=True, text=True, timeout=60)


def processes_in(folder):
    """Ids of the living processes, other than this, whose working folder it is; Linux alone tells."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.name != str(os.getpid()) and os.readlink(process / "cwd") == str(folder):
                found.append(int(process.name))
        except OSError:  # it has ended
            continue
    return found


# stands in for SLURM's: runs the array's tasks one after another
SBATCH = """#!{python}
import os, re, subprocess, sys
print(len(open("calls", "a+").write(" ".join(sys.argv[1:]) + "\\n") and "x") + 40)
script = sys.argv[-1]
last = int(re.search(r"--array=0-(\\d+)", open(script).read())[1])
for index in range(last + 1):
    subprocess.run(["bash", script], env=os.environ | {{"SLURM_ARRAY_TASK_ID": str(index)}}, stdout=subprocess.DEVNULL)
"""
