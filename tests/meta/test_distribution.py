"""Any number of replicas make the update that one device makes."""

import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.config import Config, Data, Evaluation, Learner, Model, Training
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.schedules import Schedules
from tf_mamlpp.meta.settings import presets
from tf_mamlpp.models.conv4 import conv4
from tf_mamlpp.training.checkpoint_callback import SaveCheckpoints
from tf_mamlpp.training.checkpoints import Checkpoints
from tf_mamlpp.training.train import train_and_evaluate

RATE, CLIP = 0.5, 0.02


@functools.cache  # collective operations of two strategies in one process would be taken for each other's
def mirrored_over(devices):
    reduction = None if devices == 2 else tf.distribute.ReductionToOneDevice()
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(devices)], reduction)
    assert strategy.num_replicas_in_sync == devices
    return strategy


@pytest.fixture(scope="module")
def mirrored():
    return mirrored_over(2)


def make_learner(strategy, **settings):
    with strategy.scope():
        keras.utils.set_random_seed(0)
        switches = {**presets["maml++"], "derivative_order_annealing": False, **settings}
        model = conv4((8, 8, 1), 3, filters=3, blocks=2)
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


@pytest.mark.parametrize(
    ("devices", "settings"),
    [
        (2, {}),
        pytest.param(2, {"loss": mean_loss}, marks=pytest.mark.slow),
        (4, FEW_OPERATIONS),
        pytest.param(4, {}, marks=pytest.mark.slow),
    ],
)
def test_mirrored_strategy_equals_one_device(make_tasks, devices, settings):
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


def test_the_meta_gradient_in_a_scope(make_tasks, mirrored):
    tasks = make_tasks(tasks=2, dtype="float32")
    learner = make_learner(mirrored, first_order=True)
    expected, _, numbers = learner.meta_gradient(tasks)
    with mirrored.scope():
        found, _, same = learner.meta_gradient(tasks)
    assert max(np.abs(g).max() for g in expected) > 0
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)
    assert float(same["meta_loss"]) == float(numbers["meta_loss"])


@pytest.mark.parametrize(("before", "after"), [(1, 4), (2, 1)])
def test_a_checkpoint_of_one_layout_restores_in_another(make_tasks, tmp_path, before, after):
    """In the middle of an epoch: what its updates measured goes on too."""
    parts = [make_tasks(tasks=4, shape=(4,), dtype="float32", seed=seed) for seed in range(3)]
    alone = tf.distribute.get_strategy()
    first, second = (mirrored_over(devices) if devices > 1 else alone for devices in (before, after))

    def made(strategy):
        with strategy.scope():
            keras.utils.set_random_seed(0)
            layers = [keras.Input((4,)), keras.layers.BatchNormalization(), keras.layers.Dense(3)]
            learner = MetaLearner(keras.Sequential(layers), way=3, inner_steps=1, first_order=True, learned_rates=True)
            learner.compile(keras.optimizers.Adam(0.01))
        learner.make_train_function()
        return learner

    def updates(learner, strategy, batches):
        for batch in batches:
            data = strategy.experimental_distribute_dataset(tf.data.Dataset.from_tensors(batch))
            logs = learner.train_function(iter(data))
        return {name: float(value) for name, value in logs.items()}

    whole, begun, resumed = made(alone), made(first), made(second)
    expected = updates(whole, alone, parts)
    updates(begun, first, parts[:2])
    Checkpoints(tmp_path, begun).save(2, 7.5)
    checkpoints = Checkpoints(tmp_path, resumed)
    assert checkpoints.restore_latest() == 2
    assert float(checkpoints.seconds) == 7.5
    assert updates(resumed, second, parts[2:]) == pytest.approx(expected, rel=1e-5)
    for a, b in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-6, err_msg=a.path)


def test_a_run_goes_on_in_another_layout(tmp_path, monkeypatch):
    """From config to results, with a checkpoint in the middle of an epoch."""

    def config(strategy="none"):
        return Config(
            data=Data(name="sinusoid", shot=5, query_shot=5),
            model=Model(name="mlp"),
            learner=Learner(inner_steps=1, inner_rate=0.01),
            training=Training(epochs=2, updates=3, tasks=4, checkpoint_updates=2, strategy=strategy),
            evaluation=Evaluation(validation_tasks=4, test_tasks=4, ensemble=2),
        )

    def rows(workdir):
        return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]

    class Killed(Exception):
        pass

    after_update = SaveCheckpoints.on_train_batch_end

    def dying(self, batch, logs=None):
        after_update(self, batch, logs)
        if self.update == 2:
            raise Killed

    two = mirrored_over(2)
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: two)
    expected = train_and_evaluate(config(), tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(SaveCheckpoints, "on_train_batch_end", dying)
        train_and_evaluate(config("mirrored"), tmp_path / "run")
    found = train_and_evaluate(config(), tmp_path / "run")
    assert found["mean_squared_error"] == pytest.approx(expected["mean_squared_error"], rel=1e-5)
    for a, b in zip(rows(tmp_path / "run"), rows(tmp_path / "whole"), strict=True):
        for name in ("meta_loss", "loss", "val_loss", "val_step_0"):
            assert a[name] == pytest.approx(b[name], rel=1e-5), name


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
