#!/bin/sh
# Makes the demonstration model again: its own environment, training, export, comparison. Goes on where it was stopped.
# Hours on two CPU cores, minutes on a GPU. PYTHON chooses the interpreter; arguments go to train.py.
set -eu
cd "$(dirname "$0")"
environment=runs/environment
if [ ! -x "$environment/bin/python" ]; then
    "${PYTHON:-python3}" -m venv "$environment"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.txt
fi
nice "$environment/bin/python" train.py "$@"
"$environment/bin/python" export.py
"$environment/bin/python" agreement.py
