"""A small recurrent network."""

from __future__ import annotations

import keras

from tf_mamlpp.errors import UserError
from tf_mamlpp.models.inputs import LAST, series_layers


def gru(input_shape: tuple[int, ...], outputs: int, units: int = 64, dtype: str | None = None) -> keras.Model:
    """One layer of gated recurrent units, averaged over time, then a dense layer.

    Args:
        input_shape: `(steps, ...)` of one example; what follows the steps are features.
        outputs: width of the last layer.
        units: of the recurrent layer.
        dtype: a Keras dtype policy; None for the global one.

    Returns:
        A model from `[B, *input_shape]` to `[B, outputs]`.

    Raises:
        UserError: one example has no axis of steps.

    Example:
        >>> model = gru((50, 6), 3, units=8)
        >>> model.output_shape, model.count_params()  # 3 gates of 6 inputs, 8 states and two biases; 27 of the last
        ((None, 3), 411)

    References:
        Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", arXiv 1406.1078.
    """
    if not input_shape:
        raise UserError("gru needs series, of shape (steps, features), and one example is a single number")
    recurrent = keras.layers.GRU(units, return_sequences=True, name="gru", dtype=dtype)
    average = keras.layers.GlobalAveragePooling1D(name="average", data_format=LAST, dtype=dtype)
    dense = keras.layers.Dense(outputs, name="dense", dtype=dtype)
    return keras.Sequential([*series_layers(input_shape, dtype), recurrent, average, dense], name="gru")
