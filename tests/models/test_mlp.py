import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.models.mlp import mlp


def test_mlp_is_the_sinusoid_network():
    model = mlp((1,), 1)
    assert [v.shape for v in model.trainable_variables] == [(1, 40), (40,), (40, 40), (40,), (40, 1), (1,)]
    assert mlp((4, 4, 2), 3, units=(5,))(tf.zeros((2, 4, 4, 2))).shape == (2, 3)


def test_float64_is_not_rounded_on_the_way():
    x = np.full((1, 8, 8, 1), 1 + 1e-12)
    model = mlp((8, 8, 1), 3, (4,), dtype="float64")
    assert np.abs(model(x) - model(np.ones_like(x))).max() > 0


@pytest.mark.slow
def test_finite_differences_of_two_activations(make_tasks, plus_learner, worst_deviation):
    stack = [keras.Input((8, 8, 1), dtype="float64"), keras.layers.Flatten(dtype="float64")]
    stack += [keras.layers.Dense(n, a, dtype="float64") for n, a in ((6, "relu"), (5, "gelu"), (3, None))]
    assert worst_deviation(plus_learner(keras.Sequential(stack)), make_tasks(tasks=1)) < 1e-6
