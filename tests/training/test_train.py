"""Whole runs in this process.  As commands: tests/cli."""

import concurrent.futures
import json
import math
import signal

import pytest
import tensorflow as tf

from tf_mamlpp.config import Model
from tf_mamlpp.errors import UserError
from tf_mamlpp.training import results, train, workdir


def kept(workdir):
    """All that a run leaves, without times."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rows = [{k: v for k, v in json.loads(line).items() if not k.startswith("seconds")} for line in lines]
    arrays = {}
    for file in sorted((workdir / "checkpoints").glob("*.index")):
        reader = tf.train.load_checkpoint(str(file.with_suffix("")))
        names = (name for name in reader.get_variable_to_dtype_map() if "OBJECT_GRAPH" not in name)
        values = {f"{file.stem} {name}": reader.get_tensor(name).tolist() for name in names if "seconds" not in name}
        arrays.update(values)
    files = [(workdir / "updates.csv").read_text(), (workdir / "checkpoints" / "best.json").read_text()]
    return rows, arrays, files, (workdir / "test_tasks.csv").read_text(), (workdir / "config.json").read_text()


def test_a_folder_in_use_is_refused_before_any_picture_is_read(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "load_banks", lambda *args: pytest.fail("read pictures first"))
    with workdir.claim_workdir(make_config(), tmp_path), pytest.raises(UserError, match="in use"):
        train.train_and_evaluate(make_config(), tmp_path)


def test_a_wrong_model_is_told_before_any_picture_is_read(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "load_banks", lambda *args: pytest.fail("read pictures first"))
    config = make_config(model=Model(name="conv4", blocks=9))
    with pytest.raises(UserError, match="use fewer blocks"):
        train.train_and_evaluate(config, tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_an_error_of_the_data_is_none_of_the_folder(make_config, tmp_path, monkeypatch):
    def unplugged(*args):
        raise OSError(5, "Input/output error", "/disk/cat.png")

    monkeypatch.setattr(train, "load_banks", unplugged)
    with pytest.raises(OSError, match=r"\[Errno 5\] Input/output error: '/disk/cat.png'"):
        train.train_and_evaluate(make_config(), tmp_path)


@pytest.mark.slow
def test_outside_the_main_thread(sinusoid, tmp_path):
    handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = pool.submit(train.train_and_evaluate, sinusoid, tmp_path).result()
    assert found["train_steps"] == 6
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == handlers


@pytest.mark.slow
@pytest.mark.parametrize("file", ["results.json", "test_tasks.csv"])
def test_results_that_cannot_be_written(sinusoid, tmp_path, file):
    (tmp_path / file).mkdir()
    with pytest.raises(UserError, match=f"cannot write in '{tmp_path}': .*; free some space or mend its permissions"):
        train.train_and_evaluate(sinusoid, tmp_path)


@pytest.mark.slow
def test_the_sinusoid_from_config_to_results(sinusoid, tmp_path):
    config = sinusoid
    found = train.train_and_evaluate(config, str(tmp_path))
    assert found["dataset"] == "sinusoid"
    assert math.isfinite(found["mean_squared_error"])
    assert len(found["mean_squared_error_per_inner_step"]) == 2
    assert "nearest_pixel" not in found
    assert json.loads((tmp_path / "results.json").read_text()) == found
    best = json.loads((tmp_path / "checkpoints" / "best.json").read_text())
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert best[0]["score"] == -min(row["val_mean_squared_error"] for row in rows)
    assert train.train_and_evaluate(config, tmp_path) == found
    (again,) = results.evaluate_run(tmp_path, ["batch"], ensemble=2)
    assert again["mean_squared_error"] == found["mean_squared_error"]


@pytest.mark.slow
@pytest.mark.parametrize("annealing", [False, True])
def test_more_epochs_are_those_of_a_run_that_had_them_from_its_beginning(
    with_epochs, sinusoid, tmp_path, capsys, annealing
):
    learner = {"cosine_annealing": annealing, "multi_step_loss": True, "multi_step_loss_epochs": 2}
    old = 2 if annealing else None
    train.train_and_evaluate(with_epochs(sinusoid, 2, **learner), tmp_path / "grown")
    more = with_epochs(sinusoid, 3, annealing=old, **learner)
    found = train.train_and_evaluate(more, tmp_path / "grown")
    assert f"the run in '{tmp_path / 'grown'}' goes on from 2 to 3 epochs" in capsys.readouterr().out
    fresh = train.train_and_evaluate(more, tmp_path / "fresh")
    assert kept(tmp_path / "grown") == kept(tmp_path / "fresh")
    found.pop("train_seconds"), fresh.pop("train_seconds")
    assert found == fresh and found["train_steps"] == 9
    rates = [row["learning_rate"] for row in kept(tmp_path / "grown")[0]]
    assert rates == pytest.approx([1e-3, (1e-3 + 1e-5) / 2, 1e-5] if annealing else [1e-3] * 3, rel=1e-6)
    with pytest.raises(UserError, match="training.epochs: 3, 2"):
        train.train_and_evaluate(with_epochs(sinusoid, 2, **learner), tmp_path / "grown")


@pytest.mark.slow
def test_fewer_epochs_than_are_annealed_are_the_first_of_them(with_epochs, sinusoid, tmp_path):
    whole = with_epochs(sinusoid, 2, cosine_annealing=True)
    train.train_and_evaluate(whole, tmp_path / "whole")
    train.train_and_evaluate(with_epochs(sinusoid, 1, cosine_annealing=True, annealing=2), tmp_path / "part")
    assert kept(tmp_path / "part")[0] == kept(tmp_path / "whole")[0][:1]
