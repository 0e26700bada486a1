"""Prototypical Networks: the baseline that shares everything with `MetaLearner` but the inner loop."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.conversion import convert_normalization
from tf_mamlpp.meta.functional_model import FunctionalModel
from tf_mamlpp.meta.learned_rates import LearnedRates
from tf_mamlpp.meta.losses import mean_loss
from tf_mamlpp.meta.outer_loop import EpisodicModel, check_built
from tf_mamlpp.meta.task import Task, Tensors


class PrototypicalNetworks(EpisodicModel):
    """Classifies by the distance to each class's mean feature in the support set.

    The features are the model's without its last, dense layer.  `fit`, `evaluate` and `curves` are as in
    `MetaLearner`, with no inner step: their curves have one point.

    Formula:
        p(y = c | x) = softmax_c(-|f(x) - p_c|²), p_c the mean of f over class c's support pictures

    Args:
        model: maps images `[B, ...]` to logits, and ends in a dense layer; `self.model` is it without that layer.
        way: classes of a task.
        query_statistics: what batch norm normalises with in training: `batch` (support and query set each their own
            moments), `running` (both the moving statistics) or `support` (both the support set's moments).
        evaluation_statistics: the same for evaluation; None for `query_statistics`.
        cosine_annealing, minimum_rate, gradient_clip, parallel_tasks: as in `MetaLearner`.

    Raises:
        UserError: a model that does not fit.

    References:
        Snell, Swersky, Zemel, "Prototypical Networks for Few-shot Learning", arXiv 1703.05175, section 2.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        way: int,
        query_statistics: str = "batch",
        evaluation_statistics: str | None = None,
        cosine_annealing: bool = False,
        minimum_rate: float = 1e-5,
        gradient_clip: float | None = None,
        parallel_tasks: int | None = None,
        name: str = "prototypical_networks",
    ):
        super().__init__(
            way=way,
            inner_steps=0,
            query_statistics=query_statistics,
            evaluation_statistics=evaluation_statistics,
            cosine_annealing=cosine_annealing,
            minimum_rate=minimum_rate,
            gradient_clip=gradient_clip,
            parallel_tasks=parallel_tasks,
            name=name,
        )
        check_built(model)
        features = without_head(model)
        if not features.weights:
            raise UserError(f"model '{model.name}' has weights in its last layer alone: no features are left to learn")
        if len(features.output_shape) != 2:
            raise UserError(
                f"model '{model.name}' has features of shape {features.output_shape} before its last layer, not "
                "[B, features]: put a Flatten or a GlobalAveragePooling2D there"
            )
        self.model = convert_normalization(features, inner_steps=1)
        check_built(self.model)
        self._loss = mean_loss(None, self.model.trainable_variables[0].dtype)
        self._passes = FunctionalModel(self.model, [], LearnedRates(0, 1, 0.0, learned=False), self._loss)
        self._finish()

    def task_loss(self, task: Task, state: Tensors) -> tuple[tf.Tensor, Tensors, tf.Tensor, tf.Tensor]:
        logits, state = self._logits(task, state, self.query_statistics, training=True)
        loss = self._loss(task["query_labels"], logits)
        return loss, state, loss, self._metric(task["query_labels"], logits)

    def task_curve(self, task: Task, steps: int, statistics: str) -> tf.Tensor:
        if steps:
            raise UserError(f"prototypical networks take no inner steps, not {steps}")
        return self._logits(task, self._passes.state, statistics, training=False)[0][tf.newaxis]

    def _logits(self, task: Task, state: Tensors, statistics: str, training: bool) -> tuple[tf.Tensor, Tensors]:
        model, way = self._passes, self.way
        start = model.start
        own = statistics == "support"
        settings: dict[str, Any] = {"training": training, "momentum": None if own and training else 1.0}
        support = "running" if statistics == "running" else "batch"
        features, state = model.outputs(start, state, task["support_images"], 0, statistics=support, **settings)
        queries, state = model.query_outputs(
            [], state, task, 0, statistics=statistics, training=training, record=training and not own, start=start
        )
        members = tf.one_hot(task["support_labels"], way, axis=0, dtype=features.dtype)  # [way, S]
        means = tf.math.divide_no_nan(members @ features, tf.reduce_sum(members, 1, keepdims=True))
        return -tf.reduce_sum(tf.math.squared_difference(queries[:, tf.newaxis], means), -1), state


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
