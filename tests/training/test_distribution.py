"""A run goes on over any number of devices, whatever it began on."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.training.checkpoint_callback import SaveCheckpoints
from tf_mamlpp.training.checkpoints import Checkpoints
from tf_mamlpp.training.train import train_and_evaluate


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 4), (2, 1)])
def test_a_checkpoint_of_one_layout_restores_in_another(make_tasks, mirrored_over, tmp_path, before, after):
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


@pytest.mark.slow
def test_a_run_goes_on_in_another_layout(mirrored_over, sinusoid, tmp_path, monkeypatch):
    """From config to results, with a checkpoint in the middle of an epoch."""

    def config(strategy="none"):
        training = dataclasses.replace(sinusoid.training, tasks=4, strategy=strategy)
        return dataclasses.replace(sinusoid, training=training)

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
