"""Max-pooling of the stock layer's numbers, with a cheaper second derivative."""

from __future__ import annotations

import keras
import tensorflow as tf

from tf_mamlpp.layers.second_order_ops import max_pool


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
