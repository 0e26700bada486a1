"""A run that is killed, at any moment, ends as one that is not."""

import json
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.training.train import train_and_evaluate


def arrays(workdir, name="update-12"):
    reader = tf.train.load_checkpoint(str(workdir / "checkpoints" / name))
    return {key: reader.get_tensor(key) for key in reader.get_variable_to_dtype_map() if "OBJECT_GRAPH" not in key}


def results(workdir):
    return {k: v for k, v in json.loads((workdir / "results.json").read_text()).items() if k != "train_seconds"}


def rows(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith("seconds")} for line in lines]


def assert_same_run(workdir, reference):
    for name in ("update-12", "best-6", "best-12"):
        expected, found = arrays(reference, name), arrays(workdir, name)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            if not key.startswith("seconds"):
                np.testing.assert_array_equal(found[key], value, err_msg=f"{name} {key}")
    assert results(workdir) == results(reference)
    assert rows(workdir) == rows(reference)
    for name in ("updates.csv", "test_tasks.csv"):
        assert (workdir / name).read_bytes() == (reference / name).read_bytes()
    best = [json.loads((folder / "checkpoints" / "best.json").read_text()) for folder in (workdir, reference)]
    assert best[0] == best[1]


@pytest.fixture
def at(tmp_path):
    """The run's folder, and conditions on what it holds."""
    workdir = tmp_path / "run"

    def saved(update):
        return lambda: (workdir / "checkpoints" / f"update-{update}.index").exists()

    def logged(count):
        file = workdir / "metrics.jsonl"
        return lambda: file.exists() and file.read_text().count("\n") >= count

    return workdir, saved, logged


@pytest.mark.slow
def test_killed_before_its_epoch_was_saved_then_terminated_in_the_next(
    at, train_until, finished, command, train_arguments
):
    workdir, saved, logged = at
    # The row of epoch 1 is written, its checkpoint is not: TensorBoard's pictures come between.
    status, _, _ = train_until(workdir, logged(1))
    assert status == -signal.SIGKILL
    assert not saved(6)()
    assert not (workdir / "results.json").exists()

    status, stdout, stderr = train_until(workdir, saved(8), signal.SIGTERM)
    assert status == 128 + signal.SIGTERM, stderr
    assert "after update 5" in stdout
    assert "; the same command resumes at update " in stdout
    assert "Traceback" not in stderr
    assert len(rows(workdir)) == 1
    update = int(stdout.partition("saved update ")[2].partition(";")[0])
    assert 8 <= update < 12
    assert saved(update)()

    done = command("train", *train_arguments(workdir))
    assert done.returncode == 0, done.stderr
    assert f"after update {update}" in done.stdout
    assert_same_run(workdir, finished.workdir)


@pytest.mark.slow
def test_killed_again_and_again(at, train_until, finished, command, train_arguments):
    workdir, saved, logged = at
    (workdir / "checkpoints").mkdir(parents=True)
    train_until(workdir, (workdir / ".lock").exists)
    train_until(workdir, saved(2))
    train_until(workdir, saved(5), pause=0.3)  # in the validation of epoch 1, which takes a second to trace
    assert not logged(1)()
    train_until(workdir, saved(6))
    train_until(workdir, saved(10))
    train_until(workdir, logged(2))
    train_until(workdir, saved(12))  # in the test
    done = command("train", *train_arguments(workdir))
    assert done.returncode == 0, done.stderr
    assert_same_run(workdir, finished.workdir)


@pytest.mark.slow
@pytest.mark.parametrize(
    "update, told", [(2, "saved update"), (5, "ended during validation; the same command resumes at")]
)
def test_terminated_in_the_first_epoch(at, train_until, finished, command, train_arguments, update, told):
    workdir, saved, logged = at
    status, stdout, _ = train_until(workdir, saved(update), signal.SIGTERM)
    assert status == 143
    assert told in stdout
    assert not logged(1)() and not saved(6)()
    done = command("train", *train_arguments(workdir))
    assert done.returncode == 0, done.stderr
    assert_same_run(workdir, finished.workdir)


@pytest.mark.slow
def test_a_damaged_latest_checkpoint_costs_only_time(finished, tmp_path, command, train_arguments):
    workdir = shutil.copytree(finished.workdir, tmp_path / "run")
    file = workdir / "checkpoints" / "update-12.data-00000-of-00001"
    file.write_bytes(file.read_bytes()[:-100])
    done = command("train", *train_arguments(workdir))
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "update-12' cannot be read" in done.stderr
    assert "after update 11" in done.stdout
    assert_same_run(workdir, finished.workdir)


@pytest.fixture(scope="module")
def short(tiny_config, tmp_path_factory):
    """A finished run of this process, of one graph: (config, folder, results)."""
    config, workdir = tiny_config(), tmp_path_factory.mktemp("short") / "run"
    return config, workdir, train_and_evaluate(config, workdir)


@pytest.mark.parametrize("stop", [pytest.param(3, marks=pytest.mark.slow), pytest.param(6, marks=pytest.mark.slow), 9])
def test_a_run_that_dies_at_any_update(short, tmp_path, monkeypatch, stop):
    """The process lives on here, the run does not: nothing is saved on the way out."""
    from tf_mamlpp.training.checkpoint_callback import SaveCheckpoints

    config, reference, expected = short
    count = 0
    after_update = SaveCheckpoints.on_train_batch_end

    def dying(self, batch, logs=None):
        nonlocal count
        count += 1
        if count == stop:
            raise RuntimeError("power cut")
        after_update(self, batch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(SaveCheckpoints, "on_train_batch_end", dying)
        with pytest.raises(RuntimeError, match="power cut"):
            train_and_evaluate(config, tmp_path)
    found = train_and_evaluate(config, tmp_path)
    assert {**found, "train_seconds": 0} == {**expected, "train_seconds": 0}
    assert_same_run(tmp_path, reference)


def test_a_finished_run_that_lost_its_list_of_best_epochs(short, tmp_path):
    config, reference, _ = short
    workdir = shutil.copytree(reference, tmp_path / "run")
    (workdir / "checkpoints" / "best.json").unlink()
    with pytest.raises(UserError, match="epoch"):
        train_and_evaluate(config, workdir)


@pytest.mark.slow
def test_a_line_of_metrics_cut_short(short, tmp_path):
    config, reference, _ = short
    workdir = shutil.copytree(reference, tmp_path / "run")
    for file in (workdir / "checkpoints").glob("update-12.*"):
        file.unlink()
    text = (workdir / "metrics.jsonl").read_text()
    (workdir / "metrics.jsonl").write_text(text[:-30])
    train_and_evaluate(config, workdir)
    assert_same_run(workdir, reference)
