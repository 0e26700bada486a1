"""`convert_normalization`: stock normalisation layers in a user's model become exact ones."""

import keras
import numpy as np
import pytest

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.conversion import convert_normalization
from tf_mamlpp.layers.exact_norms import ExactGroupNormalization, ExactLayerNormalization
from tf_mamlpp.layers.per_step_batch_norm import PerStepBatchNormalization

layers = keras.layers
X = np.random.default_rng(3).normal(size=(5, 6, 6, 2)).astype("float32")
EXACT = {
    "batch": PerStepBatchNormalization,
    "layer": ExactLayerNormalization,
    "group": ExactGroupNormalization,
}


def norm(kind: str, name: str, **kwargs) -> keras.layers.Layer:
    return {
        "batch": lambda: layers.BatchNormalization(momentum=0.7, epsilon=0.01, name=name, **kwargs),
        "layer": lambda: layers.LayerNormalization(epsilon=0.02, name=name, **kwargs),
        "group": lambda: layers.GroupNormalization(2, epsilon=0.03, name=name, **kwargs),
    }[kind]()


def sequential(kind, name="sequential_model", prefix=""):
    stack = [
        keras.Input((6, 6, 2)),
        layers.Conv2D(4, 3, name=prefix + "conv"),
        norm(kind, prefix + "norm"),
        layers.Flatten(name=prefix + "flatten"),
        layers.Dense(3, name=prefix + "dense"),
    ]
    return keras.Sequential(stack, name=name)


def functional(kind):
    images = keras.Input((6, 6, 2))
    left = norm(kind, "left")(layers.Conv2D(4, 3, name="conv")(images))
    shared = norm(kind, "shared")
    both = layers.Add(name="add")([shared(left), shared(layers.Conv2D(4, 3, name="skip")(images))])
    return keras.Model(images, layers.Dense(3, name="dense")(layers.Flatten(name="flatten")(both)), name="functional")


def nested(kind):
    images = keras.Input((6, 6, 2))
    inner = functional(kind)(norm(kind, "outer")(images))
    other = sequential(kind, prefix="other_")(images)
    return keras.Model(images, layers.Concatenate(name="join")([inner, other]), name="nested")


def every_layer(model):
    return [layer for layer in model._flatten_layers() if not isinstance(layer, layers.InputLayer)]


@pytest.mark.parametrize("make", [sequential, functional, nested])
@pytest.mark.parametrize("kind", EXACT)
def test_a_copy_with_the_same_weights_names_and_outputs(make, kind, scatter):
    model = scatter(make(kind))
    weights, stock = model.get_weights(), [type(layer) for layer in every_layer(model)]
    answer = model(X).numpy()
    converted = convert_normalization(model, 3, per_step_weights=True, per_step_statistics=True)

    assert converted is not model
    np.testing.assert_allclose(converted(X), answer, rtol=0, atol=2e-5)
    assert [layer.name for layer in every_layer(converted)] == [layer.name for layer in every_layer(model)]
    assert [v.path for v in converted.variables] == [v.path for v in model.variables]
    for old, new in zip(every_layer(model), every_layer(converted), strict=True):
        assert type(new) is (EXACT[kind] if "Normalization" in type(old).__name__ else type(old))

    for v in converted.variables:
        v.assign(v.numpy() + 1)
    assert [type(layer) for layer in every_layer(model)] == stock
    for a, b in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("statistics", [True, False])
def test_batch_norm_weights_fill_every_row(weights, statistics, scatter):
    model = scatter(sequential("batch"))
    new = convert_normalization(model, 4, weights, statistics).get_layer("norm")
    old = model.get_layer("norm")
    assert (new.inner_steps, new.momentum, new.epsilon) == (4, 0.7, 0.01)
    for a, b, rows in zip(old.weights, new.weights, [weights, weights, statistics, statistics], strict=True):
        expected = np.tile(a.numpy(), (4, 1)) if rows else a.numpy()
        np.testing.assert_array_equal(b.numpy(), expected)


def test_settings_of_the_stock_layer_are_kept():
    stock = layers.BatchNormalization(1, 0.5, 0.1, center=False, trainable=False, dtype="float64", name="norm")
    model = keras.Sequential([keras.Input((3, 4), dtype="float64"), stock, layers.Flatten(dtype="float64")])
    new = convert_normalization(model, 2).get_layer("norm")
    assert (new.axis, new.momentum, new.epsilon) == (1, 0.5, 0.1)
    assert (new.center, new.scale, new.trainable, new.variable_dtype) == (False, True, False, "float64")


def test_a_model_without_stock_normalisation_is_returned_as_it_is():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), ExactLayerNormalization()])
    assert convert_normalization(model, 2) is model
    converted = convert_normalization(sequential("batch"), 2)
    assert convert_normalization(converted, 2) is converted


class Block(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = layers.LayerNormalization(name="hidden")

    def call(self, x):
        return self.norm(x)


class Special(keras.layers.BatchNormalization):
    pass


@pytest.mark.parametrize("layer", [Block, Special])
def test_what_sits_in_a_layer_of_ones_own_stays_in_a_copy(layer):
    stack = [keras.Input((6, 6, 2)), layer(name="mine"), layers.BatchNormalization()]
    model = keras.Sequential(stack)
    converted = convert_normalization(model, 2)
    assert [type(part) for part in converted.layers] == [layer, PerStepBatchNormalization]
    assert converted.layers[0] is not model.layers[0]


def test_a_lambda_is_copied_as_it_is():
    stack = [keras.Input((6, 6, 2)), layers.BatchNormalization(), layers.Lambda(lambda x: 2 * x, name="twice")]
    model = keras.Sequential(stack)
    converted = convert_normalization(model, 2)
    assert type(converted.layers[0]) is PerStepBatchNormalization and converted.layers[1] is not model.layers[1]
    np.testing.assert_allclose(converted(X), model(X), rtol=1e-5)


@pytest.mark.parametrize("whole", [True, False], ids=["whole block", "its norm"])
def test_what_is_frozen_inside_a_layer_stays_frozen(whole):
    class Normed(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.norm, self.dense = layers.BatchNormalization(), layers.Dense(2)

        def call(self, x):
            return self.dense(self.norm(x))

    block = Normed()
    model = keras.Sequential([keras.Input((4,)), block, layers.LayerNormalization()])
    (block if whole else block.norm).trainable = False
    copied = convert_normalization(model, 2).layers[0]
    assert copied is not block and not copied.norm.trainable and copied.dense.trainable is not whole


def test_a_subclassed_model_with_exact_layers_is_taken_as_it_is():
    class Exact(keras.Model):
        def __init__(self):
            super().__init__()
            self.norm = PerStepBatchNormalization(2)

        def call(self, x):
            return self.norm(x)

    model = Exact()
    model(X)
    assert convert_normalization(model, 2, True, True) is model


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            (5, True, True),
            "'norm' has rows for 2 inner steps, the learner takes 5: make it PerStepBatchNormalization.5.",
        ),
        ((1, True, True), "'norm' has rows for 2 inner steps, the learner takes 1"),
        ((2, False, True), "'norm' has per_step_weights=True, the learner per_step_weights=False: give both the same"),
        ((2, True, False), "'norm' has per_step_statistics=True, the learner per_step_statistics=False"),
    ],
)
def test_rows_for_other_steps_are_refused(settings, said):
    model = keras.Sequential([keras.Input((6, 6, 2)), PerStepBatchNormalization(2, name="norm"), layers.Dense(3)])
    with pytest.raises(UserError, match=said):
        convert_normalization(model, *settings)
    one_row = keras.Sequential([keras.Input((4,)), PerStepBatchNormalization(2, False, False), layers.Dense(3)])
    assert convert_normalization(one_row, 5) is one_row  # no rows, so that the number does not matter
