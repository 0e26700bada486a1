"""Prototypical Networks: the formula by hand, and the surface of a learner."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.evaluation import evaluate
from tf_mamlpp.meta.prototypical_networks import PrototypicalNetworks, without_head
from tf_mamlpp.models.conv4 import conv4
from tf_mamlpp.models.mlp import mlp
from tf_mamlpp.models.resnet12 import resnet12


def test_answers_by_hand(make_tasks, scatter):
    model = scatter(mlp((4,), 3, (5,), dtype="float64"))
    tasks = make_tasks(shape=(4,), shot=2)
    curves = PrototypicalNetworks(model, way=3).curves(tasks).numpy()
    assert curves.shape == (2, 1, 6, 3)
    features = [model.get_layer("dense0")(tasks[f"{part}_images"]).numpy() for part in ("support", "query")]
    for task in range(2):
        prototypes = features[0][task].reshape(3, 2, 5).mean(1)
        distances = ((features[1][task][:, None] - prototypes) ** 2).sum(-1)
        np.testing.assert_allclose(curves[task, 0], -distances, rtol=1e-12)


def test_any_number_of_classes(make_tasks):
    learner = PrototypicalNetworks(mlp((4,), 3, (5,)), way=3)
    learner.compile("adam")
    batches = [make_tasks(way=way, shape=(4,), dtype="float32") for way in (3, 6, 2)]
    learner.fit(batches, verbose=0)
    assert learner.curves(batches[1]).shape == (2, 1, 12, 6)
    values = [evaluate(learner, [batch]).per_task for batch in batches]
    np.testing.assert_array_equal(evaluate(learner, batches).per_task, np.concatenate(values))


def test_a_temperature_divides_distances(make_tasks, scatter):
    model, tasks = scatter(mlp((4,), 3, (5,), dtype="float64")), make_tasks(shape=(4,))
    plain, warm = (PrototypicalNetworks(model, way=3, **settings) for settings in ({}, {"temperature": 64.0}))
    np.testing.assert_allclose(warm.curves(tasks), plain.curves(tasks) / 64, rtol=1e-12)
    with pytest.raises(UserError, match="temperature is 0.0: it must be positive"):
        PrototypicalNetworks(model, way=3, temperature=0.0)


@pytest.mark.parametrize("query_statistics", ["batch", "running", "support"])
def test_finite_differences(smooth_model, scatter, make_tasks, meta_gradient_errors, query_statistics):
    learner = PrototypicalNetworks(smooth_model(), way=3, query_statistics=query_statistics)
    scatter(learner.model)
    errors = meta_gradient_errors(learner, make_tasks())
    assert len(errors) == 4 and max(errors.values()) < 1e-6, errors


def test_with_support_statistics_answers_do_not_depend_on_neighbours(make_tasks):
    learner = PrototypicalNetworks(conv4((8, 8, 1), 3, filters=3, blocks=2), way=3, query_statistics="support")
    tasks = make_tasks(dtype="float32")
    alone = {**tasks, "query_images": tasks["query_images"][:, :1], "query_labels": tasks["query_labels"][:, :1]}
    whole = learner.curves(tasks)
    np.testing.assert_allclose(learner.curves(alone), whole[:, :, :1], rtol=1e-4, atol=1e-5)
    batch = learner.curves(alone, query_statistics="batch")
    assert np.abs(batch - whole[:, :, :1]).max() > 1e-3


def test_trains_and_is_evaluated_through_keras(make_tasks):
    learner = PrototypicalNetworks(conv4((8, 8, 1), 3, filters=3, blocks=2), way=3, cosine_annealing=True)
    learner.compile(keras.optimizers.Adam(1e-2))
    tasks = make_tasks(dtype="float32")
    data = tf.data.Dataset.from_tensors(tasks)
    history = learner.fit(data.repeat(), epochs=2, steps_per_epoch=25, validation_data=data, verbose=0).history
    assert history["loss"][1] < 0.5 * history["loss"][0]
    assert set(history) == {
        *("meta_loss", "loss", "accuracy", "update_loss", "gradient_norm"),
        *("val_loss", "val_accuracy", "val_step_0"),
    }
    assert (learner.model.get_layer("norm0").moving_mean.numpy() != 0).all()
    found = evaluate(learner, [tasks])
    assert found.value == pytest.approx(history["val_accuracy"][-1])
    assert found.per_task.shape == (2, 1)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3), keras.layers.Dense(3)], r"features of shape .* Flatten"),
        ([keras.Input((4,)), keras.layers.Dense(3)], "model 'mine' has weights in its last layer alone"),
        ([keras.layers.Dense(3)], "model 'mine' has no weights yet"),
    ],
)
def test_models_without_features(layers, message):
    with pytest.raises(UserError, match=message):
        PrototypicalNetworks(keras.Sequential(layers, name="mine"), way=3)


def test_inner_steps_are_refused(make_tasks):
    learner = PrototypicalNetworks(mlp((4,), 3, (5,)), way=3)
    with pytest.raises(UserError, match="prototypical networks take no inner steps, not 2"):
        learner.curves(make_tasks(shape=(4,), dtype="float32"), inner_steps=2)


def test_without_head():
    model = conv4((8, 8, 1), 3, filters=2, blocks=2)
    x = tf.ones((2, 8, 8, 1))
    np.testing.assert_array_equal(model.get_layer("dense")(without_head(model)(x)), model(x))
    assert without_head(resnet12((8, 8, 1), 3, (2, 3))).output.shape == (None, 3)
    headless = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.ReLU()], name="mine")
    with pytest.raises(UserError, match="model 'mine' does not end in a Dense layer"):
        without_head(headless)
