"""Resizing of pictures with exact second derivatives.

TensorFlow declares that the gradient of its bilinear resizing has no derivative, and what flows through it is lost
without a word.  But resizing is linear: the derivative of its gradient is the resizing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.layers.second_order_ops import is_first_order_only


def resize(
    images: tf.Tensor,
    size: Sequence[Any],
    interpolation: str = "bilinear",
    antialias: bool = False,
    data_format: str | None = None,
) -> tf.Tensor:
    """`keras.ops.image.resize` of real numbers, exact to every order of derivative.

    Args:
        images: `[B, H, W, C]` or `[H, W, C]` (channels first: `[B, C, H, W]`, `[C, H, W]`), floating.
        size: height and width of the results, whole numbers or tensors.
        interpolation: `bilinear`, `bicubic`, `nearest`, `lanczos3`, `lanczos5`, or another of `tf.image.resize`.
        antialias: as there.
        data_format: `channels_last` or `channels_first`; None for Keras's own setting.

    Returns:
        Of the dtype of `images`.

    Example:
        >>> resize(tf.reshape([1.0, 2.0], (1, 1, 2, 1)), (1, 4)).numpy().ravel()
        array([1.  , 1.25, 1.75, 2.  ], dtype=float32)
    """
    rank = len(images.shape)
    batch = list(range(rank - 3))
    first = (data_format or keras.config.image_data_format()) == "channels_first"
    if first:
        images = tf.transpose(images, [*batch, rank - 2, rank - 1, rank - 3])
    by_kernel = partial(tf.image.resize, size=size, method=interpolation, antialias=antialias)
    # TensorFlow's kernels compute in float32, and for areas it has no derivative at all.
    if images.dtype == tf.float64 or interpolation == "area":
        resized = _product(images, size, by_kernel)
    else:
        resized = tf.cast(_with_second_derivative(images, by_kernel), images.dtype)
    return tf.transpose(resized, [*batch, rank - 1, rank - 3, rank - 2]) if first else resized


def _with_second_derivative(images: tf.Tensor, by_kernel: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    if is_first_order_only():
        return by_kernel(images)

    def adjoint(returned: tf.Tensor) -> tf.Tensor:
        anywhere = tf.zeros_like(images)  # of a linear function, the gradient is the same everywhere
        with tf.GradientTape() as tape:
            tape.watch(anywhere)
            resized = by_kernel(anywhere)
        return tape.gradient(resized, anywhere, output_gradients=returned)

    @tf.custom_gradient
    def resized(images: tf.Tensor) -> Any:
        return by_kernel(images), tf.custom_gradient(lambda returned: (adjoint(returned), by_kernel))

    return resized(images)


def _product(images: tf.Tensor, size: Sequence[Any], by_kernel: Callable[..., tf.Tensor]) -> tf.Tensor:
    """The same as a product with a matrix for each of the two sides; several times as slow on a CPU."""
    *batch, height, width, channels = tf.unstack(tf.shape(images), len(images.shape))

    def weights(length: tf.Tensor, resized: Any) -> tf.Tensor:
        each = tf.eye(length)[:, :, tf.newaxis, tf.newaxis]  # a picture of one column for every pixel of that side
        return tf.cast(tf.transpose(by_kernel(each, size=(resized, 1))[:, :, 0, 0]), images.dtype)

    tall = weights(height, size[0]) @ tf.reshape(images, [*batch, height, width * channels])
    resized = weights(width, size[1]) @ tf.reshape(tall, [*batch, size[0], width, channels])
    known = [n if isinstance(n, int) else None for n in size]
    return tf.ensure_shape(resized, [*images.shape[:-3], *known, images.shape[-1]])


def is_resized_inexactly(layer: Any) -> bool:
    """Whether a layer resizes with TensorFlow's kernels.

    Pixels that `UpSampling2D` repeats are right.  With a crop or padding to keep the aspect it is left as it is.

    Example:
        >>> up = keras.layers.UpSampling2D
        >>> is_resized_inexactly(up(2, interpolation="bilinear")), is_resized_inexactly(up(2))
        (True, False)
    """
    if type(layer) is keras.layers.UpSampling2D:
        return layer.interpolation != "nearest"
    keeps_aspect = [getattr(layer, f"{way}_to_aspect_ratio", False) for way in ("crop", "pad")]
    return type(layer) is keras.layers.Resizing and not any(keeps_aspect)


@keras.saving.register_keras_serializable("tf_mamlpp")
class ExactUpSampling2D(keras.layers.UpSampling2D):
    """`keras.layers.UpSampling2D` with exact second derivatives.

    Args: see there.

    Example:
        >>> ExactUpSampling2D(2, interpolation="bilinear")(tf.ones((1, 4, 4, 3))).shape
        TensorShape([1, 8, 8, 3])
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if self.interpolation == "nearest" or is_first_order_only() or not inputs.dtype.is_floating:
            return super().call(inputs)
        shape, first = tf.shape(inputs), 2 if self.data_format == "channels_first" else 1
        size = [shape[first + i] * self.size[i] for i in range(2)]
        outputs = resize(inputs, size, self.interpolation, data_format=self.data_format)
        return tf.ensure_shape(outputs, self.compute_output_shape(inputs.shape))


@keras.saving.register_keras_serializable("tf_mamlpp")
class ExactResizing(keras.layers.Resizing):
    """`keras.layers.Resizing` with exact second derivatives, in the dtype of the pictures.

    Args: see there, without `crop_to_aspect_ratio` and `pad_to_aspect_ratio`.

    Example:
        >>> ExactResizing(6, 5)(tf.ones((1, 4, 4, 3))).shape
        TensorShape([1, 6, 5, 3])
    """

    def call(self, data: tf.Tensor, training: bool = True) -> tf.Tensor:
        if is_first_order_only() or not data.dtype.is_floating:
            return super().call(data)
        outputs = resize(
            data, (self.height, self.width), self.interpolation, getattr(self, "antialias", False), self.data_format
        )
        return tf.cast(outputs, self.compute_dtype)
