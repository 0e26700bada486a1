"""Which weights the inner loop changes, and the seeds of tasks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.adaptable import adapted_variables, own_seeds
from tf_mamlpp.errors import UserError
from tf_mamlpp.layers import convert_normalization
from tf_mamlpp.models import conv4


@pytest.fixture
def model():
    return convert_normalization(conv4((8, 8, 1), 3, filters=2, blocks=2), 2, per_step_weights=True)


def names(model, adapted):
    chosen = adapted_variables(model, adapted)
    return ["/".join(model.trainable_variables[i].path.split("/")[-2:]) for i in chosen]


def test_all_but_batch_norm(model):
    kernels_and_biases = [f"{layer}/{w}" for layer in ("conv0", "conv1", "dense") for w in ("kernel", "bias")]
    assert names(model, "all") == kernels_and_biases


def test_the_head_is_the_last_layer_with_weights(model):
    assert names(model, "head") == ["dense/kernel", "dense/bias"]
    inputs = keras.Input((8, 8, 1))
    nested = keras.Model(inputs, keras.layers.ReLU()(keras.layers.Dense(3, name="top")(model(inputs))))
    assert names(nested, "head") == ["top/kernel", "top/bias"]


def test_the_head_of_a_nested_model_is_its_inner_models_last_layer():
    inner = keras.Sequential([keras.layers.Dense(4, name="first"), keras.layers.Dense(3, name="last")])
    assert names(keras.Sequential([keras.Input((2,)), inner]), "head") == ["last/kernel", "last/bias"]


def test_the_body_is_all_but_the_head(model):
    assert names(model, "body") + names(model, "head") == names(model, "all")


def test_a_predicate_on_the_path(model):
    assert names(model, lambda path: "conv1" in path) == ["conv1/kernel", "conv1/bias"]


def test_a_regular_expression_on_the_path(model):
    assert names(model, "conv1|dense/kernel") == ["conv1/kernel", "conv1/bias", "dense/kernel"]


def test_frozen_layers_are_left_alone(model):
    model.get_layer("conv0").trainable = False
    assert names(model, "all") == ["conv1/kernel", "conv1/bias", "dense/kernel", "dense/bias"]


@pytest.mark.parametrize(
    ("adapted", "message"),
    [
        ("tail", "adapted='tail' leaves the inner loop no weight .* all, head, body, or matches paths such as 'conv4/"),
        ("conv(", r"adapted='conv\(' is no regular expression: missing \)"),
        (lambda path: False, "leaves the inner loop no weight to change in model 'conv4'"),
        (lambda path: "norm" in path, "leaves the inner loop no weight"),
    ],
)
def test_refusals(model, adapted, message):
    with pytest.raises(UserError, match=message):
        adapted_variables(model, adapted)


def test_each_task_has_seeds_of_its_own():
    dropout = keras.layers.Dropout(0.5, seed=1)
    dropout.build((4, 64))
    moving, seed = tf.ones(2), tf.convert_to_tensor(dropout.seed_generator.state)
    masks = []
    for task in range(3):
        kept, own = own_seeds([moving, seed], tf.constant(task))
        assert kept is moving
        out, _ = dropout.stateless_call([], [own], tf.ones((4, 64)), training=True)
        masks.append(out.numpy())
    for a, b in zip(own_seeds(own_seeds([moving, seed], tf.constant(7)), tf.constant(-7)), [moving, seed], strict=True):
        np.testing.assert_array_equal(a, b)
    plain, _ = dropout.stateless_call([], [seed], tf.ones((4, 64)), training=True)
    np.testing.assert_array_equal(masks[0], plain)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert 0.3 < np.mean(masks[a] != masks[b]) < 0.7
