"""One thread everywhere: what is computed here is small, and a second thread only waits for the first."""

import os
import sys
import tempfile
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # read on import, inherited
CACHE = tempfile.TemporaryDirectory(prefix="cilmp-tests-", ignore_cleanup_errors=True)
os.environ["XDG_CACHE_HOME"] = CACHE.name  # tests keep nothing in the user's cache
sys.path.insert(0, str(Path(__file__).parent))  # what tests share: models.py
sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # programs that measure

import torch  # noqa: E402

torch.set_num_threads(1)
