"""Backbones as plain Keras models.

Stock layers only: `MetaLearner` turns the batch norms into per-step ones, as it does for any user's model.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError


@keras.saving.register_keras_serializable("tf_mamlpp")
def leaky_relu(x: tf.Tensor) -> tf.Tensor:
    """Leaky ReLU of slope 0.01.  TensorFlow's own keeps its slope in float32, which float64 checks would see."""
    return tf.maximum(x, 0.01 * x) if x.dtype == tf.float64 else tf.nn.leaky_relu(x, 0.01)


def _input(shape: tuple[int, ...], dtype: str | None) -> keras.KerasTensor:
    # An Input of its default dtype would round float64 data to float32.
    return keras.Input(shape, dtype=keras.dtype_policies.get(dtype).variable_dtype)


def conv4(
    image_shape: tuple[int, ...],
    way: int,
    filters: int = 64,
    blocks: int = 4,
    strided: bool = False,
    dtype: str | None = None,
) -> keras.Model:
    """Blocks of 3x3 convolution, batch norm, leaky ReLU and 2x2 max-pool, then a dense layer.

    The paper's network ("How to train your MAML", section 5); the published code has both forms.

    Args:
        image_shape: `(height, width, channels)`.
        way: classes of a task, the width of the output.
        filters: of every block (paper: 64 for Omniglot, 48 for mini-ImageNet).
        blocks: how many; each halves height and width.
        strided: convolutions of stride 2 instead of max-pools, and a global average pool before the dense layer.
        dtype: a Keras dtype policy; None for the global one.

    Returns:
        A model from images `[B, height, width, channels]` to logits `[B, way]`.
    """
    if len(image_shape) != 3 or min(image_shape[:2]) < 2**blocks:
        raise UserError(f"conv4 halves pictures {blocks} times, {image_shape} leaves nothing; use fewer blocks")
    layers: list[keras.layers.Layer] = [_input(image_shape, dtype)]
    for i in range(blocks):
        if strided:
            # Zeros on all four sides, as in the published code; "same" would put them below and to the right alone.
            layers += [
                keras.layers.ZeroPadding2D(1, name=f"pad{i}", dtype=dtype),
                keras.layers.Conv2D(filters, 3, strides=2, name=f"conv{i}", dtype=dtype),
            ]
        else:
            layers.append(keras.layers.Conv2D(filters, 3, padding="same", name=f"conv{i}", dtype=dtype))
        layers.append(keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"norm{i}", dtype=dtype))
        if not strided:
            # Before the activation, not after it: a rising function commutes with a maximum, for a quarter of the work.
            layers.append(keras.layers.MaxPooling2D(2, name=f"pool{i}", dtype=dtype))
        layers.append(keras.layers.Activation(leaky_relu, name=f"activation{i}", dtype=dtype))
    if strided:
        layers.append(keras.layers.GlobalAveragePooling2D(name="average", dtype=dtype))
    else:
        layers.append(keras.layers.Flatten(name="flatten", dtype=dtype))
    layers.append(keras.layers.Dense(way, name="dense", dtype=dtype))
    return keras.Sequential(layers, name="conv4")


def resnet12(
    image_shape: tuple[int, ...],
    way: int,
    widths: tuple[int, ...] = (64, 160, 320, 640),
    dtype: str | None = None,
) -> keras.Model:
    """Residual blocks of three 3x3 convolutions, a global average pool, then a dense layer.

    The backbone of most few-shot work after conv4, as in Lee et al., "Meta-Learning with Differentiable Convex
    Optimization", arXiv 1904.03758, section 4.1, without DropBlock.

    Args:
        image_shape: `(height, width, channels)`.
        way: classes of a task, the width of the output.
        widths: filters of each block, which halves height and width.
        dtype: a Keras dtype policy; None for the global one.

    Returns:
        A model from images `[B, height, width, channels]` to logits `[B, way]`.
    """
    if len(image_shape) != 3 or min(image_shape[:2]) < 2 ** len(widths):
        raise UserError(f"resnet12 halves pictures {len(widths)} times, {image_shape} leaves nothing; use fewer widths")

    def conv_norm(x: Any, width: int, size: int, name: str) -> Any:
        x = keras.layers.Conv2D(width, size, padding="same", use_bias=False, name=f"conv{name}", dtype=dtype)(x)
        return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"norm{name}", dtype=dtype)(x)

    def activation(x: Any, name: str) -> Any:
        return keras.layers.LeakyReLU(0.1, name=f"activation{name}", dtype=dtype)(x)

    x = inputs = _input(image_shape, dtype)
    for i, width in enumerate(widths):
        shortcut = conv_norm(x, width, 1, f"{i}_shortcut")
        x = activation(conv_norm(x, width, 3, f"{i}_0"), f"{i}_0")
        x = activation(conv_norm(x, width, 3, f"{i}_1"), f"{i}_1")
        x = keras.layers.Add(name=f"add{i}", dtype=dtype)([conv_norm(x, width, 3, f"{i}_2"), shortcut])
        # The pool before the activation, as in conv4.
        x = activation(keras.layers.MaxPooling2D(2, name=f"pool{i}", dtype=dtype)(x), f"{i}_2")
    x = keras.layers.GlobalAveragePooling2D(name="average", dtype=dtype)(x)
    return keras.Model(inputs, keras.layers.Dense(way, name="dense", dtype=dtype)(x), name="resnet12")


def mlp(
    input_shape: tuple[int, ...], outputs: int, units: tuple[int, ...] = (40, 40), dtype: str | None = None
) -> keras.Model:
    """A fully connected network; its default is the MAML paper's for the sinusoid (arXiv 1703.03400, section 5.1).

    Args:
        input_shape: of one example; flattened.
        outputs: width of the last layer.
        units: of the hidden layers, ReLU each.
        dtype: a Keras dtype policy; None for the global one.

    Returns:
        A model from `[B, *input_shape]` to `[B, outputs]`.
    """
    layers: list[keras.layers.Layer] = [_input(input_shape, dtype)]
    if len(input_shape) > 1:
        layers.append(keras.layers.Flatten(name="flatten", dtype=dtype))
    layers += [keras.layers.Dense(n, "relu", name=f"dense{i}", dtype=dtype) for i, n in enumerate(units)]
    return keras.Sequential([*layers, keras.layers.Dense(outputs, name="dense", dtype=dtype)], name="mlp")


def application(
    name: str, image_shape: tuple[int, ...], way: int, weights: str | None = None, dtype: str | None = None
) -> keras.Model:
    """A network of `keras.applications` with a dense layer on its average-pooled features.

    Its own preprocessing is left out where it can be (`include_preprocessing`); pictures come as the data are
    normalised, and pretrained weights need the mean and std that they were trained with.

    Args:
        name: of its function, such as `MobileNetV3Small`.
        image_shape: `(height, width, channels)`.
        way: classes of a task, the width of the output.
        weights: a weights file (without the top), or None to start from random ones.
        dtype: a Keras dtype policy; None for the global one.

    Raises:
        UserError: no such network, or one that refuses the pictures' shape or the file.
    """
    make = getattr(keras.applications, name, None)
    if not inspect.isfunction(make):
        known = ", ".join(n for n in dir(keras.applications) if n[0].isupper())
        raise UserError(f"keras.applications has no network '{name}'; it has {known}")
    if weights and not os.path.isfile(weights):
        raise UserError(f"weights file '{weights}' not found")
    plain = {"include_preprocessing": False} if "include_preprocessing" in inspect.signature(make).parameters else {}
    try:
        with _global_dtype(dtype):
            body = make(include_top=False, weights=weights, input_shape=image_shape, pooling="avg", **plain)
            outputs = keras.layers.Dense(way, name="dense")(body.output)
    except (ValueError, OSError) as error:
        raise UserError(f"network '{name}' cannot be built: {_one_line(error)}") from error
    return keras.Model(body.input, outputs, name=name.lower())


def build(
    name: str,
    shape: tuple[int, ...],
    outputs: int,
    *,
    filters: int = 64,
    blocks: int = 4,
    strided: bool = False,
    widths: tuple[int, ...] = (64, 160, 320, 640),
    weights: str | None = None,
    dtype: str | None = None,
) -> keras.Model:
    """A model by name: `conv4`, `resnet12`, `mlp`, `keras:NAME` (see `application`), or a user's `MODULE:FUNCTION`.

    Args:
        name: which; `FUNCTION(shape, outputs)` of an importable module (or a file of the current folder) returns any
            model that `MetaLearner` takes.
        shape: of one example.
        outputs: width of the last layer.
        filters, blocks, strided: of `conv4`.
        widths: of `resnet12`.
        weights: of `keras:NAME`.
        dtype: a Keras dtype policy; None for the global one.

    Raises:
        UserError: a model that cannot be built, or a user's function that fails or returns no model.
    """
    kind, _, function = name.partition(":")
    if name == "conv4":
        return conv4(shape, outputs, filters, blocks, strided, dtype)
    if name == "resnet12":
        return resnet12(shape, outputs, widths, dtype)
    if name == "mlp":
        return mlp(shape, outputs, dtype=dtype)
    if kind == "keras":
        return application(function, shape, outputs, weights, dtype)
    with _global_dtype(dtype):
        return _users_own(kind, function, shape, outputs)


def _users_own(module: str, function: str, shape: tuple[int, ...], outputs: int) -> keras.Model:
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a command's path begins with its own folder instead
    try:
        make = getattr(importlib.import_module(module), function)
    except Exception as error:  # the module is the user's: it may raise anything
        raise UserError(
            f"model '{module}:{function}' cannot be imported: {_one_line(error)}; it is conv4, resnet12, mlp, "
            "keras:NAME, or MODULE:FUNCTION of a module on PYTHONPATH or in the current folder"
        ) from error
    try:
        model = make(shape, outputs)
    except Exception as error:
        raise UserError(
            f"model '{module}:{function}' cannot be built: {type(error).__name__}: {_one_line(error)}; "
            f"it is called as {function}({shape}, {outputs})"
        ) from error
    if not isinstance(model, keras.Model):
        raise UserError(f"{module}:{function} returns a {type(model).__name__}, not a keras.Model")
    return model


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


@contextlib.contextmanager
def _global_dtype(dtype: str | None) -> Iterator[None]:
    """The global dtype policy, for models whose layers take none."""
    before = keras.config.dtype_policy()
    if dtype:
        keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def without_head(model: keras.Model) -> keras.Model:
    """The features that a model's last layer gets: the same network, for methods that need no head.

    Raises:
        UserError: the last layer cannot be taken off.
    """
    last = model.layers[-1] if getattr(model, "layers", None) and hasattr(model, "inputs") else None
    if last is None or isinstance(last, keras.Model) or not isinstance(last, keras.layers.Dense):
        raise UserError(
            f"model '{model.name}' does not end in a Dense layer, so that its features cannot be taken; "
            "use a Sequential or functional model that does"
        )
    return keras.Model(model.inputs, last.input, name=model.name)
