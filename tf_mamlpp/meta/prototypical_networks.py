"""Prototypical Networks: the baseline that shares everything with `MetaLearner` but the inner loop."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.conversion import convert_normalization
from tf_mamlpp.layers.copying import copied
from tf_mamlpp.meta.functional_model import FunctionalModel
from tf_mamlpp.meta.heads import class_means
from tf_mamlpp.meta.learned_rates import LearnedRates
from tf_mamlpp.meta.model_checks import check_built, check_one_dtype, input_structure
from tf_mamlpp.meta.outer_loop import EpisodicModel
from tf_mamlpp.meta.output_kind import OutputKind, agreement
from tf_mamlpp.meta.settings import WITHOUT_INNER_LOOP, Learner
from tf_mamlpp.meta.task import Loss, Task, Tensors, no_loss


@keras.saving.register_keras_serializable("tf_mamlpp")
class PrototypicalNetworks(EpisodicModel):
    """Classifies by the distance to each class's mean feature in the support set.

    The features are the model's without its last, dense layer.  `fit`, `evaluate` and `curves` are as in
    `MetaLearner`, with no inner step: their curves have one point.  Batch norm normalises with `batch` (support and
    query set each their own moments), `running` (both the moving statistics) or `support` statistics (both the support
    set's moments).

    Formula:
        p(y = c | x) = softmax_c(-|f(x) - p_c|² / temperature), p_c the mean of f over class c's support pictures

    Args:
        model: maps images `[B, ...]` to logits, and ends in a dense layer; `self.model` is it without that layer.
        way: classes of a task in training; others may have other numbers.
        name: of the Keras model.
        **settings: those fields of `settings.Learner` that are no part of an inner loop: `query_statistics`,
            `evaluation_statistics`, `temperature`, `cosine_annealing`, `minimum_rate`, `gradient_clip`,
            `parallel_tasks`.

    Raises:
        UserError: a model that does not fit, or a setting that is unknown or has no use.

    Example:
        >>> import tf_mamlpp as mp
        >>> learner = mp.PrototypicalNetworks(mp.conv4((28, 28, 1), way=5, filters=4), way=5)
        >>> learner.model.output_shape
        (None, 4)

    References:
        Snell, Swersky, Zemel, "Prototypical Networks for Few-shot Learning", arXiv 1703.05175, section 2.
    """

    _setting_names = WITHOUT_INNER_LOOP
    any_way = True

    def __init__(self, model: keras.Model, *, way: int, name: str = "prototypical_networks", **settings: Any):
        chosen = Learner.of({**settings, "prototypes": True})
        unused = [setting for setting in settings if setting not in WITHOUT_INNER_LOOP]
        if unused:
            raise UserError(f"{unused[0]} has no use: prototypical networks have no inner loop")
        super().__init__(chosen, way=way, inner_steps=0, name=name)
        self._keep_arguments(way=way)
        check_built(model)
        features = without_head(model)
        if not features.weights:
            raise UserError(f"model '{model.name}' has weights in its last layer alone: no features are left to learn")
        if len(features.output_shape) != 2:
            raise UserError(
                f"model '{model.name}' has features of shape {features.output_shape} before its last layer, not "
                "[B, features]: put a Flatten or a GlobalAveragePooling2D there"
            )
        converted = convert_normalization(features, inner_steps=1)
        self.model = copied(features) if converted is features else converted  # once: Keras tracks what is assigned
        check_built(self.model)
        check_one_dtype(self.model)
        rates = LearnedRates(0, 1, 0.0, learned=False)
        self._finish(FunctionalModel(self.model, [], rates, no_loss))

    @classmethod
    def _whole_model(cls, model: keras.Model) -> keras.Model:
        # A head, which the constructor takes off again.
        return keras.Model(input_structure(model), keras.layers.Dense(1)(model.output), name=model.name)

    def _agreement(self, loss: str | Loss | None) -> tuple[OutputKind, str | Loss]:
        kind, agreed = agreement(self.model.name, "logits", loss, self.way)  # distances are logits
        if kind.values or kind.independent or kind.probabilities:
            raise UserError("prototypical networks choose one of all classes: take a categorical cross-entropy as loss")
        return kind, agreed

    def task_loss(self, task: Task, state: Tensors) -> tuple[tf.Tensor, Tensors, tf.Tensor, list[tf.Tensor]]:
        logits, state, added = self._logits(task, state, self.query_statistics, training=True)
        loss = self.functional_model.total_loss(task["query_labels"], logits, added)
        return loss, state, loss, self.reading.measure(task["query_labels"], logits)

    def task_curve(self, task: Task, steps: int, statistics: str) -> tuple[tf.Tensor, tf.Tensor | None]:
        if steps:
            raise UserError(f"prototypical networks take no inner steps, not {steps}")
        logits, _, added = self._logits(task, self.functional_model.state, statistics, training=False)
        return logits[tf.newaxis], added

    def _logits(
        self, task: Task, state: Tensors, statistics: str, training: bool
    ) -> tuple[tf.Tensor, Tensors, tf.Tensor | None]:
        """Logits for the query set, the state, and what the query pass adds to the loss."""
        model = self.functional_model
        start = model.start
        by_support = statistics == "support"
        settings: dict[str, Any] = {"training": training, "momentum": None if by_support and training else 1.0}
        support = "running" if statistics == "running" else "batch"
        features, state, _ = model.outputs(start, state, task["support_images"], 0, statistics=support, **settings)
        queries, state, added = model.query_outputs(
            [],
            state,
            task,
            0,
            statistics=statistics,
            training=training,
            record=training and not by_support,
            start=start,
        )
        means = class_means(features, task["support_labels"], task["way"])
        return self._similarity(queries, means), state, added

    def _similarity(self, queries: tf.Tensor, means: tf.Tensor) -> tf.Tensor:
        """Logits `[Q, way]` of query features `[Q, F]` beside the classes' mean features `[way, F]`."""
        distances = tf.reduce_sum(tf.math.squared_difference(queries[:, tf.newaxis], means), -1)
        return -distances / self.settings.temperature


def without_head(model: keras.Model) -> keras.Model:
    """The features that a model's last layer gets: the same network without that layer.

    Args:
        model: Sequential or functional, and ends in a dense layer.

    Raises:
        UserError: the last layer cannot be taken off.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4), keras.layers.Dense(3)])
        >>> without_head(model).output_shape
        (None, 4)
    """
    last = model.layers[-1] if getattr(model, "layers", None) and hasattr(model, "inputs") else None
    if last is None or isinstance(last, keras.Model) or not isinstance(last, keras.layers.Dense):
        raise UserError(
            f"model '{model.name}' does not end in a Dense layer, so that its features cannot be taken; "
            "use a Sequential or functional model that does"
        )
    return keras.Model(input_structure(model), last.input, name=model.name)
