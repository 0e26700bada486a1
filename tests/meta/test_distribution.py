"""Any number of replicas make the update that one device makes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.schedules import Schedules
from tf_mamlpp.meta.settings import presets
from tf_mamlpp.models.conv4 import conv4

RATE, CLIP = 0.5, 0.02


@pytest.fixture(scope="module")
def mirrored(mirrored_over):
    return mirrored_over(2)


def make_learner(strategy, dtype=None, **settings):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        switches = {**presets["maml++"], "derivative_order_annealing": False, **settings}
        model = conv4((8, 8, 1), 3, filters=3, blocks=2, dtype=dtype)
        learner = MetaLearner(model, way=3, inner_steps=2, gradient_clip=CLIP, **switches)
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


FEW_OPERATIONS = {"first_order": True, "multi_step_loss": False}  # quick to trace four times


@pytest.mark.slow
@pytest.mark.parametrize(
    ("devices", "settings"),
    [
        (2, {}),
        pytest.param(2, {"loss": mean_loss}, marks=pytest.mark.slow),
        (4, FEW_OPERATIONS),
        pytest.param(4, {}, marks=pytest.mark.slow),
    ],
)
def test_mirrored_strategy_equals_one_device(make_tasks, mirrored_over, devices, settings):
    tasks, mirrored = make_tasks(tasks=8, dtype="float32"), mirrored_over(devices)
    alone, spread = (make_learner(strategy, **settings) for strategy in (tf.distribute.get_strategy(), mirrored))
    logs, change = train(alone, tasks)
    spread_logs, _ = train(spread, tasks)

    clipped = np.mean(np.isclose(change, RATE * CLIP, rtol=1e-4))
    assert 0.1 < clipped < 0.9
    pairs = list(zip(alone.variables, spread.variables, strict=True))
    assert sum("moving" in a.path for a, _ in pairs) == 4
    for a, b in pairs:
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6, err_msg=a.path)
        first, *others = mirrored.experimental_local_results(b.value)
        assert len(others) == devices - 1
        for other in others:
            np.testing.assert_array_equal(first, other, err_msg=a.path)
    assert {"update_loss", "gradient_norm", "clipped"} < logs.keys()
    assert logs == {name: pytest.approx(values, rel=1e-5) for name, values in spread_logs.items()}
    if settings == FEW_OPERATIONS:  # the others have the same graph
        data = tf.data.Dataset.from_tensors(tasks)
        found, expected = (x.evaluate(data, return_dict=True, verbose=0) for x in (spread, alone))
        assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("made_in_scope", "dtype", "first_order", "most"), [(True, "float32", True, 0), (False, "float64", False, 1e-12)]
)
def test_the_meta_gradient_in_a_scope(make_tasks, mirrored, made_in_scope, dtype, first_order, most):
    tasks = make_tasks(tasks=2, dtype=dtype)
    made_in = mirrored if made_in_scope else tf.distribute.get_strategy()
    learner = make_learner(made_in, dtype, first_order=first_order)
    expected, _, numbers = learner.meta_gradient(tasks)
    with mirrored.scope():
        found, _, same = learner.meta_gradient(tasks)
    assert max(np.abs(g).max() for g in expected) > 0
    for a, b in zip(expected, found, strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=most)
    assert float(same["meta_loss"]) == pytest.approx(float(numbers["meta_loss"]), rel=0, abs=most)


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


@pytest.mark.slow
def test_tasks_that_do_not_divide_over_replicas_count_alike(make_tasks, mirrored):
    """Meta-batches of 4, 3 and 1: the last gives one replica nothing."""
    every = make_tasks(tasks=8, shape=(4,), dtype="float32")
    parts = [{k: v[a:b] for k, v in every.items()} for a, b in ((0, 4), (4, 7), (7, 8))]
    data = tf.data.Dataset.from_generator(
        lambda: iter(parts),
        output_signature={k: tf.TensorSpec([None, *v.shape[1:]], v.dtype) for k, v in every.items()},
    )
    layers, found = keras.layers, []
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            keras.utils.set_random_seed(0)
            stack = [keras.Input((4,)), layers.Dense(5), layers.BatchNormalization(), layers.Dropout(0.5, seed=1)]
            learner = MetaLearner(keras.Sequential([*stack, layers.Dense(3)]), way=3, inner_steps=1)
            learner.compile(keras.optimizers.SGD(RATE))
        logs = learner.fit(data, verbose=0).history
        found.append((logs, learner.evaluate(data, verbose=0, return_dict=True), learner.variables))
    (logs, tested, alone), (spread_logs, spread_tested, spread) = found
    assert logs == {name: pytest.approx(values, rel=1e-4) for name, values in spread_logs.items()}
    assert tested == pytest.approx(spread_tested, rel=1e-4)
    for a, b in zip(alone, spread, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5, err_msg=a.path)
        first, second = mirrored.experimental_local_results(b.value)
        np.testing.assert_array_equal(first, second, err_msg=a.path)
