"""The schedules of an epoch against the properties that the paper gives them, and as `fit` follows them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp import MetaLearner
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta import multi_step_loss
from tf_mamlpp.meta.schedules import CosineAnnealing, Schedules, cosine_rate


def test_cosine():
    rates = [cosine_rate(epoch, 10, 1e-3, 1e-5) for epoch in range(11)]
    assert rates[0] == 1e-3
    assert rates[10] == pytest.approx(1e-5, rel=1e-12)
    assert rates[5] == pytest.approx((1e-3 + 1e-5) / 2, rel=1e-12)
    assert (np.diff(rates) < 0).all()
    np.testing.assert_allclose(np.add(rates, rates[::-1]), 1e-3 + 1e-5, rtol=1e-12)
    assert [cosine_rate(epoch, 10, 1e-3, 1e-5) for epoch in (10, 11, 20, 35)] == [1e-5] * 4


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


@pytest.fixture
def watch_fit(make_tasks):
    """Trains a learner whose outer rate is 0.01, an update an epoch: its rate, order and loss weights in each."""

    def fit(epochs, *callbacks, **settings):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        learner = MetaLearner(model, way=3, inner_steps=2, learned_rates=True, **settings)
        learner.compile(keras.optimizers.Adam(0.01))
        tasks, watch = tf.data.Dataset.from_tensors(make_tasks(shape=(4,), dtype="float32")).repeat(), Watch()
        learner.fit(tasks, epochs=epochs, steps_per_epoch=1, callbacks=[*callbacks, watch], verbose=0)
        return watch.seen

    return fit


@pytest.mark.slow
def test_schedules_follow_the_pure_functions(watch_fit):
    seen = watch_fit(
        3,
        Schedules(4, 0.01),
        cosine_annealing=True,
        derivative_order_annealing=True,
        second_order_from_epoch=2,
        multi_step_loss=True,
        multi_step_loss_epochs=1,
        minimum_rate=1e-4,
    )
    assert len(seen) == 3
    for epoch, (rate, second_order, weights) in enumerate(seen):
        assert rate == pytest.approx(cosine_rate(epoch, 4, 0.01, 1e-4), rel=1e-6)
        assert second_order == (epoch >= 2)
        assert weights == pytest.approx(multi_step_loss.loss_weights(epoch, 2, 1))


def test_schedules_take_the_rate_and_the_epochs_of_fit(watch_fit):
    seen = watch_fit(2, cosine_annealing=True, minimum_rate=0.0)
    assert [rate for rate, _, _ in seen] == pytest.approx([0.01, 0.005], rel=1e-5)


def test_without_annealing_the_rate_stays(watch_fit):
    assert [rate for rate, _, _ in watch_fit(2)] == pytest.approx([0.01, 0.01])


def rates(seen):
    return [rate for rate, _, _ in seen]


def test_a_rate_reduced_on_a_plateau_stays_reduced(watch_fit):
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    seen = watch_fit(5, plateau, cosine_annealing=True, minimum_rate=1e-4)
    # The first epoch is the best; each later one is no better, and halves the rate of the next ones.
    expected = [cosine_rate(epoch, 5, 0.01, 1e-4) * 0.5 ** max(epoch - 1, 0) for epoch in range(5)]
    assert rates(seen) == pytest.approx(expected, rel=1e-5)


def test_a_schedule_of_the_optimizer_and_annealing_contradict(watch_fit):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    learner = MetaLearner(model, way=3, cosine_annealing=True)
    with pytest.raises(UserError, match="cosine_annealing and the optimizer's LearningRateSchedule contradict"):
        learner.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 10)))


def test_the_keras_schedule_is_cosine_annealing():
    schedule = CosineAnnealing(0.01, epochs=4, updates=3, minimum_rate=1e-4)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    expected = [cosine_rate(step // 3, 4, 0.01, 1e-4) for step in range(20)]
    for s in (schedule, again):
        np.testing.assert_allclose([float(s(step)) for step in range(20)], expected, rtol=1e-5)
    # In an optimizer, which counts steps in its own variable, and in a graph.
    optimizer = keras.optimizers.SGD(schedule)
    weight = keras.Variable(0.0)
    update = tf.function(lambda: optimizer.apply([tf.constant(1.0)], [weight]))
    for _ in range(6):
        update()
    assert float(weight) == pytest.approx(-sum(expected[:6]), rel=1e-5)


SIX = {
    "derivative_order_annealing": True,
    "second_order_from_epoch": 2,
    "multi_step_loss": True,
    "multi_step_loss_epochs": 3,
    "cosine_annealing": True,
    "minimum_rate": 1e-4,
}


@pytest.fixture
def make_learner(monkeypatch):
    def make(**settings):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        learner = MetaLearner(model, way=3, inner_steps=2, **settings)
        learner.compile(keras.optimizers.Adam(0.01))
        traces, task_loss = [], learner.task_loss
        monkeypatch.setattr(learner, "task_loss", lambda *a: traces.append(learner.phase) or task_loss(*a))
        return learner, traces

    return make


@pytest.fixture
def data(make_tasks):
    return tf.data.Dataset.from_tensors(make_tasks(shape=(4,), dtype="float32")).repeat(2)


def test_fit_in_parts_is_one_run(make_learner, data):
    whole, parts = Watch(), Watch()
    learner, traces = make_learner(**SIX)
    learner.fit(data, epochs=5, callbacks=[whole], verbose=0)
    again, traces_again = make_learner(**SIX)
    for epochs in (1, 1, 2, 1):
        again.fit(data, epochs=epochs, callbacks=[Schedules(epochs=5), parts], verbose=0)
    assert whole.seen == parts.seen and again.epochs_done == 5
    assert traces == traces_again and len(set(traces)) == len(traces) == 3
    for a, b in zip(learner.variables, again.variables, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=a.path)
    # An epoch that is given, and a new compile, are where the user wants to be; phases are not traced again.
    again.fit(data, initial_epoch=0, epochs=1, callbacks=[Schedules(epochs=5), parts], verbose=0)
    assert parts.seen[-1] == whole.seen[0] and len(traces_again) == 3
    again.compile(keras.optimizers.Adam(0.01))
    again.fit(data, epochs=1, callbacks=[Schedules(epochs=5), parts], verbose=0)
    assert parts.seen[-1] == whole.seen[0] and len(traces_again) == 4


def test_annealing_that_is_over_is_told(make_learner, data):
    learner, _ = make_learner(cosine_annealing=True)
    learner.fit(data, epochs=1, verbose=0)
    with pytest.raises(UserError, match="cosine annealing ended with epoch 1: for a run that fit does in parts"):
        learner.fit(data, epochs=1, verbose=0)


@pytest.mark.slow
def test_fit_in_a_loop_traces_nothing_again(make_learner, data):
    learner, traces = make_learner()
    for _ in range(3):
        learner.fit(data, validation_data=data.take(1), verbose=0)
    assert len(traces) == 1
    assert learner.train_function is learner.make_train_function()
