"""A run of thousands of updates through all that `bin/train.py` does: memory stays, nothing is traced again."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tf_mamlpp import config as configs
from tf_mamlpp.training import build, callbacks, fit, train

pytestmark = pytest.mark.slow


def resident():
    """Megabytes of this process's resident memory."""
    status = Path("/proc/self/statm")
    if not status.exists():
        pytest.skip("needs Linux's /proc to see resident memory")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def test_memory_traces_and_files_of_a_long_run(tmp_path, monkeypatch):
    updates, every = 2000, 50
    memory, traces = [], []

    class Recorder(callbacks.Progress):
        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            if (batch + 1) % every == 0:
                memory.append(resident())
                traces.append(self.model.task_loss.traces)

    def counting(task_loss):
        """`task_loss` is called by Python once for each trace of an update."""

        def counted(*arguments):
            counted.traces += 1
            return task_loss(*arguments)

        counted.traces = 0
        return counted

    make_learner = build.make_learner

    def make(config):
        learner = make_learner(config)
        learner.task_loss = counting(learner.task_loss)
        return learner

    monkeypatch.setattr(fit, "Progress", Recorder)
    monkeypatch.setattr(train, "make_learner", make)
    settings = {
        "training": {"updates": every, "epochs": updates // every, "tasks": 2, "checkpoint_updates": 25},
        "evaluation": {"validation_tasks": 4, "test_tasks": 4, "ensemble": 3},
        "model": {"name": "conv4", "filters": 4, "blocks": 2},
        "data": {"image_size": "16,16", "way": 3},
    }
    flags = [f"--config.{section}.{key}={value}" for section, keys in settings.items() for key, value in keys.items()]
    config = configs.load("configs/testing.py:method=maml++", flags)
    train.train_and_evaluate(config, tmp_path)

    # By the tenth epoch every graph is there, and every buffer has had its largest size.
    assert len(memory) == updates // every
    assert max(memory[-10:]) - max(memory[5:15]) < 25, memory
    assert traces[10] == traces[-1], traces
    kinds = {"index", "data-00000-of-00001"}
    names = {file.name for file in (tmp_path / "checkpoints").iterdir()}
    best = [f"best-{e['update']}" for e in json.loads((tmp_path / "checkpoints" / "best.json").read_text())]
    assert len(best) == 3
    kept = ["update-1999", "update-2000", *best]
    assert names == {f"{name}.{kind}" for name in kept for kind in kinds} | {"best.json"}
    (events,) = (tmp_path / "tensorboard").glob("*.v2")
    assert events.stat().st_size < 3e6
    assert (tmp_path / "updates.csv").stat().st_size < 60 * updates
    np.testing.assert_equal(len((tmp_path / "updates.csv").read_text().splitlines()), updates + 1)
