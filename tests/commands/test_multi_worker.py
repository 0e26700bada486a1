"""Two processes on the loopback train one run together."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

ROOT = Path(__file__).parents[2]
SETTINGS = (
    "--config=configs/sinusoid.py:method=maml++,epochs=2",
    "--config.training.updates=6",
    "--config.training.tasks=4",
    "--config.training.checkpoint_updates=2",
    "--config.evaluation.validation_tasks=8",
    "--config.evaluation.test_tasks=8",
    "--config.evaluation.ensemble=2",
    "--config.learner.gradient_clip=0.5",
)


def start(workdir, *flags, index=None, addresses=()):
    """One worker; without an index a process that trains alone."""
    environment = {k: v for k, v in os.environ.items() if k != "TF_CONFIG"}
    if index is not None:
        task = {"type": "worker", "index": index}
        environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
        flags = (*flags, "--config.training.strategy=multi_worker")
    return subprocess.Popen(
        [sys.executable, "bin/train.py", *SETTINGS, f"--workdir={workdir}", *flags],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def pair(session_cache):
    """Starts the two workers of a run: pair(folder of the chief, folder of the other); none is left at the end."""
    started = []

    def begin(*workdirs, flags=((), ())):
        with socket.create_server(("127.0.0.1", 0)) as a, socket.create_server(("127.0.0.1", 0)) as b:
            addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in (a, b)]
        for index, workdir in enumerate(workdirs):
            started.append(start(workdir, *flags[index], index=index, addresses=addresses))
        return started[-len(workdirs) :]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def finish(*processes):
    """Statuses, and what was printed, of processes that end by themselves."""
    printed = [p.communicate(timeout=300) for p in processes]
    return [p.returncode for p in processes], [out for out, _ in printed], [err for _, err in printed]


def wait_for(file, processes):
    give_up = time.monotonic() + 300
    while not file.exists():
        assert all(p.poll() is None for p in processes), finish(*processes)
        assert time.monotonic() < give_up
        time.sleep(0.003)


def arrays(workdir, name):
    reader = tf.train.load_checkpoint(str(workdir / "checkpoints" / name))
    keys = (k for k in reader.get_variable_to_dtype_map() if "OBJECT_GRAPH" not in k and not k.startswith("seconds"))
    return {key: reader.get_tensor(key) for key in keys}


def numbers(workdir):
    """Everything that a run measured, but for times."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    rows += [
        json.loads((workdir / "results.json").read_text()),
        *json.loads((workdir / "checkpoints/best.json").read_text()),
    ]
    unlike = ("seconds", "seconds_per_update", "train_seconds", "index_crc32")
    return [{k: v for k, v in row.items() if k not in unlike} for row in rows]


def assert_same(workdir, reference, **tolerance):
    """Runs are alike in all that they left; without a tolerance, to the bit."""
    for name in ("update-12", "best-6", "best-12"):
        expected, found = arrays(reference, name), arrays(workdir, name)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, err_msg=f"{name} {key}", **{"rtol": 0, **tolerance})
    assert_same_numbers(workdir, reference, **tolerance)


def assert_same_numbers(workdir, reference, **tolerance):
    for file in ("updates.csv", "test_tasks.csv"):
        tables = [np.genfromtxt(folder / file, delimiter=",", skip_header=1) for folder in (workdir, reference)]
        np.testing.assert_allclose(*tables, **{"rtol": 0, **tolerance})
    for found, expected in zip(numbers(workdir), numbers(reference), strict=True):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            if isinstance(value, float | list) and tolerance:
                np.testing.assert_allclose(found[key], value, err_msg=key, **tolerance)
            elif not isinstance(value, dict) or not tolerance:
                assert found[key] == value, key


@pytest.fixture(scope="module")
def alone(session_cache, tmp_path_factory):
    """The folder of a run of one process."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    statuses, _, errors = finish(start(workdir))
    assert statuses == [0], errors
    return workdir


@pytest.mark.slow
def test_two_workers_train_as_one_and_only_the_chief_writes(pair, alone, tmp_path):
    chief, other = tmp_path / "chief", tmp_path / "other"
    statuses, printed, errors = finish(*pair(chief, other))
    assert statuses == [0, 0], errors
    assert errors == ["", ""]
    assert not other.exists()
    assert {f.name for f in chief.iterdir()} == {f.name for f in alone.iterdir()}
    waiting, *rest = printed[1].splitlines(keepends=True)
    assert waiting.startswith("waiting for the other 1 of 2 workers (127.0.0.1:")
    assert printed[0].endswith("".join(rest)) and "mean_squared_error" in printed[1] and "Epoch" not in printed[1]
    assert_same(chief, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_two_workers_train_on_pictures_as_one(pair, tmp_path):
    """Batch norm's running statistics decide the validation; the second epoch is second order."""
    flags = (
        "--config=configs/testing.py:epochs=2",
        "--config.model.filters=4",
        "--config.learner.evaluation_statistics=running",
    )
    (status,), _, errors = finish(start(tmp_path / "alone", *flags))
    assert status == 0, errors
    statuses, _, errors = finish(*pair(tmp_path / "run", tmp_path / "nowhere", flags=(flags, flags)))
    assert statuses == [0, 0], errors
    # Not the weights: biases before batch norm have no gradient but rounding, which Adam makes steps of full size.
    tables = [np.genfromtxt(tmp_path / run / "updates.csv", delimiter=",")[1:] for run in ("run", "alone")]
    np.testing.assert_allclose(*tables, rtol=1e-3, atol=1e-4)
    for found, expected in zip(*(numbers(tmp_path / run) for run in ("run", "alone")), strict=True):
        for key in expected.keys() & {"loss", "val_loss", "meta_loss"}:
            assert found[key] == pytest.approx(expected[key], rel=1e-3), key
        # Rounding may turn the answer to a picture or two, of 40.
        for key in expected.keys() & {"accuracy", "val_accuracy"}:
            assert found[key] == pytest.approx(expected[key], abs=0.051), key


@pytest.fixture(scope="module")
def whole(pair, tmp_path_factory):
    """The folder of a run of two workers, unbroken."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    statuses, _, errors = finish(*pair(workdir, workdir))
    assert statuses == [0, 0], errors
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_when_a_worker_is_killed_the_other_ends_and_both_resume(pair, whole, tmp_path, victim):
    workdir = tmp_path / "run"
    workers = pair(workdir, tmp_path / "nowhere")
    wait_for(workdir / "checkpoints" / "update-8.index", workers)
    workers[victim].kill()
    then = time.monotonic()
    (status,), _, (error,) = finish(workers[1 - victim])
    assert time.monotonic() - then < 60
    assert status == 75
    (line,) = error.splitlines()
    assert f"worker {victim} of this run has ended or cannot be reached: start all workers again" in line

    statuses, printed, errors = finish(*pair(workdir, tmp_path / "nowhere"))
    assert statuses == [0, 0], errors
    assert all(re.search("after update (8|10|11)", text) for text in printed)
    assert not (tmp_path / "nowhere").exists()
    assert_same(workdir, whole)


@pytest.mark.slow
def test_a_worker_that_hangs_is_given_up(pair, tmp_path):
    workers = pair(tmp_path, tmp_path)
    wait_for(tmp_path / "checkpoints" / "update-2.index", workers)
    workers[1].send_signal(signal.SIGSTOP)
    then = time.monotonic()
    (status,), _, (error,) = finish(workers[0])
    assert status == 75 and len(error.splitlines()) == 1
    assert time.monotonic() - then < 60


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_sigterm_at_any_worker_ends_all_at_one_update(pair, alone, tmp_path, victim):
    workers = pair(tmp_path / "run", tmp_path / "run")
    wait_for(tmp_path / "run" / "checkpoints" / "update-2.index", workers)
    workers[victim].terminate()
    statuses, printed, errors = finish(*workers)
    assert statuses == [143, 143], errors
    assert errors == ["", ""]
    updates = {text.partition("saved update ")[2].partition(";")[0] for text in printed}
    (update,) = map(int, updates)
    assert (tmp_path / "run" / "checkpoints" / f"update-{update}.index").exists()
    # Another number of workers goes on in the middle of the epoch.
    statuses, (text,), errors = finish(start(tmp_path / "run"))
    assert statuses == [0], errors
    assert f"after update {update}" in text
    assert_same(tmp_path / "run", alone, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_workers_of_two_configs_do_not_start(pair, tmp_path):
    workers = pair(tmp_path / "run", tmp_path / "run", flags=((), ("--config.learner.inner_rate=0.5",)))
    statuses, _, errors = finish(*workers)
    assert statuses == [1, 1]
    assert "this worker's config is not the chief's (learner.inner_rate: 0.01, 0.5)" in errors[1]
    assert "another worker's config is not the chief's, and its own error names what differs" in errors[0]
    assert [len(text.splitlines()) for text in errors] == [1, 1]


@pytest.mark.slow
def test_a_worker_that_waits_says_so_and_ends_at_ctrl_c(pair, tmp_path):
    (worker,) = pair(tmp_path / "run")
    line = worker.stdout.readline()
    assert line.startswith("waiting for the other 1 of 2 workers (127.0.0.1:")
    time.sleep(2)
    assert worker.poll() is None
    worker.send_signal(signal.SIGINT)
    statuses, printed, errors = finish(worker)
    assert (statuses, printed, errors) == ([-signal.SIGINT], [""], [""])
    assert not (tmp_path / "run").exists()
