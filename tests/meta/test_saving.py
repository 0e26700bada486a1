"""A learner saved whole and loaded again, as Keras does it with its own models."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.prototypical_networks import PrototypicalNetworks
from tf_mamlpp.meta.schedules import Schedules
from tf_mamlpp.meta.settings import presets
from tf_mamlpp.models.conv4 import conv4
from tf_mamlpp.models.mlp import mlp


def one_batch(make_tasks, shape=(8, 8, 1)):
    return tf.data.Dataset.from_tensors(make_tasks(shape=shape, dtype="float32")).repeat()


def make_learner(model=None, optimizer=None, **settings):
    keras.utils.set_random_seed(0)
    model = model or mlp((8, 8, 1), 3, (5,))
    learner = MetaLearner(model, way=3, inner_steps=2, **settings)
    learner.compile(optimizer or keras.optimizers.Adam(1e-2))
    return learner


def values(learner):
    return {v.path: v.numpy() for v in learner.variables}


def assert_same(learner, other):
    for (path, value), (other_path, other_value) in zip(values(learner).items(), values(other).items(), strict=True):
        assert path == other_path
        np.testing.assert_array_equal(value, other_value)


def test_training_goes_on_from_a_checkpoint_of_the_whole_model(make_tasks, tmp_path):
    """To the bit, with every schedule in its middle, as an uninterrupted run does."""
    settings = {**presets["maml++"], "multi_step_loss_epochs": 1, "second_order_from_epoch": 1}
    file, tasks = tmp_path / "learner.keras", one_batch(make_tasks, shape=(4,))
    model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization(), keras.layers.Dense(3)])
    learner = make_learner(model, **settings)
    keep = keras.callbacks.ModelCheckpoint(file)
    learner.fit(tasks, epochs=2, steps_per_epoch=2, verbose=0, callbacks=[Schedules(epochs=4), keep])
    loaded = keras.models.load_model(file)
    assert loaded.settings == learner.settings and loaded.phase == learner.phase
    assert_same(learner, loaded)
    histories = [one.fit(tasks, epochs=2, steps_per_epoch=2, verbose=0).history for one in (learner, loaded)]
    assert histories[0] == histories[1]
    assert_same(learner, loaded)
    assert float(loaded.optimizer.learning_rate) == float(learner.optimizer.learning_rate) < 0.004
    for state, other in zip(learner.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(state.numpy(), other.numpy())


@pytest.mark.parametrize("kind", ["nested", "functional"])
def test_paths_and_what_is_adapted_stay(kind, tmp_path):
    def body():
        return keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4, name="first")], name="body")

    inputs = keras.Input((8, 8, 1))
    last = keras.layers.Dense(3, name="last")
    model = keras.Sequential([inputs, body(), last], name="net")
    if kind == "functional":
        model = keras.Model(inputs, last(body()(inputs)), name="net")
    learner = make_learner(model, adapted="body/first")
    learner.save(tmp_path / "learner.keras")
    loaded = keras.models.load_model(tmp_path / "learner.keras")
    assert loaded.adapted_paths == learner.adapted_paths and len(loaded.adapted_paths) == 2
    assert loaded.epoch_record() == learner.epoch_record()
    assert len(loaded.epoch_record()["inner_rates"]) == 2


@keras.saving.register_keras_serializable("tests")
def own_loss(labels, outputs):
    return tf.square(outputs[:, 0] - tf.cast(labels, outputs.dtype))


@pytest.mark.parametrize(
    ("loss", "metric"),
    [
        ("mean_squared_error", "mean_absolute_error"),
        (keras.losses.Huber(0.3), keras.metrics.MeanAbsoluteError(name="mae")),  # whose delta Keras's config lacks
        (own_loss, own_loss),
    ],
    ids=["names", "objects", "functions"],
)
def test_loss_and_metric(loss, metric, make_tasks, tmp_path):
    learner = MetaLearner(mlp((4,), 1, (3,)), inner_steps=1, loss=loss, metric=metric)
    learner.compile("sgd")
    learner.save(tmp_path / "learner.keras")
    loaded = keras.models.load_model(tmp_path / "learner.keras")
    tasks = one_batch(make_tasks, shape=(4,))
    numbers = [one.evaluate(tasks, steps=1, return_dict=True, verbose=0) for one in (learner, loaded)]
    assert numbers[0] == numbers[1]


def test_a_clone_has_the_settings_and_new_weights():
    learner = make_learner(first_order=True, inner_rate=0.3)
    clone = keras.models.clone_model(learner)
    assert clone.settings == learner.settings and clone.way == 3
    kernel, other = (one.model.layers[-1].kernel.numpy() for one in (learner, clone))
    assert kernel.shape == other.shape and (kernel != other).any()


def test_the_scale_of_float16_stays(tmp_path):
    model = mlp((8, 8, 1), 3, (5,))
    half = keras.models.clone_model(
        model, clone_function=lambda layer: type(layer).from_config({**layer.get_config(), "dtype": "mixed_float16"})
    )
    learner = make_learner(half)
    assert isinstance(learner.optimizer, keras.optimizers.LossScaleOptimizer)
    learner.save(tmp_path / "learner.keras")
    loaded = keras.models.load_model(tmp_path / "learner.keras")
    assert isinstance(loaded.optimizer, keras.optimizers.LossScaleOptimizer)
    assert isinstance(loaded.optimizer.inner_optimizer, keras.optimizers.Adam)


@pytest.mark.slow
def test_prototypical_networks(make_tasks, tmp_path):
    learner = PrototypicalNetworks(conv4((8, 8, 1), 3, filters=2, blocks=1), way=3, temperature=2.0)
    learner.compile(keras.optimizers.Adam(1e-2))
    tasks = one_batch(make_tasks)
    learner.fit(tasks, steps_per_epoch=2, verbose=0)
    learner.save(tmp_path / "learner.keras")
    loaded = keras.models.load_model(tmp_path / "learner.keras")
    assert loaded.settings == learner.settings
    assert_same(learner, loaded)
    numbers = [one.evaluate(tasks, steps=1, return_dict=True, verbose=0) for one in (learner, loaded)]
    assert numbers[0] == numbers[1]


def test_what_cannot_be_saved_is_named(tmp_path):
    import functools

    learner = MetaLearner(mlp((4,), 1, (3,)), inner_steps=1, loss=functools.partial(keras.losses.huber, delta=0.3))
    with pytest.raises(ValueError, match="^loss=functools.* cannot be saved: give an object of Keras"):
        learner.save(tmp_path / "learner.keras")
