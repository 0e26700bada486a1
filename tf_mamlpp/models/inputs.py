"""The input layer of a backbone."""

from __future__ import annotations

import keras


def input_layer(shape: tuple[int, ...], dtype: str | None) -> keras.KerasTensor:
    # An Input of its default dtype would round float64 data to float32.
    return keras.Input(shape, dtype=keras.dtype_policies.get(dtype).variable_dtype)
