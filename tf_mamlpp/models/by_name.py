"""Networks by name: those of this package, those of `keras.applications`, and a user's own."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Iterator

import keras

from tf_mamlpp.errors import UserError
from tf_mamlpp.models.conv1d import conv1d
from tf_mamlpp.models.conv4 import conv4
from tf_mamlpp.models.gru import gru
from tf_mamlpp.models.mlp import mlp
from tf_mamlpp.models.resnet12 import resnet12


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
    inputs_dtype: str = "float32",
) -> keras.Model:
    """Builds a model by its name.

    Args:
        name: one of
            `conv4`, `resnet12`, `mlp`, `conv1d`, `gru`: the networks of this package;
            `keras:NAME`: a network of `keras.applications`, such as `keras:MobileNetV3Small`, with a dense layer on its
            average-pooled features. Its own preprocessing is left out where Keras allows it, because pictures are
            normalised already; pretrained weights need the mean and std that they were trained with;
            `MODULE:FUNCTION`: a user's own. `FUNCTION(shape, outputs)` of an importable module (or of a file in the
            current folder) returns any model that `MetaLearner` takes. `shape` is that of one example, without the
            batch, a tuple such as `(28, 28, 1)`; `outputs` is the number of classes. Where examples are whole numbers,
            the function declares that: `keras.Input(shape, dtype="int32")`.
        shape: of one example.
        outputs: width of the last layer.
        inputs_dtype: of the examples: `float32`, or `int32`, which only a user's network takes.
        filters: of `conv4` and `conv1d`, see there; the units of `gru`.
        blocks: of `conv4` and `conv1d`.
        strided: of `conv4`.
        widths: of `resnet12`, see there.
        weights: of `keras:NAME`: a weights file (without the last layer); None for random weights.
        dtype: a Keras dtype policy; None for the global one.

    Returns:
        A model from `[B, *shape]` to `[B, outputs]`.

    Raises:
        UserError: a model that cannot be built, or a user's function that fails or returns no model.

    Example:
        >>> build("conv4", (28, 28, 1), 5, filters=8).output_shape
        (None, 5)
        >>> build("torch:resnet", (28, 28, 1), 5)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: model 'torch:resnet' cannot be imported: ...
    """
    if inputs_dtype == "int32" and (":" not in name or name.startswith("keras:")):
        raise UserError(
            f"the inputs are whole numbers, which {name} does not take: give a network of your own that embeds them, "
            "model.name=MODULE:FUNCTION, or numbers such as inputs.astype('float32')"
        )
    if name == "conv4":
        return conv4(shape, outputs, filters, blocks, strided, dtype)
    if name == "resnet12":
        return resnet12(shape, outputs, widths, dtype)
    if name == "mlp":
        return mlp(shape, outputs, dtype=dtype)
    if name == "conv1d":
        return conv1d(shape, outputs, filters, blocks, dtype)
    if name == "gru":
        return gru(shape, outputs, filters, dtype)
    module, _, function = name.partition(":")
    if module == "keras":
        return _keras_application(function, shape, outputs, weights, dtype)
    with _global_dtype(dtype):
        return _model_of_user(module, function, shape, outputs)


def _keras_application(
    name: str, shape: tuple[int, ...], outputs: int, weights: str | None, dtype: str | None
) -> keras.Model:
    make = getattr(keras.applications, name, None)
    if not inspect.isfunction(make):
        known = ", ".join(n for n in dir(keras.applications) if n[0].isupper())
        raise UserError(f"keras.applications has no network '{name}'; it has {known}")
    if weights and not os.path.isfile(weights):
        raise UserError(f"weights file '{weights}' not found")
    plain = {"include_preprocessing": False} if "include_preprocessing" in inspect.signature(make).parameters else {}
    try:
        with _global_dtype(dtype):
            body = make(include_top=False, weights=weights, input_shape=shape, pooling="avg", **plain)
            logits = keras.layers.Dense(outputs, name="dense")(body.output)
    except (ValueError, OSError) as error:
        raise UserError(f"network '{name}' cannot be built: {_one_line(error)}") from error
    return keras.Model(body.input, logits, name=name.lower())


def _model_of_user(module: str, function: str, shape: tuple[int, ...], outputs: int) -> keras.Model:
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a command's path begins with its own folder instead
    try:
        make = getattr(importlib.import_module(module), function)
    except Exception as error:  # the module is the user's: it may raise anything
        raise UserError(
            f"model '{module}:{function}' cannot be imported: {_one_line(error)}; it is conv4, resnet12, mlp, conv1d, "
            "gru, keras:NAME, or MODULE:FUNCTION of a module on PYTHONPATH or in the current folder"
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
