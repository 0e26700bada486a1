"""The input layer of a backbone."""

from __future__ import annotations

import math

import keras

from tf_mamlpp.errors import UserError

LAST = "channels_last"
"""Of all pictures of this package, whatever `keras.config.image_data_format()` says."""


def input_layer(shape: tuple[int, ...], dtype: str | None) -> keras.KerasTensor:
    """An input of the dtype that a policy keeps weights in.

    Keras's default is float32, to which float64 data would be rounded.

    Args:
        shape: of one example.
        dtype: a Keras dtype policy; None for the global one.

    Returns:
        A symbolic tensor [B, *shape].

    Example:
        >>> input_layer((28, 28, 1), "float64").dtype
        'float64'
        >>> input_layer((28, 28, 1), "mixed_bfloat16").dtype
        'float32'
    """
    return keras.Input(shape, dtype=keras.dtype_policies.get(dtype).variable_dtype)


def series_layers(shape: tuple[int, ...], dtype: str | None) -> list[keras.layers.Layer]:
    """The first layers of a network of series: the input, as `[B, steps, features]`.

    Args:
        shape: `(steps, ...)` of one example; what follows the steps are features, one if nothing does.
        dtype: a Keras dtype policy; None for the global one.

    Example:
        >>> keras.Sequential(series_layers((50, 4, 3), None)).output_shape
        (None, 50, 12)
        >>> keras.Sequential(series_layers((50,), None)).output_shape
        (None, 50, 1)
    """
    layers: list[keras.layers.Layer] = [input_layer(shape, dtype)]
    if len(shape) != 2:
        layers.append(keras.layers.Reshape((shape[0], math.prod(shape[1:])), name="series", dtype=dtype))
    return layers


def check_pictures(network: str, shape: tuple[int, ...]) -> None:
    """Refuses inputs that are no pictures.

    Args:
        network: that takes pictures alone.
        shape: of one example.

    Raises:
        UserError: it is not `(height, width, channels)`.

    Example:
        >>> check_pictures("conv4", (128, 9))
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: conv4 takes pictures (height, width, channels), not inputs of shape (128, 9): ...
    """
    if len(shape) != 3:
        raise UserError(
            f"{network} takes pictures (height, width, channels), not inputs of shape {shape}: give model.name=mlp, "
            "conv1d, gru, or a network of your own, MODULE:FUNCTION"
        )
