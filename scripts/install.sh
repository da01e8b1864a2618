# Sourced by demo.sh and test.sh: an environment of this checkout's own in .venv, made once, then on PATH.
# PYTHON chooses the interpreter (3.10 to 3.13), VENV another place.

VENV=${VENV:-.venv}
EXTRAS=${1:+"[$1]"}
STAMP=$VENV/installed${1:+-$1}

if [ ! -e "$STAMP" ] || [ -n "$(find setup.py pyproject.toml dassl-compat/setup.py -newer "$STAMP")" ]; then
    echo "Installing into $VENV (PyTorch is several gigabytes: minutes, once)"
    "${PYTHON:-python3}" -m venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check ./dassl-compat -e ".$EXTRAS"
    touch "$STAMP"
fi
PATH=$PWD/$VENV/bin:$PATH
case $VENV in /*) PATH=$VENV/bin:$PATH ;; esac
export PATH
