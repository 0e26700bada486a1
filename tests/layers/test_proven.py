"""Models that need no look: whatever is the user's own needs one."""

import keras
import pytest
import tensorflow as tf

import tf_mamlpp as mp
from tf_mamlpp.layers.conversion import convert_normalization
from tf_mamlpp.layers.proven import is_proven
from tf_mamlpp.meta import construction_check

layers = keras.layers


class Dense(layers.Dense):
    """Not Keras's own."""


def model(layer):
    images = keras.Input((8, 8, 3))
    return keras.Model(images, layers.Dense(2)(layers.Flatten()(layer(images))))


class Variance(keras.regularizers.Regularizer):
    def __call__(self, weights):
        return tf.nn.moments(weights, [0, 1])[1]


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2D(2, 3, activation="tanh", kernel_regularizer="l2"),
        layers.MaxPooling2D(2),
        layers.ReLU(),
        keras.Sequential([keras.Input((8, 8, 3)), layers.Dense(2)]),
        lambda x: x * 2 + x,
    ],
)
def test_stock_layers_are_proven(layer):
    assert is_proven(model(layer))


@pytest.mark.parametrize(
    "layer",
    [
        Dense(2),
        layers.MaxPooling2D(3, 1, "same"),
        layers.Dense(2, activation=lambda x: tf.nn.moments(x, [1])[1]),
        layers.Dense(2, kernel_regularizer=Variance()),
        layers.Dense(2, activity_regularizer=Variance()),
        keras.Sequential([keras.Input((8, 8, 3)), layers.Lambda(tf.identity)]),
        lambda x: keras.ops.moments(x, [1], keepdims=True)[0],
    ],
)
def test_what_is_the_users_own_is_not(layer):
    assert not is_proven(model(layer))


@pytest.mark.parametrize("make", [mp.conv4, pytest.param(mp.resnet12, marks=pytest.mark.slow), mp.mlp])
def test_the_backbones_are_not_traced_when_a_learner_is_made(make, monkeypatch):
    monkeypatch.setattr(construction_check, "_trace", lambda *_: pytest.fail("traced"))
    backbone = make((32, 32, 3), 3)
    assert is_proven(convert_normalization(backbone, 5))
    mp.MetaLearner(backbone, way=3)
