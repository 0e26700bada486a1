"""The weights of the multi-step loss."""

import numpy as np
import pytest

from tf_mamlpp.meta.multi_step_loss import loss_weights

CASES = pytest.mark.parametrize(("n", "epochs"), [(1, 4), (2, 1), (5, 10), (5, 15), (3, 100), (10, 7)])


@CASES
def test_epoch_0_counts_every_step_alike(n, epochs):
    np.testing.assert_allclose(loss_weights(0, n, epochs), np.full(n, 1 / n), rtol=1e-15)


@CASES
def test_weights_fall_by_the_same_amount_to_a_floor_and_the_last_takes_it(n, epochs):
    for epoch in range(epochs):
        weights = loss_weights(epoch, n, epochs)
        assert weights.shape == (n,)
        np.testing.assert_allclose(weights.sum(), 1, rtol=1e-14)
        assert (weights[:-1] >= 0.03 / n).all()
        assert weights[-1] <= 1 - (n - 1) * 0.03 / n + 1e-15
        if (weights[:-1] > 0.03 / n).all() and epoch:
            fallen = loss_weights(epoch - 1, n, epochs)[:-1] - weights[:-1]
            np.testing.assert_allclose(fallen, 1 / (n * epochs), rtol=1e-10)


def test_the_floor_is_reached():
    np.testing.assert_allclose(loss_weights(99, 5, 100), [0.006] * 4 + [0.976], rtol=1e-14)
    np.testing.assert_allclose(loss_weights(50, 5, 100), [0.1] * 4 + [0.6], rtol=1e-14)


@CASES
@pytest.mark.parametrize("late", [0, 1, 50])
def test_from_the_last_epoch_on_only_the_last_step_counts(n, epochs, late):
    np.testing.assert_array_equal(loss_weights(epochs + late, n, epochs), [0] * (n - 1) + [1])


def test_0_epochs_turn_the_multi_step_loss_off():
    np.testing.assert_array_equal(loss_weights(0, 3, 0), [0, 0, 1])
