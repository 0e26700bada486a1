"""The schedules of an epoch against the properties that the paper gives them, and as `fit` follows them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp import MetaLearner
from tf_mamlpp.meta import multi_step_loss
from tf_mamlpp.meta.schedules import Schedules, cosine_rate


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
