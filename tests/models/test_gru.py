import numpy as np
import pytest

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.proven import is_proven
from tf_mamlpp.meta.gradient_check import check_meta_gradient
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.models.gru import gru


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(model, x):
    """The network in NumPy: gates are update, reset, candidate; the reset is after the product, as in cuDNN."""
    kernel, recurrent, bias = (v.numpy() for v in model.get_layer("gru").weights)
    units = len(recurrent)
    h, states = np.zeros((len(x), units)), []
    for step in np.moveaxis(x, 1, 0):
        of_input = np.split(step @ kernel + bias[0], 3, -1)
        of_state = np.split(h @ recurrent + bias[1], 3, -1)
        update, reset = (sigmoid(of_input[i] + of_state[i]) for i in (0, 1))
        h = update * h + (1 - update) * np.tanh(of_input[2] + reset * of_state[2])
        states.append(h)
    kernel, bias = (v.numpy() for v in model.get_layer("dense").weights)
    return np.mean(states, 0) @ kernel + bias


@pytest.mark.parametrize("shape", [(7, 3), (7,), (7, 2, 2)])
def test_gru_by_hand(shape, scatter):
    model = scatter(gru(shape, 4, units=5, dtype="float64"))
    x = np.random.default_rng(0).normal(size=(6, *shape))
    np.testing.assert_allclose(model(x), by_hand(model, x.reshape(6, 7, -1)), rtol=0, atol=1e-12)


def test_one_number_is_no_series():
    with pytest.raises(UserError, match="gru needs series, of shape"):
        gru((), 5)


def test_its_second_derivatives_are_known_to_be_right():
    assert is_proven(MetaLearner(gru((32, 3), 3), way=3).model)


@pytest.mark.slow
def test_finite_differences(make_tasks):
    deviations = check_meta_gradient(gru((4, 2), 3, units=2), make_tasks(shape=(4, 2)), way=3, inner_steps=2)
    assert max(deviations.values()) < 1e-6
