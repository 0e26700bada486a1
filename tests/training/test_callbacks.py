"""What happens around the updates of `fit`."""

import json
import math
import os
import signal
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp import MetaLearner
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta import multi_step_loss, schedules
from tf_mamlpp.meta.schedules import Schedules
from tf_mamlpp.records.run_files import read_metrics, read_updates
from tf_mamlpp.training.callbacks import MetricsFile, Progress, StabilityWarnings, StopOnNonFinite, UpdatesFile
from tf_mamlpp.training.checkpoint_callback import Interrupted, SaveCheckpoints


@pytest.fixture
def make_learner():
    def make(**settings):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        learner = MetaLearner(model, way=3, **{"inner_steps": 2, "learned_rates": True, **settings})
        learner.compile(keras.optimizers.Adam(0.01))
        return learner

    return make


@pytest.fixture
def episodes(make_tasks):
    return tf.data.Dataset.from_tensors(make_tasks(shape=(4,), dtype="float32")).repeat()


class FakeCheckpoints:
    """Remembers what it is told to save."""

    def __init__(self):
        self.seconds, self.update, self.saved, self.best = 100.0, 0, [], []

    def save(self, update, seconds):
        self.saved.append(update)
        self.update = update

    def save_best(self, update, epoch, score):
        self.best.append((update, epoch, score))


def make_saver(start=0, **settings):
    settings = {"every": 2, "updates": 5, "score": "accuracy", **settings}
    saver = SaveCheckpoints(FakeCheckpoints(), start=start, **settings)
    return saver, saver.checkpoints


# --- Schedules ------------------------------------------------------------------------------------------


class Watch(keras.callbacks.Callback):
    """What the learner is set to during each epoch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        learner = self.model
        self.seen.append(
            (float(learner.optimizer.learning_rate), learner.phase.second_order, learner.loss_weights.numpy().tolist())
        )


def test_schedules_follow_the_pure_functions(make_learner, episodes):
    learner, watch = (
        make_learner(
            cosine_annealing=True,
            derivative_order_annealing=True,
            second_order_from_epoch=2,
            multi_step_loss=True,
            multi_step_loss_epochs=1,
            minimum_rate=1e-4,
        ),
        Watch(),
    )
    learner.fit(episodes, epochs=3, steps_per_epoch=1, callbacks=[Schedules(4, 0.01), watch], verbose=0)
    for epoch, (rate, second_order, weights) in enumerate(watch.seen):
        assert rate == pytest.approx(schedules.cosine_rate(epoch, 4, 0.01, 1e-4), rel=1e-6)
        assert second_order == (epoch >= 2)
        assert weights == pytest.approx(multi_step_loss.loss_weights(epoch, 2, 1))


def test_schedules_take_the_rate_and_the_epochs_of_fit(make_learner, episodes):
    learner, watch = make_learner(cosine_annealing=True, minimum_rate=0.0), Watch()
    learner.fit(episodes, epochs=2, steps_per_epoch=1, callbacks=[watch], verbose=0)
    assert [rate for rate, _, _ in watch.seen] == pytest.approx([0.01, 0.005], rel=1e-5)


def test_without_annealing_the_rate_stays(make_learner, episodes):
    learner, watch = make_learner(), Watch()
    learner.fit(episodes, epochs=2, steps_per_epoch=1, callbacks=[watch], verbose=0)
    assert [rate for rate, _, _ in watch.seen] == pytest.approx([0.01, 0.01])


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


# --- SaveCheckpoints ------------------------------------------------------------------------------------


def test_saves_every_so_often_and_with_each_epoch():
    saver, checkpoints = make_saver()
    for epoch in range(2):
        for batch in range(5):
            saver.on_train_batch_end(batch)
        saver.on_epoch_end(epoch, {"val_accuracy": epoch / 10})
    assert checkpoints.saved == [2, 4, 5, 6, 8, 9, 10]  # 9: one update is done again if the validation is broken off
    assert checkpoints.best == [(5, 0, 0.0), (10, 1, 0.1)]


def test_errors_are_better_when_smaller():
    saver, checkpoints = make_saver(minimise=True)
    saver.on_epoch_end(0, {"val_accuracy": 0.3})
    assert checkpoints.best == [(0, 0, -0.3)]


def test_time_goes_on_where_it_stopped():
    saver, _ = make_saver()
    assert 100 <= saver.seconds < 110


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_waits_for_the_update_and_its_checkpoint(number, status, capsys):
    saver, checkpoints = make_saver(start=10)
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as end, saver.signals():
        os.kill(os.getpid(), number)
        assert checkpoints.saved == []
        saver.on_train_batch_end(0)
    assert end.value.code == status
    assert checkpoints.saved == [11]
    assert "saved update 11" in capsys.readouterr().out
    assert signal.getsignal(number) == before


def test_a_signal_in_validation_ends_it(capsys):
    saver, checkpoints = make_saver(start=3, every=100)
    with pytest.raises(Interrupted) as end, saver.signals():
        saver.on_train_batch_end(3)
        saver.on_train_batch_end(4)
        saver.on_test_batch_end(0)
        os.kill(os.getpid(), signal.SIGTERM)
        saver.on_test_batch_end(1)
    assert end.value.code == 143
    assert checkpoints.saved == [4]
    assert checkpoints.best == []
    assert "ended during validation; the same command resumes at update 4" in capsys.readouterr().out


def test_a_signal_after_validation_ends_the_run_with_the_epoch_s_result():
    saver, checkpoints = make_saver(start=4)
    with pytest.raises(Interrupted), saver.signals():
        os.kill(os.getpid(), signal.SIGTERM)
        saver.on_train_batch_end(4)
        saver.on_epoch_end(0, {"val_accuracy": 0.5})
    assert checkpoints.saved == [5]
    assert checkpoints.best == [(5, 0, 0.5)]


def test_a_signal_to_another_worker_ends_this_one_too(capsys):
    told = []
    saver, checkpoints = make_saver(any_worker=lambda flag: bool(told.append(flag)) or len(told) == 3)
    with pytest.raises(Interrupted) as end, saver.signals():
        for batch in range(5):
            saver.on_train_batch_end(batch)
    assert told == [False] * 3
    assert end.value.code == 143
    assert checkpoints.saved == [2, 3]
    assert "saved update 3" in capsys.readouterr().out


def test_a_second_signal_does_not_wait():
    saver, checkpoints = make_saver()
    with pytest.raises(Interrupted), saver.signals():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    assert checkpoints.saved == []


@pytest.mark.parametrize(("start", "kept"), [(3, True), (5, False)])
def test_the_metrics_of_a_broken_epoch_go_on(make_learner, start, kept):
    learner, (saver, _) = make_learner(), make_saver(start=start)
    saver.set_model(learner)
    for v in learner.metrics_variables:
        v.assign(tf.ones_like(v) * 7)
    saver.on_train_begin()
    learner.reset_metrics()
    saver.on_epoch_begin(0)
    assert [float(v) for v in learner.metrics_variables] == [7.0 * kept] * len(learner.metrics_variables)


# --- MetricsFile ----------------------------------------------------------------------------------------


def test_an_epoch_is_a_row(make_learner, tmp_path):
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
    assert row["loss_weights"] == [0.0, 1.0] or sum(row["loss_weights"]) == pytest.approx(1)


def write_rows(path, *updates, tail=""):
    path.write_text("".join(json.dumps({"update": u}) + "\n" for u in updates) + tail)


@pytest.mark.parametrize("tail", ["", '{"upd', "\n\n"])
def test_a_resumed_run_drops_the_rows_to_come_and_half_rows(make_learner, tmp_path, tail):
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


def test_rows_survive_a_kill_while_they_are_dropped(make_learner, tmp_path, monkeypatch):
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


def test_an_update_is_a_line(tmp_path):
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
def test_a_resumed_run_has_every_update_once(tmp_path, cut):
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


def test_a_lost_file_goes_on_in_its_place(tmp_path):
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
        {"update": i, "val_accuracy": a, "val_step_0": 0.2, "inner_rates": {"a": [0.1, -0.1 * (i > 2)]}}
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
    assert [line.partition(":")[0] for line in lines] == ["warning", "note"]
    assert "fell from 0.800 to 0.300 by update 3" in lines[0]
    assert "negative by update 3" in lines[1]
    resumed = watch()
    resumed.on_train_begin()
    resumed.on_epoch_end(0)
    assert capsys.readouterr().err == ""


# --- Progress -------------------------------------------------------------------------------------------


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
