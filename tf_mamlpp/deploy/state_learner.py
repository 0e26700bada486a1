"""The part of a meta-learner that is deployed: adapt and predict, as pure functions of inputs and one flat vector."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_mamlpp.checks import check_choice
from tf_mamlpp.data.input_format import InputFormat
from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.batch_norms import batch_norms, has_rows
from tf_mamlpp.meta.confidence import Confidence
from tf_mamlpp.meta.functional_model import FunctionalModel
from tf_mamlpp.meta.heads import class_means, classes_of, nearness
from tf_mamlpp.meta.known_score import DISTANCE
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.outer_loop import EpisodicModel
from tf_mamlpp.meta.output_kind import OutputKind
from tf_mamlpp.meta.settings import QUERY_STATISTICS


class StateLearner:
    """A meta-trained model that adapts to tasks without changing: what it adapts to is a vector, the *state*.

    The state holds, in this order: the model's `stamp`; if outputs are of classes, a 1 for each class of the support
    set and a 0 for each other class; the adapted weights; and, if `query_statistics` is `support`, mean and variance of
    each batch norm.  Where a task may have any number of classes, nothing tells which there are, because all of them
    have examples, and the weights of the last layer come at the end: kernel `[F, classes]`, then bias `[classes]`.  If
    `known` is a score of distances, the classes' mean features `[F, classes]` follow.  A client may store a state, send
    it, and use it wherever the same model runs.

    Args:
        model: the meta-trained model, as the inner loop uses it.
        way: classes of a task, or of a training task where there may be any number; None for a regression.
        inner_steps: of the inner loop; steps after the trained ones use the last trained step's rates and batch-norm
            row.
        query_statistics: what batch norm normalises query inputs with: `support`, the support set's moments, so that
            a prediction never depends on other queries; `running`, the moving statistics; or `batch`, the moments of
            the queries themselves.
        kind: what the model's outputs are; None for logits.
        confidence: what was fitted to validation tasks of these settings.
        inputs: how examples were prepared in training; None for examples as the model takes them.

    Attributes:
        any_way: whether a task may have any number of classes.
        stamp: a whole number below 2**24, computed from the weights and the settings.  It tells whether a state belongs
            to this model.

    Raises:
        UserError: an unknown choice, a model that is not float32, or confidence where outputs are no choice of classes.

    Example:
        >>> import tf_mamlpp as mp
        >>> learner = mp.MetaLearner(mp.mlp((4,), 3, (5,)), way=3, inner_steps=2)
        >>> deployed = StateLearner(learner.functional_model, way=3, inner_steps=2)
        >>> state = deployed.adapt(tf.eye(3, 4), tf.constant([0, 1, 2]))
        >>> probabilities, logits = deployed.predict(state, tf.eye(2, 4))
        >>> state.shape, probabilities.shape  # 1 stamp + 3 classes + 43 weights
        (TensorShape([47]), TensorShape([2, 3]))
    """

    def __init__(
        self,
        model: FunctionalModel,
        *,
        way: int | None,
        inner_steps: int,
        query_statistics: str = "support",
        kind: OutputKind | None = None,
        confidence: Confidence | None = None,
        inputs: InputFormat | None = None,
    ):
        check_choice("query_statistics", query_statistics, QUERY_STATISTICS)
        if inner_steps < 1:
            raise UserError(f"inner_steps must be at least 1, not {inner_steps}")
        adapted = [model.model.trainable_variables[i] for i in model.adapted]
        if any(v.dtype != "float32" for v in adapted):
            raise UserError(f"model '{model.model.name}' adapts {adapted[0].dtype} weights: deploy float32 ones")
        self.model, self.way, self.inputs = model, way, inputs
        self.any_way = model.any_way
        self._head = [model.adapted.index(i) for i in model.head.positions] if model.head and self.any_way else []
        self.inner_steps, self.query_statistics, self.kind = inner_steps, query_statistics, kind or OutputKind()
        self.confidence = confidence or Confidence()
        if confidence and (way is None or self.kind.independent):
            raise UserError("confidence is of a choice of classes: this model's outputs are answers of their own")
        self._last_step = inner_steps - 1
        self._statistics = self._adapted_statistics()
        of_any_size = [v.shape for i, v in enumerate(adapted) if i not in self._head]
        self._shapes = [
            tf.TensorShape(s) for s in (*of_any_size, *(s.row(model.state, 0).shape for s in self._statistics))
        ]
        self._head_shapes = [adapted[i].shape[:-1] for i in self._head]
        self._means_shape = self._class_means_shape()
        self.stamp = self._compute_stamp()

    def _adapted_statistics(self) -> list[_Statistic]:
        """The batch-norm statistics that are part of a task's state."""
        if self.query_statistics != "support":
            return []
        positions = {id(v): i for i, v in enumerate(self.model.model.non_trainable_variables)}
        return [
            _Statistic(positions[id(v)], v.shape[0] if has_rows(v) else None)
            for norm in batch_norms(self.model.model)
            if norm.layer.trainable
            for v in norm.statistics
        ]

    def _class_means_shape(self) -> list[tf.TensorShape]:
        """`[F]`, of a class's mean features, where the state has them."""
        known = self.confidence.known
        if known is None or known.score != DISTANCE:
            return []
        last = self.model.last_layer
        if last is None or last.body is None:
            raise UserError(f"model '{self.model.model.name}' ends in no dense layer: it has no score '{DISTANCE}'")
        return [tf.TensorShape(last.body.output_shape[1:])]

    @property
    def state_size(self) -> int | None:
        """P, the length of a state; None where it depends on the number of classes, see `size_of`."""
        return None if self.any_way else self.size_of(self.way or 0)

    def size_of(self, way: int) -> int:
        """The length of a state of so many classes."""
        each = sum(math.prod(shape) for shape in (*self._head_shapes, *self._means_shape)) + (not self.any_way)
        return 1 + way * each + sum(shape.num_elements() for shape in self._shapes)

    def _compute_stamp(self) -> float:
        checksum = zlib.crc32(self._settings_text().encode())
        for v in (*self.model.model.variables, self.model.rates.table):
            checksum = zlib.crc32(np.ascontiguousarray(v.numpy()).tobytes(), checksum)
        return float(checksum % 2**24)

    def _settings_text(self) -> str:
        scale = f" {self.inputs.describe()}" if self.inputs else ""
        return f"{self.way}{scale} {self.inner_steps} {self.query_statistics}{self._of_means()}"

    def _of_means(self) -> str:
        """What the stamp tells of a state that is longer for its class means."""
        return " class means" if self._means_shape else ""

    def describe(self) -> dict[str, Any]:
        """What metadata.json says of the inputs."""
        return {self.inputs.kind.name: self.inputs.describe()} if self.inputs else {}

    def prepared(self, inputs: Any) -> Any:
        """Inputs as the model takes them, from those that it is deployed for."""
        return self.inputs.prepare(inputs) if self.inputs else inputs

    def adapt(self, inputs: Any, labels: tf.Tensor) -> tf.Tensor:
        """Runs the inner loop on a support set.

        Args:
            inputs: what the model takes, a tensor `[S, ...]` or a structure of them.
            labels: of classes `[S]` (or as many as there are outputs of `way`) integers, 0..way-1, in any order;
                classes may be missing.  Else what the loss takes.

        Returns:
            The state, `[P]` float32.
        """
        inputs, labels = self.prepared(inputs), tf.convert_to_tensor(labels)
        is_class = self.way is not None and labels.dtype.is_integer
        way = classes_of(labels, False) if self.any_way and is_class else self.way
        targets = tf.one_hot(labels, way) if is_class and self.kind.one_hot else labels
        support = {"support_images": inputs, "support_labels": targets}
        fast, state = self.model.adapt(support, self.model.state, self.inner_steps)
        means = []
        if self._means_shape:
            weights = self.model.weights(fast)
            features, state = self.model.support_features(
                weights, state, inputs, self._last_step, self.query_statistics
            )
            means = [tf.transpose(class_means(features, targets, way))]
        elif self._statistics:
            state = self.model.support_statistics(self.model.weights(fast), state, inputs, self._last_step)
        statistics = [s.row(state, self._last_step) for s in self._statistics]
        head = [fast[i] for i in self._head]
        fast = [w for i, w in enumerate(fast) if i not in self._head]
        parts = [tf.constant([self.stamp]), *self._present(labels, is_class)]
        return tf.concat([*parts, *(tf.reshape(t, [-1]) for t in (*fast, *statistics, *head, *means))], 0)

    def _present(self, labels: tf.Tensor, is_class: bool) -> list[tf.Tensor]:
        """`[way]`, 1 for each class among the labels; nothing without classes, or where all of them are."""
        if self.way is None or self.any_way:
            return []
        if not is_class:
            return [tf.ones([self.way])]
        return [tf.reduce_max(tf.one_hot(labels if len(labels.shape) == 1 else tf.reshape(labels, [-1]), self.way), 0)]

    def predict(self, state: tf.Tensor, inputs: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Answers queries with a state that `adapt` returned.

        Args:
            state: `[P]` float32.
            inputs: what the model takes, a tensor `[Q, ...]` or a structure of them.

        Returns:
            Probabilities at the temperature, 0 for classes that were not in the support set, and logits; each
            `[Q, ..., way]` float32.  Of a regression the outputs, twice.
        """
        found = self.predictions(state, inputs)
        return found["probabilities"], found["logits"]

    def predictions(self, state: tf.Tensor, inputs: Any) -> dict[str, tf.Tensor]:
        """What `predict` returns, by name, and of a model that tells it, as `known`, whether it knows a query.

        Args:
            state: `[P]` float32.
            inputs: as for `predict`.

        Returns:
            `probabilities`, `logits` and `known` `[Q, ...]` in 0..1, see `confidence.KnownScore`.
        """
        state = tf.ensure_shape(state, [self.state_size])
        sizes, before = [shape.num_elements() for shape in self._shapes], self._classes_start
        _, present, *flat = tf.split(state[:before], [1, 0 if self.any_way else self.way or 0, *sizes])
        tensors = [tf.reshape(t, shape) for t, shape in zip(flat, self._shapes, strict=True)]
        fast_count, of_classes = len(tensors) - len(self._statistics), self._by_class(state[before:])
        fast = tensors[:fast_count]
        for i, w in zip(self._head, of_classes, strict=False):  # in rising order; the class means may follow
            fast.insert(i, w)
        model_state = list(self.model.state)
        for statistic, row in zip(self._statistics, tensors[fast_count:], strict=True):
            model_state[statistic.position] = statistic.table(row)
        passed = self.model.weights(fast), model_state, self.prepared(inputs), self._last_step
        statistics, near = "batch" if self.query_statistics == "batch" else "running", None
        if self._means_shape:
            features, outputs, _ = self.model.features_and_outputs(*passed, statistics=statistics)
            near = nearness(features, tf.transpose(of_classes[-1]))
        else:
            outputs, *_ = self.model.outputs(*passed, statistics=statistics)
        if self.way is None:
            return {"probabilities": outputs, "logits": outputs}
        logits = self.kind.to_logits(outputs)
        calibrated = self.kind.at_temperature(outputs, self.confidence.temperature)
        if self.any_way:
            found = {"probabilities": self.kind.to_probabilities(calibrated), "logits": logits}
        else:
            found = {"probabilities": self.kind.among(calibrated, present), "logits": logits}
        if self.tells_unknown:
            found["known"] = self._known(logits if near is None else near, present)
        return found

    @property
    def tells_unknown(self) -> bool:
        """Whether there is a score of being known."""
        return self.confidence.known is not None

    def _known(self, by_class: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
        """`known` from logits, or from minus the squared distances to the class means, `[Q, ..., way]`."""
        score = self.confidence.known
        assert score is not None
        if not self.any_way:
            by_class = tf.where(present > 0.5, by_class, _NEVER)
        values = tf.reduce_max(by_class, -1)
        if score.score == "energy":  # tf.reduce_logsumexp has operations that LiteRT lacks
            values += tf.math.log(tf.reduce_sum(tf.exp(by_class - values[..., tf.newaxis]), -1))
        return tf.sigmoid(score.slope * values + score.intercept)

    @property
    def _classes_start(self) -> int:
        """Where the numbers of each class begin in a state, which are its end."""
        return self.size_of(0) + (0 if self.any_way else self.way or 0)

    def _by_class(self, flat: tf.Tensor) -> list[tf.Tensor]:
        """The numbers of each class: the last layer's weights, where there may be any number, and the class means."""
        shapes = [*self._head_shapes, *self._means_shape]
        if not shapes:
            return []
        rows = [math.prod(shape) for shape in shapes]  # one number for each class
        parts = tf.split(tf.reshape(flat, [sum(rows), -1]), rows)
        return [tf.reshape(part, [*shape, -1]) for part, shape in zip(parts, shapes, strict=True)]


_NEVER = -1e30  # the logit of a class that was not in the support set


class _Statistic(NamedTuple):
    """A moving mean or variance of a batch norm.

    Attributes:
        position: among the model's non-trainable variables.
        rows: one for each inner step of `[rows, C]`; None for a variable `[C]` that all inner steps share.
    """

    position: int
    rows: int | None

    def row(self, state: Sequence[tf.Tensor], step: int) -> tf.Tensor:
        """The values `[C]` for an inner step, from the model's state."""
        values = state[self.position]
        return values if self.rows is None else values[min(step, self.rows - 1)]

    def table(self, row: tf.Tensor) -> tf.Tensor:
        """The variable's value when every inner step has this row."""
        return row if self.rows is None else tf.repeat(row[tf.newaxis], self.rows, 0)


def state_learner(
    learner: EpisodicModel,
    *,
    inner_steps: int | None = None,
    query_statistics: str = "support",
    confidence: Confidence | None = None,
    inputs: InputFormat | None = None,
) -> StateLearner:
    """Makes the part of a meta-learner that is deployed.

    Args:
        learner: trained.
        inner_steps: of adaptation; None for as many as trained.
        query_statistics, confidence, inputs: see `StateLearner`.

    Raises:
        UserError: the learner has no inner loop.

    Example:
        >>> import tf_mamlpp as mp
        >>> learner = mp.MetaLearner(mp.mlp((1,), 1), loss="mean_squared_error", inner_steps=2)
        >>> state_learner(learner, inner_steps=5).inner_steps
        5
    """
    check_exportable(learner)
    way = learner.way or getattr(learner.model, "output_shape", (None,))[-1]
    return StateLearner(
        learner.functional_model,
        way=None if learner.output_kind.values else way,
        inner_steps=learner.inner_steps if inner_steps is None else inner_steps,
        query_statistics=query_statistics,
        kind=learner.output_kind,
        confidence=confidence,
        inputs=inputs,
    )


def check_exportable(learner: EpisodicModel) -> None:
    """Refuses a learner that does not adapt.

    Raises:
        UserError: it has no inner loop.

    Example:
        >>> import tf_mamlpp as mp
        >>> check_exportable(mp.PrototypicalNetworks(mp.mlp((4,), 2, (3,)), way=2))
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: only learners with an inner loop are exported, not PrototypicalNetworks
    """
    if not isinstance(learner, MetaLearner):
        raise UserError(f"only learners with an inner loop are exported, not {type(learner).__name__}")
