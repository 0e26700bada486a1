"""Hand-written second derivatives against automatic ones in float64."""

import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.layers.exact_norms import moments, scale_and_shift
from tf_mamlpp.layers.second_order_ops import batch_normalise, first_order_only, max_pool

EPSILON = 1e-3


def plain_normalise(x, gamma, beta):
    scale, shift = scale_and_shift(*moments(x, [0, 1, 2]), gamma, beta, EPSILON)
    return x * scale + shift


def derivatives(function, inputs, cotangents, h):
    """First derivatives of Σ h sin(function), and the derivatives of their product with `cotangents`."""
    with tf.GradientTape() as outer:
        outer.watch([*inputs, h])
        with tf.GradientTape() as inner:
            inner.watch(inputs)
            loss = tf.reduce_sum(tf.sin(function(*inputs)) * h)
        first = inner.gradient(loss, inputs)
        product = tf.add_n([tf.reduce_sum(d * c) for d, c in zip(first, cotangents, strict=True)])
    return [*first, *outer.gradient(product, [*inputs, h])]


def draw(*shapes):
    generator = np.random.default_rng(0)
    return [tf.constant(generator.normal(size=shape)) for shape in shapes]


def single(tensors):
    return [tf.cast(t, tf.float32) for t in tensors]


@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (1, 2, 1, 3), (2, 1, 1, 2)])
@pytest.mark.parametrize("graph", [False, True])
def test_batch_normalise_has_exact_derivatives_to_second_order(shape, graph):
    inputs, (h, *cotangents) = draw(shape, shape[-1:], shape[-1:]), draw(shape, shape, shape[-1:], shape[-1:])
    exact = derivatives(plain_normalise, inputs, cotangents, h)

    def of_fused(inputs, cotangents, h):
        return derivatives(lambda *args: batch_normalise(*args, EPSILON)[0], inputs, cotangents, h)

    run = tf.function(of_fused) if graph else of_fused
    fused = run(single(inputs), single(cotangents), single([h])[0])
    assert len(exact) == len(fused) == 7
    for a, b in zip(exact, fused, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(a).max())


def test_batch_normalise_records_the_biased_moments_without_a_gradient():
    (x, gamma, beta) = single(draw((3, 4, 5, 6), (6,), (6,)))
    with tf.GradientTape() as tape:
        tape.watch(x)
        _, mean, variance = batch_normalise(x, gamma, beta, EPSILON)
    np.testing.assert_allclose(mean, np.mean(x, (0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(variance, np.var(x, (0, 1, 2)), rtol=1e-5)
    assert not np.any(tape.gradient([mean, variance], x, unconnected_gradients=tf.UnconnectedGradients.ZERO))


@pytest.mark.parametrize(("shape", "size"), [((2, 4, 6, 3), (2, 2)), ((2, 7, 5, 3), (2, 2)), ((1, 6, 6, 2), (3, 2))])
def test_max_pool_is_the_stock_one_to_second_order(shape, size):
    pooled = (shape[0], shape[1] // size[0], shape[2] // size[1], shape[3])
    inputs, (h, *cotangents) = draw(shape), draw(pooled, shape)
    stock = derivatives(lambda x: tf.nn.max_pool2d(x, size, size, "VALID"), inputs, cotangents, h)
    ours = derivatives(lambda x: max_pool(x, size), inputs, cotangents, h)
    for a, b in zip(stock, ours, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_max_pool_picks_in_second_order_where_a_tie_was_broken_in_first():
    x, h, w = tf.ones((1, 2, 2, 1)), tf.constant([[[[3.0]]]]), tf.reshape([1.0, 2.0, 4.0, 8.0], (1, 2, 2, 1))
    with tf.GradientTape() as outer:
        outer.watch(h)
        with tf.GradientTape() as inner:
            inner.watch(x)
            loss = tf.reduce_sum(max_pool(x, (2, 2)) * h)
        first = inner.gradient(loss, x)
        product = tf.reduce_sum(first * w)
    chosen = float(tf.reduce_sum(w * first / 3.0))
    assert chosen in (1.0, 2.0, 4.0, 8.0)
    assert float(tf.squeeze(outer.gradient(product, h))) == chosen


def test_where_second_order_is_not_needed_there_is_no_custom_gradient():
    inputs = single(draw((2, 4, 4, 3), (3,), (3,)))

    def gradients(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = max_pool(batch_normalise(*inputs, EPSILON)[0] ** 2, (2, 2))
        return tape.gradient(outputs, inputs)

    expected = gradients(*inputs)
    with first_order_only():
        graph = tf.function(gradients).get_concrete_function(*inputs)
    assert not [op for op in graph.graph.get_operations() if op.type == "IdentityN"]
    for a, b in zip(graph(*inputs), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
