"""Normalisation layers whose second derivatives are right, and the conversion of stock Keras layers to them.

`tf.nn.moments`, which the stock layers use, stops the gradient of the mean inside the variance: harmless
to first derivatives, wrong in second ones, which MAML needs.  Every layer here takes its moments with
`moments` below instead.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.second_order import batch_normalise
from tf_mamlpp.substitutes import convolved, substitute


@dataclass(frozen=True)
class _Pass:
    """What one pass through the model asks of its batch norms; see `inner_step`."""

    step: int | tf.Tensor
    statistics: str
    momentum: float | None


_current_pass: contextvars.ContextVar[_Pass | None] = contextvars.ContextVar("inner_step", default=None)


@contextlib.contextmanager
def inner_step(step: int | tf.Tensor, statistics: str = "batch", momentum: float | None = None) -> Iterator[None]:
    """Tells every `PerStepBatchNormalization` called inside which inner step this pass belongs to.

    Args:
        step: the inner step, 0-based; steps past a layer's last row use that row.
        statistics: `batch` normalises with the batch's own moments, `running` with the moving ones.
        momentum: of the moving statistics' update: None for the layer's own, 0 to replace them by the
            batch's (differentiably), 1 to leave them alone.
    """
    token = _current_pass.set(_Pass(step, statistics, momentum))
    try:
        yield
    finally:
        _current_pass.reset(token)


def moments(x: tf.Tensor, axes: Sequence[int], keepdims: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and biased variance over `axes`, exact to every order of derivative."""
    mean = tf.reduce_mean(x, axes, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(x, mean), axes, keepdims=keepdims)
    return (mean if keepdims else tf.squeeze(mean, axes)), variance


def scale_and_shift(
    mean: tf.Tensor, variance: tf.Tensor, gamma: Any, beta: Any, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """What makes (x - mean) / sqrt(variance + epsilon) * gamma + beta one multiplication and one addition."""
    scale = tf.math.rsqrt(variance + epsilon)
    if gamma is not None:
        scale *= gamma
    shift = -mean * scale
    if beta is not None:
        shift += beta
    return scale, shift


@keras.saving.register_keras_serializable("tf_mamlpp")
class PerStepBatchNormalization(keras.layers.Layer):
    """Batch normalisation with a row of weights and of moving statistics for each inner step.

    The paper's BNWB (per-step weights) and BNRS (per-step statistics), section 4.  Row k serves the
    support pass of inner step k and the query pass after it.  Outside `inner_step` the layer acts as
    the stock one does, with its last row.

    Args:
        inner_steps: rows of the tables.
        per_step_weights: gamma and beta are `[inner_steps, C]` instead of `[C]`.
        per_step_statistics: moving mean and variance are `[inner_steps, C]` instead of `[C]`.
        axis, momentum, epsilon, center, scale: as in `keras.layers.BatchNormalization`.
        fused: computes with TensorFlow's fused operations where these apply; not for `tf.vectorized_map`
            (BUILD_NOTES.md).

    References:
        Antoniou, Edwards, Storkey, "How to train your MAML", arXiv 1810.09502, section 4.
        Ioffe, Szegedy, "Batch Normalization", arXiv 1502.03167.
    """

    def __init__(
        self,
        inner_steps: int,
        per_step_weights: bool = True,
        per_step_statistics: bool = True,
        axis: int = -1,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        fused: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if inner_steps < 1:
            raise ValueError(f"inner_steps must be at least 1, not {inner_steps}")
        self.inner_steps = inner_steps
        self.per_step_weights = per_step_weights
        self.per_step_statistics = per_step_statistics
        self.axis, self.momentum, self.epsilon = axis, momentum, epsilon
        self.center, self.scale, self.fused = center, scale, fused

    def build(self, input_shape: Sequence[int | None]) -> None:
        axis = self.axis % len(input_shape)
        channels = input_shape[axis]
        if channels is None:
            raise ValueError(f"{self.name}: the size of axis {self.axis} must be known, got {tuple(input_shape)}")
        self._reduced = [i for i in range(len(input_shape)) if i != axis]
        last = axis == len(input_shape) - 1  # then `[C]` broadcasts as it is
        self._spread = None if last else [1 if i in self._reduced else channels for i in range(len(input_shape))]
        rows = (self.inner_steps,)
        weights = (*(rows if self.per_step_weights else ()), channels)
        statistics = (*(rows if self.per_step_statistics else ()), channels)
        # Not cast to half precision: moments are taken in float32 there.
        moving = {"shape": statistics, "trainable": False, "aggregation": "mean", "autocast": False}
        learned = {"shape": weights, "autocast": False}
        self.gamma = self.add_weight(name="gamma", initializer="ones", **learned) if self.scale else None
        self.beta = self.add_weight(name="beta", initializer="zeros", **learned) if self.center else None
        self.moving_mean = self.add_weight(name="moving_mean", initializer="zeros", **moving)
        self.moving_variance = self.add_weight(name="moving_variance", initializer="ones", **moving)

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        # A functional model's clone passes on the `mask=None` that its stock layer was called with.
        if mask is not None:
            raise UserError(f"layer '{self.name}': moments of masked inputs are not supported")
        now = _current_pass.get()
        if now is None:
            now = _Pass(self.inner_steps - 1, "batch" if training else "running", None if training else 1.0)
        if not self.trainable:  # frozen layers infer, as the stock one does
            now = _Pass(now.step, "running", 1.0)
        made = None if self._spread else convolved(inputs)
        inputs = tf.cast(inputs, _wide(inputs.dtype))
        last = self.inner_steps - 1
        row = min(now.step, last) if isinstance(now.step, int) else tf.minimum(now.step, last)
        momentum = self.momentum if now.momentum is None else now.momentum
        gamma, beta = (_row(table, row, self.per_step_weights) for table in (self.gamma, self.beta))
        moving = [_row(table, row, self.per_step_statistics) for table in (self.moving_mean, self.moving_variance)]
        outputs: tf.Tensor | None = None
        own: Sequence[Any] = moving
        if now.statistics == "batch" and momentum > 0 and made is None and self._is_fusible(inputs):
            outputs, *own = batch_normalise(inputs, gamma, beta, self.epsilon)
        elif now.statistics == "batch" or momentum < 1:
            own = made.moments(inputs.dtype) if made else moments(inputs, self._reduced)
        if momentum < 1:
            self._update(self.moving_mean, row, momentum, moving[0], own[0])
            self._update(self.moving_variance, row, momentum, moving[1], own[1])
        if outputs is None:
            mean, variance = own if now.statistics == "batch" else moving
            if self._spread:
                mean, variance, gamma, beta = (
                    None if v is None else tf.reshape(v, self._spread) for v in (mean, variance, gamma, beta)
                )
            scale, shift = scale_and_shift(mean, variance, gamma, beta, self.epsilon)
            outputs = made.affine(scale, shift) if made else inputs * scale + shift
        return tf.cast(outputs, self.compute_dtype)

    def _is_fusible(self, inputs: tf.Tensor) -> bool:
        return (
            self.fused
            and inputs.dtype == tf.float32
            and len(inputs.shape) == 4
            and not self._spread
            and self.gamma is not None
            and self.beta is not None
        )

    def _update(self, table: Any, row: int | tf.Tensor, momentum: float, old: tf.Tensor, batch: tf.Tensor) -> None:
        # With momentum 0 the statistics are an answer that gradients flow through; else a record that they must not.
        new = batch if momentum == 0 else momentum * old + (1 - momentum) * tf.stop_gradient(batch)
        if self.per_step_statistics:
            new = tf.tensor_scatter_nd_update(tf.convert_to_tensor(table), [[row]], new[tf.newaxis])
        table.assign(new)

    def get_config(self) -> dict[str, Any]:
        names = (
            "inner_steps",
            "per_step_weights",
            "per_step_statistics",
            "axis",
            "momentum",
            "epsilon",
            "center",
        )
        return {**super().get_config(), **{name: getattr(self, name) for name in (*names, "scale", "fused")}}


def _row(table: Any, row: int | tf.Tensor, per_step: bool) -> tf.Tensor | None:
    if table is None:
        return None
    table = tf.convert_to_tensor(table)
    return table[row] if per_step else table


def _wide(dtype: tf.DType) -> tf.DType:
    """Half precision overflows in sums of squares; anything wider is kept."""
    return tf.float32 if dtype in (tf.float16, tf.bfloat16) else dtype


@keras.saving.register_keras_serializable("tf_mamlpp")
class ExactLayerNormalization(keras.layers.LayerNormalization):
    """`keras.layers.LayerNormalization` with exact second derivatives."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        x = tf.cast(inputs, _wide(inputs.dtype))
        axes = [a % len(x.shape) for a in ([self.axis] if isinstance(self.axis, int) else self.axis)]
        shape = [x.shape[i] if i in axes else 1 for i in range(len(x.shape))]
        mean, variance = moments(x, axes, keepdims=True)
        if getattr(self, "rms_scaling", False):
            mean = tf.zeros_like(mean)
        gamma, beta = (None if w is None else tf.reshape(w, shape) for w in (self.gamma, self.beta))
        scale, shift = scale_and_shift(mean, variance, gamma, beta, self.epsilon)
        return tf.cast(x * scale + shift, self.compute_dtype)


@keras.saving.register_keras_serializable("tf_mamlpp")
class ExactGroupNormalization(keras.layers.GroupNormalization):
    """`keras.layers.GroupNormalization` with exact second derivatives."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        x = tf.cast(inputs, _wide(inputs.dtype))
        axis, shape = self.axis % len(x.shape), tf.shape(x)
        group = [self.groups, x.shape[axis] // self.groups]
        x = tf.reshape(x, tf.concat([shape[:axis], group, shape[axis + 1 :]], 0))
        mean, variance = moments(x, [i for i in range(1, len(x.shape)) if i != axis], keepdims=True)
        spread = [1] * axis + group + [1] * (len(x.shape) - axis - 2)
        gamma, beta = (None if w is None else tf.reshape(w, spread) for w in (self.gamma, self.beta))
        scale, shift = scale_and_shift(mean, variance, gamma, beta, self.epsilon)
        return tf.cast(tf.reshape(x * scale + shift, shape), self.compute_dtype)


_STOCK: dict[type, type | None] = {
    keras.layers.BatchNormalization: None,  # needs the number of steps
    keras.layers.LayerNormalization: ExactLayerNormalization,
    keras.layers.GroupNormalization: ExactGroupNormalization,
}
_EXACT = (PerStepBatchNormalization, ExactLayerNormalization, ExactGroupNormalization)


def _is_inexact(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, tuple(_STOCK)) and not isinstance(layer, _EXACT)


def _leaves(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    return [layer for layer in model._flatten_layers() if not isinstance(layer, keras.Model)]


def _counterpart(
    layer: keras.layers.Layer,
    inner_steps: int,
    per_step_weights: bool,
    per_step_statistics: bool,
    batched_tasks: bool,
) -> keras.layers.Layer:
    """A new layer, without the weights, for the place of `layer`."""
    config = layer.get_config()
    if type(layer) is PerStepBatchNormalization:
        return PerStepBatchNormalization.from_config({**config, "fused": not batched_tasks})
    if type(layer) not in _STOCK:
        return substitute(layer, batched_tasks) or layer.__class__.from_config(config)
    if type(layer) is not keras.layers.BatchNormalization:
        return _STOCK[type(layer)].from_config(config)  # type: ignore[union-attr]
    if config.get("renorm"):
        raise UserError(f"batch norm '{layer.name}' has renorm=True, which has no exact counterpart: turn it off")
    kept = ("name", "trainable", "dtype", "axis", "momentum", "epsilon", "center", "scale")
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
    """The model with exact normalisation layers in place of stock ones, weights kept.

    `BatchNormalization` becomes `PerStepBatchNormalization` (its weights repeated in every row), and
    `LayerNormalization` and `GroupNormalization` their exact namesakes; convolutions of few inputs and max-pools
    become their cheaper `substitutes`.  A model that has no normalisation is returned as it is; else the result is a
    copy (names kept) and the argument is left alone.

    Args:
        model: Sequential or functional, nested as you like, and built.  A subclassed model has to use
            this package's layers itself.
        inner_steps, per_step_weights, per_step_statistics: see `PerStepBatchNormalization`.
        batched_tasks: for `tf.vectorized_map` over tasks: convolutions are matrix products, nothing is fused, and a
            model without normalisation is converted too.

    Raises:
        UserError: a stock normalisation layer that cannot be replaced, because it sits inside a subclassed
            model or a layer of the user's own, or is a subclass of a stock one.
    """
    inexact = [layer.name for layer in _leaves(model) if _is_inexact(layer)]
    if not batched_tasks and not inexact:
        return model

    def counterpart(layer: keras.layers.Layer) -> keras.layers.Layer:
        return _counterpart(layer, inner_steps, per_step_weights, per_step_statistics, batched_tasks)

    graph_known = isinstance(model, keras.Sequential) or hasattr(model, "operations")
    if not (graph_known and model.built) and not inexact:
        raise UserError(f"batched_tasks needs a built Sequential or functional model, which '{model.name}' is not")
    if graph_known and model.built:
        try:
            converted = keras.models.clone_model(model, clone_function=counterpart, recursive=True)
        except (ValueError, TypeError, NotImplementedError) as error:
            why = " ".join(str(error).split())[:200]
            if not inexact:
                raise UserError(f"model '{model.name}' cannot be copied for batched_tasks: {why}") from error
            raise UserError(
                f"model '{model.name}' has stock normalisation layers, which are wrong in second order, and cannot be "
                f"copied without them: {why} Use tf_mamlpp.PerStepBatchNormalization, ExactLayerNormalization or "
                "ExactGroupNormalization in it yourself"
            ) from error
        inexact = [layer.name for layer in _leaves(converted) if _is_inexact(layer)]
        if not inexact:
            _copy_weights(model, converted)
            return converted
    raise UserError(
        f"model '{model.name}': the second derivatives of the stock normalisation layer '{inexact[0]}' are wrong, and "
        "it cannot be replaced inside a subclassed model, a layer of your own or an unbuilt model; "
        "use tf_mamlpp.PerStepBatchNormalization, ExactLayerNormalization or ExactGroupNormalization there"
    )


def per_step_drift(model: keras.Model) -> Iterator[tuple[str, np.ndarray]]:
    """How far the steps' batch-norm weights (BNWB) have drifted apart: for each gamma and beta with a row for each
    inner step, its path and `[inner_steps]`, the root mean square over channels of its difference to step 0's row."""
    for layer in _leaves(model):
        if isinstance(layer, PerStepBatchNormalization) and layer.per_step_weights:
            for table in layer.trainable_variables:
                rows = table.numpy().astype(np.float64)
                yield table.path, np.sqrt(((rows - rows[0]) ** 2).mean(-1))


def _copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copies layer by layer; a `[C]` vector fills every row of a `[inner_steps, C]` table."""
    for old, new in zip(_leaves(source), _leaves(target), strict=True):
        for a, b in zip(old.weights, new.weights, strict=True):
            b.assign(tf.broadcast_to(a.value, b.shape))
