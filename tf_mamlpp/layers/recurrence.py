"""Recurrent layers whose second derivatives are needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def plain_recurrences(model: keras.Model) -> Iterator[None]:
    """Inside, no LSTM or GRU of a model computes with cuDNN, which has no second derivatives; elsewhere all may.

    Example:
        >>> model = keras.Sequential([keras.Input((4, 2)), keras.layers.LSTM(3)])
        >>> with plain_recurrences(model):
        ...     model.layers[0].use_cudnn
        False
        >>> model.layers[0].use_cudnn
        'auto'
    """
    layers = [layer for layer in model._flatten_layers() if getattr(layer, "use_cudnn", False)]
    before = [layer.use_cudnn for layer in layers]
    for layer in layers:
        layer.use_cudnn = False
    try:
        yield
    finally:
        for layer, setting in zip(layers, before, strict=True):
            layer.use_cudnn = setting
