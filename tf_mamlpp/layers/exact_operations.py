"""Operations between the layers of a functional model (`keras.ops`), exchanged for exact ones of the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.layers.exact_norms import layer_normalise, moments_in_dtype
from tf_mamlpp.layers.resizing import resize


def operations_of(model: keras.Model) -> Iterator[keras.Operation]:
    """The operations of a functional model, and of those inside it, that are not layers.

    Example:
        >>> inputs = keras.Input((4,))
        >>> [type(operation).__name__ for operation in operations_of(keras.Model(inputs, keras.ops.sin(inputs)))]
        ['Sin']
    """
    for part in getattr(model, "operations", ()):
        if isinstance(part, keras.Model):
            yield from operations_of(part)
        elif not isinstance(part, keras.layers.Layer):
            yield part


def is_inexact_operation(operation: Any) -> bool:
    """Whether an operation of Keras has wrong second derivatives and an exact counterpart.

    Example:
        >>> inputs = keras.Input((4,))
        >>> mean, variance = keras.ops.moments(inputs, [1])
        >>> [is_inexact_operation(operation) for operation in operations_of(keras.Model(inputs, variance))]
        [True]
    """
    if not type(operation).__module__.startswith("keras.src.ops.") or type(operation).__name__ not in _EXACT:
        return False
    return not any(getattr(operation, f"{way}_to_aspect_ratio", False) for way in ("crop", "pad"))


def exact_operation(operation: Any) -> Any:
    """The counterpart of an operation that `is_inexact_operation`: of the same class, but for what it computes.

    Example:
        >>> inputs = keras.Input((4,))
        >>> (inexact,) = operations_of(keras.Model(inputs, keras.ops.moments(inputs, [1])))
        >>> mean, variance = exact_operation(inexact)(tf.constant([[1.0, 2.0, 3.0, 6.0]]))
        >>> variance.numpy()
        array([3.5], dtype=float32)
    """
    twin = type(operation).from_config(operation.get_config())
    twin.call = partial(_EXACT[type(operation).__name__], twin)
    return twin


def _moments(operation: Any, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return moments_in_dtype(x, operation.axes, operation.keepdims)


def _layer_norm(operation: Any, x: tf.Tensor, gamma: Any = None, beta: Any = None) -> tf.Tensor:
    epsilon = keras.config.epsilon() if operation.epsilon is None else operation.epsilon
    return layer_normalise(x, gamma, beta, operation.axis, epsilon, operation.rms_scaling)


def _resize(operation: Any, images: tf.Tensor) -> tf.Tensor:
    return resize(images, operation.size, operation.interpolation, operation.antialias, operation.data_format)


_EXACT: dict[str, Callable[..., Any]] = {"Moments": _moments, "LayerNorm": _layer_norm, "Resize": _resize}
