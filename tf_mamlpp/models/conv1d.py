"""A small convolutional network for series: sensors, signals, spectrograms."""

from __future__ import annotations

import keras

from tf_mamlpp.errors import UserError
from tf_mamlpp.models.conv4 import leaky_relu
from tf_mamlpp.models.inputs import LAST, series_layers


def conv1d(
    input_shape: tuple[int, ...], outputs: int, filters: int = 64, blocks: int = 4, dtype: str | None = None
) -> keras.Model:
    """`conv4` along one axis: blocks of convolution, batch norm, pool and leaky ReLU, averaged over time, then dense.

    Args:
        input_shape: `(steps, ...)` of one example; what follows the steps are features.
        outputs: width of the last layer.
        filters: of every block.
        blocks: how many; each halves the steps.
        dtype: a Keras dtype policy; None for the global one.

    Returns:
        A model from `[B, *input_shape]` to `[B, outputs]`.

    Raises:
        UserError: the series are too short for so many blocks.

    Example:
        >>> model = conv1d((50, 6), 3, filters=8)
        >>> model.output_shape, model.get_layer("pool3").output.shape
        ((None, 3), (None, 3, 8))

    References:
        Wang, Yan, Oates, "Time Series Classification from Scratch with Deep Neural Networks", arXiv 1611.06455
        (convolutions averaged over time).
    """
    if not input_shape or input_shape[0] < 2**blocks:
        raise UserError(f"conv1d halves series {blocks} times, {input_shape} leaves nothing; use fewer blocks")
    layers = series_layers(input_shape, dtype)
    for i in range(blocks):
        layers += [
            keras.layers.Conv1D(filters, 3, padding="same", name=f"conv{i}", data_format=LAST, dtype=dtype),
            keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"norm{i}", dtype=dtype),
            # Before the activation, as in conv4.
            keras.layers.MaxPooling1D(2, name=f"pool{i}", data_format=LAST, dtype=dtype),
            keras.layers.Activation(leaky_relu, name=f"activation{i}", dtype=dtype),
        ]
    layers.append(keras.layers.GlobalAveragePooling1D(name="average", data_format=LAST, dtype=dtype))
    return keras.Sequential([*layers, keras.layers.Dense(outputs, name="dense", dtype=dtype)], name="conv1d")
