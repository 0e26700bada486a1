"""Convolutions of the stock layer's numbers and weights, for less work.

The outputs of a network's first convolution are its largest tensors, and linear in patches of only a few numbers
(9 or 27).  Their batch mean and variance follow from the mean and covariance of the patches, which do not depend on
weights, so that normalising is one convolution with a scaled kernel (`NarrowConv2D`).  What it is worth:
BUILD_NOTES.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.layers.step_context import mark_convolution
from tf_mamlpp.layers.windows import Windows, place_windows

Convolution = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class Convolved:
    """How a convolution made its outputs: what batch norm needs in place of them.

    Attributes:
        inputs: `[B, H, W, C]`.
        kernel: `[h, w, C, filters]`.
        bias: `[filters]` or None.
        convolve: `(inputs, kernel) -> outputs`.

    Example:
        >>> pictures, kernel = tf.ones((1, 4, 4, 1)), tf.ones((3, 3, 1, 2))
        >>> made_by = Convolved(pictures, kernel, None, lambda x, k: tf.nn.conv2d(x, k, 1, "VALID"))
        >>> mean, variance = made_by.moments(tf.float32)
        >>> mean.numpy(), variance.numpy()
        (array([9., 9.], dtype=float32), array([0., 0.], dtype=float32))
    """

    inputs: tf.Tensor
    kernel: tf.Tensor
    bias: tf.Tensor | None
    convolve: Convolution

    def moments(self, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and biased variance of each channel of the outputs, `[filters]`, computed in `dtype`.

        Formula:
            y = Wᵀp + b for a patch p:  mean(y) = Wᵀ mean(p) + b,  var(y) = diag(Wᵀ cov(p) W)
        """
        kernel = tf.cast(self.kernel, dtype)
        size = kernel.shape[:3].num_elements()
        each = tf.reshape(tf.eye(size, dtype=dtype), [*kernel.shape[:3], size])
        patches = tf.reshape(self.convolve(tf.cast(self.inputs, dtype), each), [-1, size])
        mean = tf.reduce_mean(patches, 0)
        centred = patches - mean
        covariance = tf.matmul(centred, centred, transpose_a=True) / tf.cast(tf.shape(patches)[0], dtype)
        weights = tf.reshape(kernel, [size, -1])
        # Rounding errs by 1e-7 of the patches' variance, which may exceed a channel's own; no variance is negative.
        variance = tf.maximum(tf.reduce_sum(weights * (covariance @ weights), 0), 0)
        bias = 0 if self.bias is None else tf.cast(self.bias, dtype)
        return tf.linalg.matvec(weights, mean, transpose_a=True) + bias, variance

    def affine(self, scale: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
        """The outputs * scale + shift (both `[filters]`), in the dtype of these; as one convolution."""
        kernel = tf.cast(tf.cast(self.kernel, scale.dtype) * scale, self.inputs.dtype)
        if self.bias is not None:
            shift += tf.cast(self.bias, scale.dtype) * scale
        # Not `+`: the gradient of its broadcast is a sum at half the speed, 8 % of a pretraining update of 84x84.
        return tf.nn.bias_add(tf.cast(self.convolve(self.inputs, kernel), scale.dtype), shift)


@keras.saving.register_keras_serializable("tf_mamlpp")
class NarrowConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` that notes on its outputs how they were made, where few inputs make each of them.

    A `PerStepBatchNormalization` right after it then normalises by way of the inputs.  The outputs themselves, if
    nothing else uses them, are pruned from the graph (else the convolution is computed twice).

    Example:
        >>> from tf_mamlpp.layers.step_context import convolution_of
        >>> outputs = NarrowConv2D(16, 3)(tf.ones((1, 5, 5, 1)))
        >>> type(convolution_of(outputs)).__name__
        'Convolved'
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = super().call(inputs)
        if self.groups == 1 and is_narrow(self):
            bias = tf.convert_to_tensor(self.bias) if self.use_bias else None
            mark_convolution(outputs, Convolved(inputs, tf.convert_to_tensor(self.kernel), bias, self.convolution_op))
        return outputs


@keras.saving.register_keras_serializable("tf_mamlpp")
class MatmulConv2D(NarrowConv2D):
    """`keras.layers.Conv2D` as a matrix product with the inputs' patches.

    `tf.vectorized_map` cannot batch convolutions whose kernels differ from task to task; of these products it can.

    Example:
        >>> pictures = tf.random.stateless_normal((2, 6, 6, 3), seed=(0, 0))
        >>> plain, product = keras.layers.Conv2D(4, 3), MatmulConv2D(4, 3)
        >>> _ = plain(pictures), product(pictures)
        >>> product.set_weights(plain.get_weights())
        >>> bool(tf.reduce_max(tf.abs(plain(pictures) - product(pictures))) < 1e-5)
        True
    """

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        (height, width), (channels, filters) = kernel.shape[:2], kernel.shape[2:]
        rows = place_windows(inputs.shape[1], height, self.strides[0], self.dilation_rate[0], self.padding)
        columns = place_windows(inputs.shape[2], width, self.strides[1], self.dilation_rate[1], self.padding)
        padded = tf.pad(inputs, [[0, 0], rows.padding, columns.padding, [0, 0]])
        patches = tf.concat([padded[:, r, c] for r in self._slices(0, rows) for c in self._slices(1, columns)], -1)
        size = height * width * channels  # of a patch, or of a group's part of it
        if self.groups == 1:
            products = tf.reshape(patches, [-1, size]) @ tf.reshape(kernel, [size, filters])
        else:
            products = self._grouped_products(patches, kernel)
        return tf.reshape(products, [-1, rows.count, columns.count, filters])

    def _grouped_products(self, patches: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Each group of channels times the kernels of its own filters, which follow one another."""
        (height, width), (channels, filters) = kernel.shape[:2], kernel.shape[2:]
        places, size, each = height * width, height * width * channels, filters // self.groups
        by_group = tf.transpose(tf.reshape(patches, [-1, places, self.groups, channels]), [2, 0, 1, 3])
        kernels = tf.transpose(tf.reshape(kernel, [size, self.groups, each]), [1, 0, 2])
        return tf.transpose(tf.reshape(by_group, [self.groups, -1, size]) @ kernels, [1, 0, 2])

    def _slices(self, axis: int, windows: Windows) -> list[slice]:
        """The first element of every window, the second of every window, ..."""
        stride = self.strides[axis]
        return [slice(o, o + (windows.count - 1) * stride + 1, stride) for o in windows.offsets]


def is_narrow(layer: Any) -> bool:
    """Whether the outputs are linear in so few inputs that the covariance of these costs less than the outputs do.

    Args:
        layer: a built convolution.

    Example:
        >>> narrow, wide = keras.layers.Conv2D(64, 3), keras.layers.Conv2D(64, 3)
        >>> narrow.build((None, 28, 28, 1)), wide.build((None, 28, 28, 64))
        (None, None)
        >>> is_narrow(narrow), is_narrow(wide)
        (True, False)
    """
    few = layer.kernel.shape[:3].num_elements() <= min(layer.filters, 64)
    return few and layer.activation is keras.activations.linear
