from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Where the phantoms are drawn, once."""
    return tmp_path_factory.mktemp("data")
