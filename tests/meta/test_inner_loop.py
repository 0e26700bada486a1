"""The inner loop on a quadratic, whose meta-gradients have closed forms."""

import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.meta.inner_loop import adapt
from tf_mamlpp.meta.learned_rates import LearnedRates

generator = np.random.default_rng(4)
SIZES = 2, 3
A = generator.normal(size=(5, 5))
A = A @ A.T / 5 + np.eye(5)  # L_support(x) = x'Ax/2 - b'x, of x split into two tensors
B, C, START = generator.normal(size=(3, 5))  # L_query(x) = |x|^4/4 + c'x
RATES = np.array([[0.05, -0.1, 0.2], [0.1, 0.3, 0.07]])


def gradient_of_query(x):
    return x @ x * x + C


def closed_form(steps, second_order=True):
    """x_N, dL_query/dx_0 and dL_query/drates by the chain rule: dx_{k+1}/dx_k = I - D_k A."""
    columns = [min(k, RATES.shape[1] - 1) for k in range(steps)]
    diagonals = [np.diag(np.repeat(RATES[:, k], SIZES)) for k in columns]
    xs = [START]
    for d in diagonals:
        xs.append(xs[-1] - d @ (A @ xs[-1] - B))
    back, rates = gradient_of_query(xs[-1]), np.zeros_like(RATES)
    for k in reversed(range(steps)):
        parts = np.split(-back * (A @ xs[k] - B), [SIZES[0]])
        rates[:, columns[k]] += [part.sum() for part in parts]
        if second_order:
            back = (np.eye(5) - diagonals[k] @ A).T @ back
    return xs[-1], back, rates


def support_loss(fast, state, k):
    x = tf.concat(fast, 0)
    return 0.5 * tf.tensordot(x, tf.linalg.matvec(A, x), 1) - tf.tensordot(x, tf.constant(B), 1), [*state, k]


def meta_gradient(steps, second_order=True):
    rates = LearnedRates(2, 3, 0.0, dtype="float64")
    rates.table.assign(RATES)
    start = [tf.constant(part) for part in np.split(START, [SIZES[0]])]
    with tf.GradientTape() as tape:
        tape.watch(start)
        fast, state = adapt(support_loss, start, [], rates, steps, second_order)
        x = tf.concat(fast, 0)
        loss = tf.reduce_sum(x**2) ** 2 / 4 + tf.reduce_sum(x * C)
    gradients, table = tape.gradient(loss, [start, rates.table.value])
    assert state == list(range(steps))
    return x, tf.concat(gradients, 0), table


@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 3, 5], ids="{} steps of a table of 3".format)
def test_meta_gradient_and_rates(steps, second_order):
    for found, expected in zip(meta_gradient(steps, second_order), closed_form(steps, second_order), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_one_step_in_the_papers_form():
    d = np.diag(np.repeat(RATES[:, 0], SIZES))
    g = gradient_of_query(START - d @ (A @ START - B))
    np.testing.assert_allclose(meta_gradient(1)[1], (np.eye(5) - A @ d) @ g, rtol=1e-12)
    np.testing.assert_allclose(meta_gradient(1, second_order=False)[1], g, rtol=1e-12)


def test_no_steps_change_nothing():
    rates = LearnedRates(2, 3, 0.1, dtype="float64")
    start = [tf.constant(part) for part in np.split(START, [SIZES[0]])]
    fast, state = adapt(support_loss, start, ["kept"], rates, 0)
    assert all(a is b for a, b in zip(fast, start, strict=True))
    assert state == ["kept"]


def test_after_step_sees_the_adapted_weights_and_hands_its_state_on():
    seen = []

    def loss(fast, state, k):
        return tf.reduce_sum(fast[0] ** 2) / 2, state + 1

    def after(fast, state, k):
        seen.append((k, float(fast[0]), state))
        return state * 10

    rates = LearnedRates(1, 2, 0.5, dtype="float64")
    _, state = adapt(loss, [tf.constant(8.0, tf.float64)], 0, rates, 2, after_step=after)
    assert seen == [(0, 4.0, 1), (1, 2.0, 11)]
    assert state == 110


def test_a_weight_that_the_loss_ignores_stays():
    rates = LearnedRates(2, 1, 0.5, dtype="float64")
    start = [tf.constant(8.0, tf.float64), tf.constant(3.0, tf.float64)]
    fast, _ = adapt(lambda fast, state, k: (fast[0] ** 2 / 2, state), start, None, rates, 1)
    assert [float(w) for w in fast] == [4.0, 3.0]
