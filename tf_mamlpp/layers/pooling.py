"""Max-pooling of the stock layers' numbers, with exact or cheaper second derivatives.

TensorFlow's kernel of a max-pool's second derivative (`MaxPoolGradGrad`, and its 3-D namesake) writes its result over
its input where both have one shape and a graph has no other use for the input: all that it then gives are zeros
(TensorFlow 2.19 and 2.21).  So it does for every pool whose outputs have the shape of its inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.layers.second_order_ops import is_first_order_only, max_pool
from tf_mamlpp.layers.windows import place_windows


def keeps_shape(
    size: Sequence[int], strides: Sequence[int], padding: str, lengths: Sequence[int | None] | None = None
) -> bool:
    """Whether a pool's outputs have the shape of its inputs, so that TensorFlow's second derivative of it is wrong.

    Args:
        size, strides: of the windows, along each axis.
        padding: `valid` or another, in any case of letters.
        lengths: of the inputs along each axis, as far as they are known.

    Example:
        >>> keeps_shape((3, 3), (1, 1), "same"), keeps_shape((3, 3), (1, 1), "valid")
        (True, False)
        >>> keeps_shape((2, 2), (2, 2), "same", (8, 8)), keeps_shape((2, 2), (2, 2), "same", (1, 1))
        (False, True)
    """
    if padding.lower() == "valid" and max(size) > 1:
        return False
    return all(s == 1 or n == 1 for s, n in zip(strides, lengths or [None] * len(strides), strict=True))


def pool_keeps_shape(pool: keras.layers.Layer) -> bool:
    """`keeps_shape` of a layer, for any of the inputs that it was called with.

    Args:
        pool: a stock `MaxPooling1D`, `2D` or `3D`, or a subclass.

    Example:
        >>> pool_keeps_shape(keras.layers.MaxPooling1D(3, 1, "same")), pool_keeps_shape(keras.layers.MaxPooling2D(2))
        (True, False)
    """
    axes = _spatial_axes(pool)
    called = [[x.shape[a] for a in axes] for node in pool._inbound_nodes for x in node.input_tensors]
    unknown: list[int | None] = [None for _ in axes]
    return any(keeps_shape(pool.pool_size, pool.strides, pool.padding, lengths) for lengths in called or [unknown])


def _spatial_axes(pool: Any) -> range:
    first = 2 if pool.data_format == "channels_first" else 1
    return range(first, first + len(pool.pool_size))


class _ExactMaxPooling(keras.layers.Layer):
    """A max-pool that TensorFlow sees as one whose outputs are smaller than its inputs."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if is_first_order_only() or not inputs.dtype.is_floating:
            return super().call(inputs)
        axes = _spatial_axes(self)
        if max(self.pool_size) == 1:
            index = [slice(None)] * len(inputs.shape)
            for axis, stride in zip(axes, self.strides, strict=True):
                index[axis] = slice(None, None, stride)
            return inputs[tuple(index)]
        lengths = [inputs.shape[a] for a in axes]
        if not keeps_shape(self.pool_size, self.strides, self.padding, lengths):
            return super().call(inputs)
        # Of what `same` adds, nothing is ever the largest.
        padding = [[0, 0] for _ in inputs.shape]
        for axis, length, size, stride in zip(axes, lengths, self.pool_size, self.strides, strict=True):
            # With a stride of 1 the length makes no difference.
            padding[axis] = list(place_windows(length or 1, size, stride, 1, "same").padding)
        padded = tf.pad(inputs, padding, constant_values=inputs.dtype.as_numpy_dtype(-float("inf")))
        return keras.ops.max_pool(padded, self.pool_size, self.strides, "valid", self.data_format)


@keras.saving.register_keras_serializable("tf_mamlpp")
class ExactMaxPooling1D(_ExactMaxPooling, keras.layers.MaxPooling1D):
    """`keras.layers.MaxPooling1D` with exact second derivatives.

    Args: see there.

    Example:
        >>> pool = ExactMaxPooling1D(3, 1, "same")
        >>> pool(tf.reshape([1.0, 3.0, 2.0, 0.0], (1, 4, 1))).numpy().ravel()
        array([3., 3., 3., 2.], dtype=float32)
    """


@keras.saving.register_keras_serializable("tf_mamlpp")
class ExactMaxPooling2D(_ExactMaxPooling, keras.layers.MaxPooling2D):
    """`keras.layers.MaxPooling2D` with exact second derivatives.

    Args: see there.

    Example:
        >>> ExactMaxPooling2D(3, 1, "same")(tf.ones((1, 4, 4, 2))).shape
        TensorShape([1, 4, 4, 2])
    """


@keras.saving.register_keras_serializable("tf_mamlpp")
class ExactMaxPooling3D(_ExactMaxPooling, keras.layers.MaxPooling3D):
    """`keras.layers.MaxPooling3D` with exact second derivatives.

    Args: see there.

    Example:
        >>> ExactMaxPooling3D(3, 1, "same")(tf.ones((1, 4, 4, 4, 2))).shape
        TensorShape([1, 4, 4, 4, 2])
    """


@keras.saving.register_keras_serializable("tf_mamlpp")
class DisjointMaxPooling2D(keras.layers.MaxPooling2D):
    """`keras.layers.MaxPooling2D` of windows that do not overlap, with a cheaper second derivative.

    Args: see there; `strides` must be `pool_size`, and `padding` valid.

    Example:
        >>> DisjointMaxPooling2D(2)(tf.reshape(tf.range(16.0), (1, 4, 4, 1))).numpy().ravel()
        array([ 5.,  7., 13., 15.], dtype=float32)
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return max_pool(inputs, self.pool_size)
