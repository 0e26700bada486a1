"""The commands as processes, a finished run that the tests share, and the same tiny run in this process."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tf_mamlpp import config as configs

ROOT = Path(__file__).parents[2]
TINY = (
    "--config.training.updates=6",
    "--config.training.epochs=2",
    "--config.training.checkpoint_updates=2",
    "--config.evaluation.validation_tasks=8",
    "--config.evaluation.test_tasks=8",
    "--config.evaluation.ensemble=2",
    "--config.model.filters=2",
)


@dataclass
class Run:
    """A finished run: its folder, and what the command printed."""

    workdir: Path
    stdout: str
    stderr: str

    def json(self, name):
        return json.loads((self.workdir / name).read_text())

    def metrics(self):
        return [json.loads(line) for line in (self.workdir / "metrics.jsonl").read_text().splitlines()]


def start(name, *arguments):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "bin" / f"{name}.py"), *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="session")
def command(session_cache):
    """Runs a command of bin/ to its end: command("train", "--workdir=..."), CompletedProcess."""

    def run(name, *arguments):
        process = start(name, *arguments)
        stdout, stderr = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    return run


@pytest.fixture(scope="session")
def train_arguments():
    """The arguments of the tiny run in a folder."""
    return lambda workdir: ["--config=configs/testing.py", *TINY, f"--workdir={workdir}"]


@pytest.fixture(scope="session")
def finished(command, train_arguments, tmp_path_factory):
    """The tiny run, unbroken."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    done = command("train", *train_arguments(workdir))
    assert done.returncode == 0, done.stderr
    return Run(workdir, done.stdout, done.stderr)


@pytest.fixture
def train_until(train_arguments):
    """Starts or resumes the tiny run and sends it a signal as soon as a condition holds.

    Returns the exit status and what it printed.
    """

    def run(workdir, condition, number=signal.SIGKILL, pause=0.0):
        process = start("train", *train_arguments(workdir))
        give_up = time.monotonic() + 240
        while not condition():
            assert process.poll() is None, "the run ended before it could be stopped: " + process.stderr.read()
            assert time.monotonic() < give_up, "the run never came so far"
            time.sleep(0.003)
        time.sleep(pause)
        os.kill(process.pid, number)
        stdout, stderr = process.communicate(timeout=120)
        return process.returncode, stdout, stderr

    return run


@pytest.fixture(scope="session")
def tiny_config():
    """A config that trains in seconds, a plain MLP on glyphs: tiny_config("data.way=3", ...)."""

    def make(*overrides, file="configs/testing.py:method=maml"):
        flags = [*TINY, "--config.model.name=mlp", *(f"--config.{o}" for o in overrides)]
        return configs.load(str(ROOT / file), flags)

    return make


@pytest.fixture(scope="session")
def snapshot():
    """Every file of a folder with its content and time; the lock is nobody's result."""

    def take(folder):
        files = (f for f in sorted(folder.rglob("*")) if f.is_file() and f.name != ".lock")
        return {str(f.relative_to(folder)): (f.read_bytes(), f.stat().st_mtime_ns) for f in files}

    return take


@pytest.fixture(scope="session")
def one_line():
    """Asserts that a process ended as a user's error: status 1, one line on stderr; returns the line."""

    def check(done):
        lines = [line for line in done.stderr.splitlines() if not line.startswith("decoding ")]
        assert done.returncode == 1, done.stderr
        assert len(lines) == 1, done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return lines[0]

    return check
