import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module", autouse=True)
def one_core():
    """What is computed here is small: a second thread only waits for the first, for long on a busy machine."""
    import sklearn.manifold  # noqa: F401  so that its libraries are there to be told
    import torch
    from threadpoolctl import threadpool_limits

    threads, environment = torch.get_num_threads(), dict(os.environ)
    torch.set_num_threads(1)
    os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(environment)
