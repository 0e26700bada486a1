"""The pages Custom Scalars and HParams, and the points and pictures behind them."""

import re

import keras
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from tf_mamlpp import MetaLearner
from tf_mamlpp.errors import UserError
from tf_mamlpp.training import tensorboard
from tf_mamlpp.training.tensorboard import TensorBoard, custom_scalars, write_end, write_hparams


class Saver(keras.callbacks.Callback):
    """What the callback asks of the saver."""

    update = 0

    def on_train_batch_end(self, batch, logs=None):
        self.update += 1


@pytest.fixture
def written(make_tasks, tmp_path):
    """The event file of two epochs of a small learner: written(learned_rates=True)."""

    def fit(**settings):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        learner = MetaLearner(model, way=3, inner_steps=2, gradient_clip=1e-3, **settings)
        learner.compile(keras.optimizers.Adam(0.01))
        data = tf.data.Dataset.from_tensors(make_tasks(shape=(4,), dtype="float32")).repeat()
        saver = Saver()
        board = TensorBoard(tmp_path, saver, None, every=2)
        learner.fit(
            data, epochs=2, steps_per_epoch=3, validation_data=data.take(1), callbacks=[board, saver], verbose=0
        )
        return EventAccumulator(str(tmp_path)).Reload()

    return fit


def scalars(events, tag):
    return [(point.step, float(tf.make_ndarray(point.tensor_proto))) for point in events.Tensors(tag)]


@pytest.mark.slow
def test_every_chart_of_the_first_page_has_its_data(written):
    events = written(learned_rates=True)
    tags = set(events.Tags()["tensors"])
    layout = layout_pb2.Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    assert [group.title for group in layout.category] == ["Is it learning?", "Is it stable?", "How fast?"]
    for group in layout.category:
        for chart in group.chart:
            for pattern in chart.multiline.tag:
                assert any(re.search(pattern, tag) for tag in tags), (chart.title, pattern)
    assert {"accuracy/train", "accuracy/validation", "rates/table"} <= tags
    assert sorted(tags - {"_hparams_", "custom_scalars__config__"})[0].startswith("accuracy")


@pytest.mark.slow
def test_stability_is_the_largest_since_the_last_point(written):
    events = written()
    points = scalars(events, "stability/largest_gradient_norm")
    assert [step for step, _ in points] == [2, 4, 6]
    assert all(value > 0 for _, value in points)
    assert all(0 < value <= 1 for _, value in scalars(events, "stability/largest_clipped"))


def test_rates_that_are_not_learned_are_not_drawn(written):
    assert not [tag for tag in written().Tags()["tensors"] if tag.startswith("rates/")]


def test_a_layout_for_regression():
    (value,) = custom_scalars("mean_squared_error", every=25).value
    layout = layout_pb2.Layout.FromString(value.tensor.string_val[0])
    assert "^mean_squared_error/validation$" in layout.category[0].chart[0].multiline.tag


def plugin_data(events, tag):
    return plugin_data_pb2.HParamsPluginData.FromString(events.SummaryMetadata(tag).plugin_data.content)


@pytest.mark.slow
def test_pictures_of_a_long_run_are_bounded(make_tasks, tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard, "_PICTURES", 2)
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    learner = MetaLearner(model, way=3, inner_steps=1, learned_rates=True)
    learner.compile(keras.optimizers.Adam(0.01))
    data = tf.data.Dataset.from_tensors(make_tasks(shape=(4, 4, 1), dtype="float32")).repeat()
    saver = Saver()
    board = TensorBoard(tmp_path, saver, data.take(1), every=2)
    learner.fit(data, epochs=7, steps_per_epoch=1, validation_data=data.take(1), callbacks=[board, saver], verbose=0)
    events = EventAccumulator(str(tmp_path)).Reload()
    for tag in ("tasks/support_then_query", "rates/table"):
        assert [point.step for point in events.Tensors(tag)] == [4, 7]
    assert len(scalars(events, "loss/train")) == 7


def test_events_that_cannot_be_written(make_tasks, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write in '.*file/events'"):
        write_end(tmp_path / "file" / "events", None, "accuracy")
    board = TensorBoard(tmp_path / "file" / "events", Saver(), tf.data.Dataset.range(0))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    learner = MetaLearner(model, way=3, inner_steps=1)
    learner.compile()
    data = tf.data.Dataset.from_tensors(make_tasks(shape=(4,), dtype="float32"))
    with pytest.raises(UserError, match="cannot write in '.*file/events'"):
        learner.fit(data, callbacks=[board], verbose=0)


@pytest.mark.parametrize("done", [True, False])
def test_a_run_is_in_hparams(tmp_path, done):
    values = {"method": "maml++", "seed": 3, "learned_rates": True}
    write_hparams(tmp_path, "maml++, seed 3", values, "accuracy")
    results = {"accuracy": 0.75, "single_model": {"accuracy": 0.5}, "train_steps": 60}
    write_end(tmp_path, results if done else None, "accuracy")
    events = [EventAccumulator(str(file)).Reload() for file in sorted(tmp_path.iterdir())]
    first, last = sorted(events, key=lambda e: "_hparams_/session_end_info" in e.Tags()["tensors"])
    start = plugin_data(first, "_hparams_/session_start_info").session_start_info
    assert start.group_name == "maml++, seed 3"
    assert start.hparams["method"].string_value == "maml++"
    assert (start.hparams["seed"].number_value, start.hparams["learned_rates"].bool_value) == (3, True)
    experiment = plugin_data(first, "_hparams_/experiment").experiment
    assert {info.name.tag for info in experiment.metric_infos} >= {"test/accuracy", "accuracy/validation"}
    end = plugin_data(last, "_hparams_/session_end_info").session_end_info
    assert end.status == (1 if done else 2)  # success, failure
    if done:
        assert scalars(last, "test/accuracy") == [(60, 0.75)]
        assert scalars(last, "test/accuracy_of_best_epoch") == [(60, 0.5)]
