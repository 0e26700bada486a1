"""Models of nothing but layers whose second derivatives are known to be right, so that nobody need look."""

from __future__ import annotations

from typing import Any

import keras

from tf_mamlpp.layers.convolution import MatmulConv2D, NarrowConv2D
from tf_mamlpp.layers.exact_norms import ExactGroupNormalization, ExactLayerNormalization
from tf_mamlpp.layers.per_step_batch_norm import PerStepBatchNormalization
from tf_mamlpp.layers.pooling import (
    DisjointMaxPooling2D,
    ExactMaxPooling1D,
    ExactMaxPooling2D,
    ExactMaxPooling3D,
    pool_keeps_shape,
)
from tf_mamlpp.layers.resizing import ExactResizing, ExactUpSampling2D

_layers = keras.layers

PROVEN_OF_KERAS: tuple[type, ...] = (
    *(_layers.InputLayer, _layers.Identity, _layers.Dense, _layers.Embedding, _layers.SimpleRNN, _layers.LSTM),
    *(_layers.GRU, _layers.Conv1D, _layers.Conv2D, _layers.Conv3D, _layers.DepthwiseConv2D, _layers.SeparableConv2D),
    *(_layers.Conv2DTranspose, _layers.AveragePooling1D, _layers.AveragePooling2D, _layers.AveragePooling3D),
    *(_layers.GlobalAveragePooling1D, _layers.GlobalAveragePooling2D, _layers.GlobalMaxPooling1D),
    *(_layers.GlobalMaxPooling2D, _layers.Flatten, _layers.Reshape, _layers.Permute, _layers.RepeatVector),
    *(_layers.Rescaling, _layers.Normalization, _layers.ZeroPadding1D, _layers.ZeroPadding2D, _layers.Cropping2D),
    *(_layers.Activation, _layers.ReLU, _layers.LeakyReLU, _layers.ELU, _layers.PReLU, _layers.Softmax),
    *(_layers.Dropout, _layers.SpatialDropout2D, _layers.GaussianNoise, _layers.Add, _layers.Multiply),
    *(_layers.Average, _layers.Concatenate),
)
"""Layers of Keras that the sweep `tests/meta/test_second_derivatives_of_keras.py` finds right."""

PROVEN_OPERATIONS = ("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Negative", "Reshape", "Transpose", "Mean")
"""Operations between layers, by the names of Keras's classes, of which the same holds."""

_MAX_POOLS: tuple[type, ...] = (_layers.MaxPooling1D, _layers.MaxPooling2D, _layers.MaxPooling3D)

_OWN = (
    *(NarrowConv2D, MatmulConv2D, DisjointMaxPooling2D, ExactMaxPooling1D, ExactMaxPooling2D, ExactMaxPooling3D),
    *(PerStepBatchNormalization, ExactLayerNormalization, ExactGroupNormalization, ExactUpSampling2D, ExactResizing),
)

_REGULARIZERS: tuple[type, ...] = (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2)


def is_proven(model: keras.Model) -> bool:
    """Whether a model consists of layers, activations and regularisers whose second derivatives are right.

    Args:
        model: Sequential or functional; of any other nothing is known.

    Example:
        >>> dense = keras.layers.Dense(2, activation="tanh")
        >>> is_proven(keras.Sequential([keras.Input((4,)), dense]))
        True
        >>> is_proven(keras.Sequential([keras.Input((4,)), dense, keras.layers.Lambda(lambda x: x)]))
        False
    """
    parts = getattr(model, "operations", None) or getattr(model, "layers", None)
    if type(model) not in (keras.Sequential, keras.Model, keras.src.models.functional.Functional) or not parts:
        return False
    return all(is_proven(part) if isinstance(part, keras.Model) else _is_proven_layer(part) for part in parts)


def _is_proven_layer(layer: Any) -> bool:
    if not isinstance(layer, keras.layers.Layer):
        return type(layer).__module__.startswith("keras.src.ops.") and type(layer).__name__ in PROVEN_OPERATIONS
    if type(layer) not in (*PROVEN_OF_KERAS, *_OWN):
        if type(layer) not in _MAX_POOLS or pool_keeps_shape(layer):
            return False
    activations = [getattr(layer, name, None) for name in ("activation", "recurrent_activation")]
    regularizers = [layer.activity_regularizer, *(v.regularizer for v in layer.trainable_variables)]
    return all(map(_is_proven_activation, activations)) and all(
        r is None or type(r) in _REGULARIZERS for r in regularizers
    )


def _is_proven_activation(function: Any) -> bool:
    home = getattr(function, "__module__", "")
    return function is None or home.startswith(("keras.src.activations.", "tf_mamlpp."))
