"""Stock layers exchanged for exact or quicker ones, in a copy of the user's model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.borrowed_model import BorrowedModel
from tf_mamlpp.layers.convolution import MatmulConv2D, NarrowConv2D, is_narrow
from tf_mamlpp.layers.exact_norms import ExactGroupNormalization, ExactLayerNormalization
from tf_mamlpp.layers.exact_operations import exact_operation, is_inexact_operation, operations_of
from tf_mamlpp.layers.per_step_batch_norm import PerStepBatchNormalization
from tf_mamlpp.layers.pooling import (
    DisjointMaxPooling2D,
    ExactMaxPooling1D,
    ExactMaxPooling2D,
    ExactMaxPooling3D,
    pool_keeps_shape,
)
from tf_mamlpp.layers.resizing import ExactResizing, ExactUpSampling2D, is_resized_inexactly
from tf_mamlpp.layers.stock_norms import check_renorm

_STOCK: dict[type, type | None] = {
    keras.layers.BatchNormalization: None,  # needs the number of steps
    keras.layers.LayerNormalization: ExactLayerNormalization,
    keras.layers.GroupNormalization: ExactGroupNormalization,
}

_POOLS: dict[type, Any] = {
    keras.layers.MaxPooling1D: ExactMaxPooling1D,
    keras.layers.MaxPooling2D: ExactMaxPooling2D,
    keras.layers.MaxPooling3D: ExactMaxPooling3D,
}

_RESIZINGS: dict[type, Any] = {
    keras.layers.UpSampling2D: ExactUpSampling2D,
    keras.layers.Resizing: ExactResizing,
}

_EXACT = (PerStepBatchNormalization, ExactLayerNormalization, ExactGroupNormalization)


def _is_inexact(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, tuple(_STOCK)) and not isinstance(layer, _EXACT)


def _is_inexact_pool(layer: keras.layers.Layer) -> bool:
    return type(layer) in _POOLS and pool_keeps_shape(layer)


def copied_layer(layer: Any, **changes: Any) -> Any:
    """A copy of a layer or operation without its weights.

    Args:
        layer: with a config; of a `Lambda` the function itself is taken, which no config may hold.
        **changes: to its config.

    Example:
        >>> half = keras.layers.Lambda(lambda x: x / 2, name="half")
        >>> copied_layer(half, dtype="float64").dtype, copied_layer(half)(tf.constant([2.0])).numpy()
        ('float64', array([1.], dtype=float32))
    """
    if type(layer) is not keras.layers.Lambda:
        return layer.__class__.from_config({**layer.get_config(), **changes})
    settings = {"name": layer.name, "trainable": layer.trainable, "dtype": layer.dtype_policy, **changes}
    shape = getattr(layer, "_output_shape", None)
    return keras.layers.Lambda(layer.function, shape, layer.mask, layer.arguments, **settings)


def _leaves(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    return [layer for layer in model._flatten_layers() if not isinstance(layer, keras.Model)]


def _counterpart(
    layer: keras.layers.Layer,
    inner_steps: int,
    per_step_weights: bool,
    per_step_statistics: bool,
    batched_tasks: bool,
) -> keras.layers.Layer:
    """A new layer, without the weights, for the place of `layer`; operations between layers too."""
    if is_inexact_operation(layer):
        return exact_operation(layer)
    if type(layer) is keras.layers.Lambda:
        return copied_layer(layer)
    config = layer.get_config()
    if type(layer) is PerStepBatchNormalization:
        return PerStepBatchNormalization.from_config({**config, "fused": not batched_tasks})
    if type(layer) not in _STOCK:
        return substitute(layer, batched_tasks) or layer.__class__.from_config(config)
    if type(layer) is not keras.layers.BatchNormalization:
        return _STOCK[type(layer)].from_config(config)  # type: ignore[union-attr]
    check_renorm(layer)
    kept = {"name", "trainable", "dtype", "axis", "momentum", "epsilon", "center", "scale"}
    kept |= {"beta_regularizer", "gamma_regularizer", "activity_regularizer"} & set(config)
    return PerStepBatchNormalization(
        inner_steps,
        per_step_weights,
        per_step_statistics,
        fused=not batched_tasks,
        **{name: config[name] for name in kept},
    )


def convert_normalization(
    model: keras.Model,
    inner_steps: int,
    per_step_weights: bool = False,
    per_step_statistics: bool = False,
    batched_tasks: bool = False,
) -> keras.Model:
    """The model with exact layers in place of stock ones whose second derivatives are wrong, weights kept.

    `BatchNormalization` becomes `PerStepBatchNormalization` (its weights repeated in every row),
    `LayerNormalization` and `GroupNormalization` their exact namesakes, as do max-pools whose outputs have the shape
    of their inputs, `UpSampling2D` and `Resizing`, and between layers `keras.ops.moments`, `layer_normalization` and
    `image.resize`; convolutions of few inputs and other max-pools become cheaper layers of the same numbers
    (`substitute`).  A model that has none of the former is returned as it is; else the result is a
    copy (names kept) and the argument is left alone.  Stock normalisation inside layers of the user's own
    stays, and computes exactly in a learner's passes (`stock_norms`).  What else cannot be exchanged is left to
    `inexact.check_operations`, since to first order it is right.

    Args:
        model: built.  One that cannot be copied, such as a subclassed one, is lent its code (`BorrowedModel`) if it has
            stock normalisation.
        inner_steps, per_step_weights, per_step_statistics: see `PerStepBatchNormalization`.
        batched_tasks: for `tf.vectorized_map` over tasks: convolutions are matrix products, nothing is fused, and a
            model without normalisation is converted too.

    Raises:
        UserError: a batch norm with `renorm`; with `batched_tasks` a model that cannot be copied; or a
            `PerStepBatchNormalization` of the user's own with rows for another number of steps, or for none.

    Example:
        >>> layers = [keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()]
        >>> converted = convert_normalization(keras.Sequential(layers), inner_steps=5)
        >>> [type(layer).__name__ for layer in converted.layers]
        ['Conv2D', 'PerStepBatchNormalization']
    """
    converted = _converted(model, inner_steps, per_step_weights, per_step_statistics, batched_tasks)
    for layer in _leaves(converted):
        if isinstance(layer, PerStepBatchNormalization):
            _check_rows(layer, inner_steps, per_step_weights, per_step_statistics)
    return converted


def _check_rows(layer: PerStepBatchNormalization, inner_steps: int, weights: bool, statistics: bool) -> None:
    for name, wanted in (("per_step_weights", weights), ("per_step_statistics", statistics)):
        if getattr(layer, name) != wanted:
            raise UserError(
                f"batch norm '{layer.name}' has {name}={not wanted}, the learner {name}={wanted}: give both the same"
            )
    if (weights or statistics) and layer.inner_steps != inner_steps:
        raise UserError(
            f"batch norm '{layer.name}' has rows for {layer.inner_steps} inner steps, the learner takes {inner_steps}: "
            f"make it PerStepBatchNormalization({inner_steps}), or set inner_steps={layer.inner_steps}"
        )


def _converted(
    model: keras.Model, inner_steps: int, per_step_weights: bool, per_step_statistics: bool, batched_tasks: bool
) -> keras.Model:
    inexact = any(map(_is_inexact, _leaves(model)))
    others = any(_is_inexact_pool(layer) or is_resized_inexactly(layer) for layer in _leaves(model))
    others = others or any(map(is_inexact_operation, operations_of(model)))
    if not batched_tasks and not inexact and not others:
        return model

    def counterpart(layer: keras.layers.Layer) -> keras.layers.Layer:
        return _counterpart(layer, inner_steps, per_step_weights, per_step_statistics, batched_tasks)

    converted, why = _copied(model, counterpart)
    if batched_tasks and not converted:
        raise UserError(
            f"model '{model.name}' cannot be copied for batched_tasks: {why}; leave batched_tasks off, or give a "
            "Sequential or functional model"
        )
    if converted and not (_stock_batch_norms(converted) and (per_step_weights or per_step_statistics)):
        return converted  # what is left of Keras's own is exact in a learner's passes: `stock_norms`
    if not inexact or not model.built:
        return model
    for layer in _stock_batch_norms(model):
        check_renorm(layer)
    return BorrowedModel(converted or model, inner_steps, per_step_weights, per_step_statistics)


def _copied(model: keras.Model, counterpart: Callable[[Any], Any]) -> tuple[keras.Model | None, str]:
    """A copy with other layers and the same weights; None, and why, where there can be none."""
    if not (isinstance(model, keras.Sequential) or hasattr(model, "operations")):
        return None, "it is subclassed"
    if not model.built:
        return None, "it is not built"
    try:
        converted = keras.models.clone_model(model, clone_function=counterpart, recursive=True)
        _copy_weights(model, converted)
    except UserError:
        raise
    except (ValueError, TypeError, NotImplementedError, tf.errors.InvalidArgumentError) as error:
        # A layer whose config does not tell all of it.
        return None, " ".join(str(error).split())[:200]
    return converted, ""


def _stock_batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    return [layer for layer in _leaves(model) if isinstance(layer, keras.layers.BatchNormalization)]


def _copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copies layer by layer; a `[C]` vector fills every row of a `[inner_steps, C]` table."""
    for old, new in zip(_leaves(source), _leaves(target), strict=True):
        for a, b in zip(old.weights, new.weights, strict=True):
            b.assign(tf.broadcast_to(a.value, b.shape))
        if hasattr(new, "finalize_state"):  # a Normalization keeps the mean and variance that it computes with apart
            new.finalize_state()
    copy_trainable(source, target)


def copy_trainable(source: keras.Model, target: keras.Model) -> None:
    """Freezes in a copy of a model what is frozen in the model, weight by weight: layers' configs do not tell.

    Args:
        source: the model.
        target: its copy, with as many variables in the same order.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> model.layers[0].kernel.trainable = False
        >>> copy = keras.models.clone_model(model)
        >>> copy_trainable(model, copy)
        >>> [v.name for v in copy.trainable_variables]
        ['bias']
    """
    for one, other in zip(source._flatten_layers(), target._flatten_layers(), strict=True):
        if other.trainable != one.trainable:
            other.trainable = one.trainable
    for old, new in zip(source.variables, target.variables, strict=True):
        new.trainable = old.trainable
    if not source.trainable:
        target.trainable = False


def substitute(layer: keras.layers.Layer, batched_tasks: bool = False) -> keras.layers.Layer | None:
    """An exact or cheaper layer of the same numbers, without the weights, for the place of this one; None to keep it.

    Args:
        layer: built.
        batched_tasks: convolutions whose inputs' sizes are known become `MatmulConv2D`.

    Example:
        >>> pool = keras.layers.MaxPooling2D(2)
        >>> type(substitute(pool)).__name__
        'DisjointMaxPooling2D'
    """
    cls: Any = None
    if _is_inexact_pool(layer) or is_resized_inexactly(layer):
        return {**_POOLS, **_RESIZINGS}[type(layer)].from_config(layer.get_config())
    if getattr(layer, "data_format", None) != "channels_last":
        return None
    if type(layer) is keras.layers.MaxPooling2D:
        if layer.padding == "valid" and tuple(layer.strides) == tuple(layer.pool_size):
            cls = DisjointMaxPooling2D
    elif type(layer) in (keras.layers.Conv2D, NarrowConv2D, MatmulConv2D) and (batched_tasks or layer.groups == 1):
        shapes = [x.shape for node in layer._inbound_nodes for x in node.input_tensors]
        if batched_tasks and all(None not in shape[1:] for shape in shapes):
            cls = MatmulConv2D
        else:
            cls = NarrowConv2D if layer.groups == 1 and is_narrow(layer) else keras.layers.Conv2D
    return cls.from_config(layer.get_config()) if cls else None
