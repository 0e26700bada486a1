"""The backbone of most few-shot work after conv4."""

from __future__ import annotations

from typing import Any

import keras

from tf_mamlpp.errors import UserError
from tf_mamlpp.models.inputs import LAST, check_pictures, input_layer


def resnet12(
    image_shape: tuple[int, ...],
    way: int,
    widths: tuple[int, ...] = (64, 160, 320, 640),
    dtype: str | None = None,
) -> keras.Model:
    """Residual blocks of three 3x3 convolutions, a global average pool, then a dense layer.

    The backbone of most few-shot work after conv4; here without DropBlock.

    Args:
        image_shape: `(height, width, channels)`.
        way: classes of a task, the width of the output.
        widths: filters of each block; a block halves height and width.
        dtype: a Keras dtype policy; None for the global one.

    Returns:
        A model from images `[B, height, width, channels]` to logits `[B, way]`.

    Raises:
        UserError: the pictures are too small for so many blocks.

    Example:
        >>> model = resnet12((8, 8, 3), 5, widths=(2, 4))
        >>> model.output_shape
        (None, 5)
        >>> [layer.filters for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
        [2, 2, 2, 2, 4, 4, 4, 4]

    References:
        Lee et al., "Meta-Learning with Differentiable Convex Optimization", arXiv 1904.03758, section 4.1.
    """
    check_pictures("resnet12", image_shape)
    if min(image_shape[:2]) < 2 ** len(widths):
        raise UserError(f"resnet12 halves pictures {len(widths)} times, {image_shape} leaves nothing; use fewer widths")

    def conv_norm(x: Any, width: int, size: int, name: str) -> Any:
        x = keras.layers.Conv2D(
            width, size, padding="same", use_bias=False, name=f"conv{name}", data_format=LAST, dtype=dtype
        )(x)
        return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"norm{name}", dtype=dtype)(x)

    def activation(x: Any, name: str) -> Any:
        return keras.layers.LeakyReLU(0.1, name=f"activation{name}", dtype=dtype)(x)

    x = inputs = input_layer(image_shape, dtype)
    for i, width in enumerate(widths):
        shortcut = conv_norm(x, width, 1, f"{i}_shortcut")
        x = activation(conv_norm(x, width, 3, f"{i}_0"), f"{i}_0")
        x = activation(conv_norm(x, width, 3, f"{i}_1"), f"{i}_1")
        x = keras.layers.Add(name=f"add{i}", dtype=dtype)([conv_norm(x, width, 3, f"{i}_2"), shortcut])
        # The pool before the activation, as in conv4.
        x = activation(keras.layers.MaxPooling2D(2, name=f"pool{i}", data_format=LAST, dtype=dtype)(x), f"{i}_2")
    x = keras.layers.GlobalAveragePooling2D(name="average", data_format=LAST, dtype=dtype)(x)
    return keras.Model(inputs, keras.layers.Dense(way, name="dense", dtype=dtype)(x), name="resnet12")
