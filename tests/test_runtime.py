"""What is told of the machine and of Keras before anything is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tf_mamlpp import runtime

ROOT = Path(__file__).parents[1]
MESSAGE = "KERAS_BACKEND is jax, and tf_mamlpp needs tensorflow: unset it"


@pytest.mark.parametrize(
    "command",
    [
        ["-c", "import tf_mamlpp as mp; mp.MetaLearner"],
        ["bin/train.py", "--config=configs/quickstart.py", "--workdir=never"],
    ],
)
def test_another_backend_is_one_line(command):
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)},
    )
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1 and lines[-1].endswith(MESSAGE)
    assert command[0] == "-c" or len(lines) == 1


@pytest.mark.parametrize("machine, expected", [("x86_64", "1"), ("AMD64", "1"), ("aarch64", None)])
def test_onednn_is_on_for_x86_alone(machine, expected, monkeypatch):
    variables = {}
    monkeypatch.setattr("platform.machine", lambda: machine)
    runtime.set_environment(variables)
    assert variables.get("TF_ENABLE_ONEDNN_OPTS") == expected
