import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.proven import is_proven
from tf_mamlpp.meta.gradient_check import check_meta_gradient
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.models.conv1d import conv1d


def by_hand(model, x, blocks):
    """The network in NumPy, with the moving statistics of its batch norms."""
    for i in range(blocks):
        kernel, bias = (v.numpy() for v in model.get_layer(f"conv{i}").weights)
        padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
        x = sum(padded[:, k : k + x.shape[1]] @ kernel[k] for k in range(3)) + bias
        gamma, beta, mean, variance = (v.numpy() for v in model.get_layer(f"norm{i}").weights)
        x = (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta
        x = x[:, : x.shape[1] // 2 * 2].reshape(len(x), -1, 2, x.shape[2]).max(2)
        x = np.maximum(x, 0.01 * x)
    kernel, bias = (v.numpy() for v in model.get_layer("dense").weights)
    return x.mean(1) @ kernel + bias


def test_conv1d_by_hand(scatter):
    model = scatter(conv1d((21, 3), 4, filters=5, blocks=2, dtype="float64"))
    x = np.random.default_rng(0).normal(size=(6, 21, 3))
    np.testing.assert_allclose(model(x), by_hand(model, x, 2), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(32,), (32, 1), (32, 4, 2)])
def test_what_follows_the_steps_are_features(shape, scatter):
    model = scatter(conv1d(shape, 3, filters=2, dtype="float64"))
    x = np.random.default_rng(0).normal(size=(5, *shape))
    np.testing.assert_allclose(model(x), by_hand(model, x.reshape(5, 32, -1), 4), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(), (15, 3)])
def test_series_too_short_are_refused(shape):
    with pytest.raises(UserError, match="conv1d halves series 4 times"):
        conv1d(shape, 5)


def test_half_precision_keeps_single_weights():
    model = conv1d((16, 2), 3, filters=2, dtype="mixed_bfloat16")
    assert {v.dtype for v in model.variables} == {"float32"}
    assert model(tf.zeros((2, 16, 2))).dtype == tf.bfloat16


def test_its_second_derivatives_are_known_to_be_right():
    assert is_proven(MetaLearner(conv1d((32, 3), 3), way=3).model)


@pytest.mark.slow
def test_finite_differences(make_tasks):
    model = conv1d((8, 2), 3, filters=2, blocks=2)
    deviations = check_meta_gradient(model, make_tasks(shape=(8, 2)), way=3, inner_steps=2)
    assert max(deviations.values()) < 1e-6
