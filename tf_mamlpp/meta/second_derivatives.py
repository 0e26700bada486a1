"""Second derivatives as a graph computes them, against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# Kinks (ReLU, pooling) spoil some finite differences, long ones more often: the best of several counts.
DIFFERENCE_STEPS = (1e-5, 1e-6, 1e-7, 1e-4, 1e-3)
_COARSE_STEPS = (1e-2, 3e-3, 1e-3, 3e-2)


def second_derivative_error(function: Callable[..., Any], point: Sequence[tf.Tensor], seed: int = 0) -> float:
    """How far the second derivatives of a function are off finite differences, computed as training computes them.

    In a graph, because some of TensorFlow's kernels write over an input that nothing else needs any more.  With `d`
    at random, the vector that the second derivatives are multiplied with is made in the graph, so that no one else
    needs it; the finite differences are taken eagerly, where every tensor is held.

    Formula:
        ∇ Σ d sin(g(p)) = H v for v = d cos(g(p)), against (g(p + h v) - g(p - h v)) / 2h, g the gradient at p

    Args:
        function: of the point's tensors; returns nested tensors.  Those that are not floating count for nothing.
        point: p, in float64 (in float32 for what has nothing finer, with errors of up to a hundredth).
        seed: of `d`, and of the sum of the outputs whose gradient g is.

    Returns:
        The length of the difference, relative to the longer of the two vectors.

    Example:
        >>> point = [tf.constant([0.5, 2.0], tf.float64)]
        >>> second_derivative_error(tf.exp, point) < 1e-6
        True
        >>> second_derivative_error(lambda x: tf.stop_gradient(x) * x, point) > 0.1
        True
    """
    generator = np.random.default_rng(seed)
    point = [tf.identity(p) for p in point]  # of a tensor that came twice, each place would get the whole gradient
    projections: list[tf.Tensor] = []

    def gradient(*point: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(point)
            outputs = _floating_parts(function(*point))
            if not projections:
                projections.extend(tf.constant(generator.normal(size=o.shape), o.dtype) for o in outputs)
            # The square makes linear functions have something to get wrong.
            total = [tf.reduce_sum((o + 0.1 * o**2) * p) for o, p in zip(outputs, projections, strict=True)]
        gradients = tape.gradient(total, point, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [tf.convert_to_tensor(g) for g in gradients]  # an embedding's is sparse

    first = gradient(*point)
    directions = [tf.constant(generator.normal(size=p.shape), p.dtype) for p in point]

    @tf.function(autograph=False)
    def along(one: tf.Tensor, *point: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(point)
            gradients = gradient(*(p * tf.cast(one, p.dtype) for p in point))
            total = [tf.reduce_sum(tf.sin(g) * d) for g, d in zip(gradients, directions, strict=True)]
        return tape.gradient(total, point, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    exact = _flat(along(tf.constant(1.0, tf.float64), *point))
    vector = [d * tf.cos(g) for g, d in zip(first, directions, strict=True)]
    steps = DIFFERENCE_STEPS if all(p.dtype == tf.float64 for p in point) else _COARSE_STEPS

    def deviation(h: float) -> float:
        ends = [_flat(gradient(*(p + s * h * v for p, v in zip(point, vector, strict=True)))) for s in (1, -1)]
        difference = (ends[0] - ends[1]) / (2 * h)
        # What is shorter than rounding of the gradients leaves counts as 0.
        lengths = (np.linalg.norm(exact), np.linalg.norm(difference), 1e-6 * np.linalg.norm(ends[0]))
        return float(np.linalg.norm(difference - exact)) / max(1e-12, *map(float, lengths))

    return min(deviation(h) for h in steps)


def _floating_parts(outputs: Any) -> list[tf.Tensor]:
    tensors = [tf.convert_to_tensor(o) for o in tf.nest.flatten(outputs) if o is not None]
    parts = [[tf.math.real(t), tf.math.imag(t)] if t.dtype.is_complex else [t] for t in tensors]
    return [part for both in parts for part in both if part.dtype.is_floating]


def _flat(tensors: Sequence[Any]) -> np.ndarray:
    return np.concatenate([tf.convert_to_tensor(t).numpy().ravel().astype(np.float64) for t in tensors])
