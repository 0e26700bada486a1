"""The way back from `conversion`: a copy of a model in stock Keras layers, with given weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.batch_norms import batch_norms, has_rows
from tf_mamlpp.layers.borrowed_model import BorrowedModel
from tf_mamlpp.layers.conversion import copy_trainable
from tf_mamlpp.layers.per_step_batch_norm import PerStepBatchNormalization

_OF_BATCH_NORM = ("name", "trainable", "dtype", "axis", "momentum", "epsilon", "center", "scale")
_REGULARISERS = ("beta_regularizer", "gamma_regularizer")


def stock_copy(
    model: keras.Model, trainable: Sequence[tf.Tensor], others: Sequence[tf.Tensor], row: int
) -> keras.Model:
    """A model of its own with stock layers in place of this package's, as far as its graph is known.

    A `PerStepBatchNormalization` becomes the stock layer with the values of one row; in a subclassed model it stays,
    with that row in all of them.  A dense layer becomes as wide as its values.

    Args:
        model: built; it is left alone.
        trainable: values of its `trainable_variables`.
        others: values of its `non_trainable_variables`.
        row: of the batch norms' tables; past their last row it is that.

    Raises:
        UserError: the model cannot be copied.

    Example:
        >>> norm = PerStepBatchNormalization(2, name="norm")
        >>> model = keras.Sequential([keras.Input((3,)), norm], name="net")
        >>> weights, state = norm.trainable_variables, norm.non_trainable_variables
        >>> copy = stock_copy(model, weights, state, row=0)
        >>> type(copy.layers[0]).__name__, copy.layers[0].gamma.shape
        ('BatchNormalization', TensorShape([3]))
    """
    values = {id(v): value for v, value in zip(model.trainable_variables, trainable, strict=True)}
    values |= {id(v): value for v, value in zip(model.non_trainable_variables, others, strict=True)}
    if isinstance(model, BorrowedModel):
        source, pairs = model.lender, model.pairs
    else:
        own = (v for norm in batch_norms(model) for v in (*norm.weights, *norm.statistics))
        tables = {id(v) for v in own if has_rows(v)}
        source, pairs = model, [(v, v, id(v) in tables) for v in model.variables]
    copy = _copy(source, {id(v): values[id(own)].shape[-1] for v, own, _ in pairs if v.shape.rank})
    for (_, own, is_table), new in zip(pairs, copy.variables, strict=True):
        value = values[id(own)]
        if is_table:
            value = value[min(row, own.shape[0] - 1)]
        new.assign(tf.broadcast_to(value, new.shape))
    copy_trainable(source, copy)
    return copy


def _copy(model: keras.Model, widths: Mapping[int, int]) -> keras.Model:
    def counterpart(layer: Any) -> Any:
        return _stock_layer(layer, widths)

    try:
        if isinstance(model, keras.Sequential) or hasattr(model, "operations"):
            return keras.models.clone_model(model, clone_function=counterpart, recursive=True)
        copy = keras.models.clone_model(model)
    except Exception as error:  # whatever a user's own `get_config` and `from_config` raise
        why = " ".join(str(error).split())[:200]
        raise UserError(f"model '{model.name}' cannot be copied: {why}") from error
    if len(copy.variables) != len(model.variables):
        raise UserError(
            f"model '{model.name}' cannot be copied: made anew from its config it has no weights until it is called; "
            "make all of them in its build(input_shape)"
        )
    return copy


def _stock_layer(layer: Any, widths: Mapping[int, int]) -> Any:
    """A new layer, without the weights, for the place of `layer`; operations between layers too.

    `widths` are the last axes of the values that variables get, by the variables' identities.
    """
    config = layer.get_config()
    if type(layer) is keras.layers.Dense:
        config["units"] = widths.get(id(layer._kernel), layer.units)
    if type(layer) is PerStepBatchNormalization:
        kept = [*_OF_BATCH_NORM, *(name for name in _REGULARISERS if config[name])]
        return keras.layers.BatchNormalization(**{name: config[name] for name in kept})
    cls: Any = type(layer)
    if cls.__module__.startswith("tf_mamlpp.layers."):  # each of them is a stock layer that computes otherwise
        cls = next(base for base in cls.__mro__ if getattr(keras.layers, base.__name__, None) is base)
    return cls.from_config(config)
