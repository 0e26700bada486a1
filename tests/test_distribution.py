"""Two replicas make the update that one device makes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.meta_learner import MetaLearner
from tf_mamlpp.methods import presets
from tf_mamlpp.models import conv4
from tf_mamlpp.schedules import Schedules

RATE, CLIP = 0.5, 0.02


@pytest.fixture(scope="module")
def mirrored():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    return strategy


def make_learner(strategy, **settings):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        switches = {**presets["maml++"], "derivative_order_annealing": False}
        model = conv4((8, 8, 1), 3, filters=3, blocks=2)
        learner = MetaLearner(model, way=3, inner_steps=2, gradient_clip=CLIP, **switches, **settings)
        learner.compile(keras.optimizers.SGD(RATE))
    return learner


def train(learner, tasks):
    before = [v.numpy() for v in learner.trainable_variables]
    data = tf.data.Dataset.from_tensors(tasks)
    logs = learner.fit(data, epochs=1, callbacks=[Schedules(1, RATE)], verbose=0).history
    changes = [np.abs(v.numpy() - old) for v, old in zip(learner.trainable_variables, before, strict=True)]
    return logs, np.concatenate([np.ravel(c) for c in changes])


def mean_loss(labels, logits):
    return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)


@pytest.mark.parametrize(
    "loss",
    [
        None,
        mean_loss,
    ],
)
def test_mirrored_strategy_equals_one_device(make_tasks, mirrored, loss):
    tasks = make_tasks(tasks=4, dtype="float32")
    alone, spread = make_learner(tf.distribute.get_strategy(), loss=loss), make_learner(mirrored, loss=loss)
    logs, change = train(alone, tasks)
    spread_logs, _ = train(spread, tasks)

    clipped = np.mean(np.isclose(change, RATE * CLIP, rtol=1e-4))
    assert 0.1 < clipped < 0.9
    pairs = list(zip(alone.variables, spread.variables, strict=True))
    assert sum("moving" in a.path for a, _ in pairs) == 4
    for a, b in pairs:
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6, err_msg=a.path)
        first, second = mirrored.experimental_local_results(b.value)
        np.testing.assert_array_equal(first, second, err_msg=a.path)
    assert logs == {name: pytest.approx(values, rel=1e-5) for name, values in spread_logs.items()}


def test_the_schedule_finds_the_optimizers_rate(mirrored):
    schedule = Schedules()
    schedule.set_model(make_learner(mirrored))
    schedule.set_params({"epochs": 1})
    schedule.on_train_begin()
    assert schedule.rate == RATE


def test_every_task_of_every_replica_drops_units_of_its_own(make_tasks, mirrored):
    tasks = {k: tf.repeat(v, 4, 0) for k, v in make_tasks(tasks=1, dtype="float32").items()}

    def losses(strategy):
        with strategy.scope():
            keras.utils.set_random_seed(0)
            stack = [
                keras.Input((8, 8, 1)),
                keras.layers.RandomFlip(seed=2),
                keras.layers.Flatten(),
                keras.layers.Dropout(0.5, seed=1),
                keras.layers.Dense(3),
            ]
            learner = MetaLearner(keras.Sequential(stack), way=3, inner_steps=1, inner_rate=0.5)
            learner.compile(keras.optimizers.SGD(0.0))
        logs = learner.fit(tf.data.Dataset.from_tensors(tasks).repeat(3), epochs=1, verbose=0).history
        return logs["loss"], [v.numpy() for v in learner.model.non_trainable_variables]

    (alone, seeds), (spread, spread_seeds) = losses(tf.distribute.get_strategy()), losses(mirrored)
    assert spread == pytest.approx(alone, rel=1e-5)  # the mean of four different tasks, not of two twice
    for a, b in zip(seeds, spread_seeds, strict=True):
        np.testing.assert_array_equal(a, b)
        assert b[1] > 0
