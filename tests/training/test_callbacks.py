"""What happens around the updates of `fit`."""

import json
import math
import os
import time

import numpy as np
import pytest

from tf_mamlpp.errors import UserError
from tf_mamlpp.records.run_files import read_metrics, read_updates
from tf_mamlpp.training.callbacks import MetricsFile, Progress, StabilityWarnings, StopOnNonFinite, UpdatesFile

# --- StopOnNonFinite ------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_names_the_update(loss):
    stop = StopOnNonFinite(40)
    stop.on_train_batch_end(0, {"meta_loss": 1.0})
    with pytest.raises(UserError, match=f"loss is {loss} at update 42"):
        stop.on_train_batch_end(1, {"meta_loss": loss})


def test_a_leap_of_the_gradient_before_it_is_told():
    stop = StopOnNonFinite(40)
    for norm in (1.0, 1.0, 1.0, 1.0, 900.0):
        stop.on_train_batch_end(0, {"meta_loss": 1.0, "gradient_norm": norm})
    with pytest.raises(
        UserError, match="nan at update 46; the meta-gradient's norm had leapt from about 1 to 900; the"
    ):
        stop.on_train_batch_end(0, {"meta_loss": math.nan, "gradient_norm": math.nan})


def test_an_infinite_gradient_that_was_clipped_is_no_failure():
    stop = StopOnNonFinite(0)
    stop.on_epoch_end(0, {"loss": 1.0, "gradient_norm": math.inf})
    with pytest.raises(UserError, match="loss is inf after update 0"):
        stop.on_epoch_end(0, {"loss": math.inf, "gradient_norm": 1.0})


# --- MetricsFile ----------------------------------------------------------------------------------------


def test_an_epoch_is_a_row(make_saver, make_learner, tmp_path):
    learner, (saver, _) = make_learner(), make_saver(start=5)
    file = MetricsFile(tmp_path / "metrics.jsonl", saver)
    file.set_model(learner)
    file.on_train_begin()
    file.on_epoch_begin(0)
    for wait in (0.0, 0.02, 0.02):
        file.on_train_batch_begin(0)
        time.sleep(wait)
        file.on_train_batch_end(0)
    file.on_epoch_end(0, {"loss": np.float32(0.5), "val_accuracy": 1, "gradient_norm": 3.0})
    (row,) = read_metrics(file.path)
    assert (row["epoch"], row["update"], row["loss"], row["val_accuracy"]) == (1, 5, 0.5, 1.0)
    assert "gradient_norm" not in row  # of the last update alone
    assert 0.02 <= row["seconds_per_update"] < 1
    assert row["inner_rate_minimum"] == row["inner_rate_maximum"] == pytest.approx(0.1)
    assert row["loss_weights"] == [0.0, 1.0]


def write_rows(path, *updates, tail=""):
    path.write_text("".join(json.dumps({"update": u}) + "\n" for u in updates) + tail)


@pytest.mark.parametrize("tail", ["", '{"upd', "\n\n"])
def test_a_resumed_run_drops_the_rows_to_come_and_half_rows(make_saver, make_learner, tmp_path, tail):
    learner, (saver, _) = make_learner(), make_saver(start=12)
    file = MetricsFile(tmp_path / "metrics.jsonl", saver)
    file.set_model(learner)
    for updates in ((5, 10), (5, 10, 15)):
        write_rows(file.path, *updates, tail=tail)
        file.on_train_begin()
        saver.update = 15
        file.on_epoch_end(2, {"loss": 0.5})
        assert [json.loads(line)["update"] for line in file.path.read_text().split("\n")[:-1]] == [5, 10, 15]
        saver.update = 12


def test_rows_survive_a_kill_while_they_are_dropped(make_saver, make_learner, tmp_path, monkeypatch):
    saver, _ = make_saver(start=7)
    file = MetricsFile(tmp_path / "metrics.jsonl", saver)
    write_rows(file.path, 5, 10)
    sizes, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (sizes.append(file.path.stat().st_size), replace(a, b)))
    before = file.path.stat().st_size
    file.on_train_begin()
    assert sizes == [before]  # whole until it was replaced
    assert [row["update"] for row in read_metrics(file.path)] == [5]


def test_no_metrics_yet(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []


# --- UpdatesFile ----------------------------------------------------------------------------------------


def log(update):
    return {"update_loss": update / 8, "gradient_norm": 1 / 3, "meta_loss": 9.0}


def test_an_update_is_a_line(make_saver, tmp_path):
    saver, _ = make_saver()
    file = UpdatesFile(tmp_path / "updates.csv", saver)
    file.on_train_begin()
    for update in (1, 2):
        file.on_train_batch_end(0, {**log(update), **({"clipped": 0.25} if update == 2 else {})})
        saver.update = update
    assert (
        file.path.read_text() == "update,update_loss,gradient_norm,clipped\n1,0.125,0.333333,0\n2,0.25,0.333333,0.25\n"
    )


@pytest.mark.parametrize("cut", [0, 3])
def test_a_resumed_run_has_every_update_once(make_saver, tmp_path, cut):
    saver, _ = make_saver()
    file = UpdatesFile(tmp_path / "updates.csv", saver)

    def train(until):
        file.on_train_begin()
        for update in range(saver.update + 1, until + 1):
            file.on_train_batch_end(0, log(update))
            saver.update = update

    train(7)
    whole = file.path.read_text()
    saver.update = 4  # killed after update 7, in the middle of its line; the checkpoint is of update 4
    file.path.write_text(whole[: len(whole) - cut])
    train(7)
    assert file.path.read_text() == whole
    np.testing.assert_array_equal(read_updates(file.path)["update"], range(1, 8))


def test_a_lost_file_goes_on_in_its_place(make_saver, tmp_path):
    saver, _ = make_saver()
    file = UpdatesFile(tmp_path / "updates.csv", saver)
    saver.update = 3  # resumed here, and the file is gone
    file.on_train_begin()
    file.on_train_batch_end(0, log(4))
    series = read_updates(file.path)
    np.testing.assert_array_equal(series["update"], [1, 2, 3, 4])
    np.testing.assert_array_equal(np.isnan(series["update_loss"]), [True, True, True, False])


# --- StabilityWarnings ----------------------------------------------------------------------------------


def write_epochs(path, accuracies):
    rows = [
        {"update": i, "val_accuracy": a, "inner_rates": {"a": [0.1, -0.1 * (i > 2)]}}
        | {"val_step_0": 0.2, "val_step_1": a + 0.1, "val_step_2": a}
        for i, a in enumerate(accuracies, 1)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_finding_is_told_once(make_learner, tmp_path, capsys):
    def watch():
        warnings = StabilityWarnings(tmp_path / "metrics.jsonl", tmp_path / "updates.csv")
        warnings.set_model(make_learner())
        return warnings

    warnings = watch()
    warnings.on_train_begin()
    for count in range(1, 5):
        write_epochs(warnings.metrics, [0.8, 0.7, 0.3, 0.3][:count])
        warnings.on_epoch_end(0)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["warning", "note", "note"]
    assert "fell from 0.800 to 0.300 by update 3" in lines[0]
    told = sorted(line.partition(": ")[2] for line in lines[1:])
    assert told[0].startswith("a learned rate turned negative by update 3")
    assert told[1].startswith("inner step 1 is the best")  # in the next epoch too
    resumed = watch()
    resumed.on_train_begin()
    resumed.on_epoch_end(0)
    assert capsys.readouterr().err == ""


# --- Progress -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_progress_away_from_a_terminal_is_a_line_an_epoch(make_learner, episodes, capsys):
    learner = make_learner()
    learner.fit(
        episodes,
        epochs=3,
        steps_per_epoch=2,
        validation_data=episodes.take(1),
        callbacks=[Progress(3)],
        verbose=0,
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[0] for line in lines if line.startswith("Epoch")] == [f"Epoch {k}/3" for k in (1, 2, 3)]
    assert sum(line.startswith("Epoch") and "left" in line for line in lines) == 2
    results = [line for line in lines if line.startswith("2/2")]
    assert len(results) == 3
    for name in ("meta_loss: ", "accuracy: ", "val_loss: ", "val_accuracy: "):
        assert name in results[0]
    assert "step_1" not in results[0]
