"""The part of a meta-learner that is deployed: adapt and predict, as pure functions of pictures and one flat vector."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_mamlpp.checks import check_choice
from tf_mamlpp.deploy.picture_format import PictureFormat
from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.batch_norms import batch_norms, has_rows
from tf_mamlpp.meta.functional_model import FunctionalModel
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.output_kind import OutputKind
from tf_mamlpp.meta.settings import QUERY_STATISTICS


class TaskLearner:
    """A meta-trained model that adapts to tasks without changing: what it adapts to is a vector, the *state*.

    The state holds, in this order: the model's `stamp`; a 1 for each class of the support set and a 0 for each other
    class; the adapted weights; and, if `query_statistics` is `support`, mean and variance of each batch norm.  A client
    may store a state, send it, and use it wherever the same model runs.

    Args:
        model: the meta-trained model, as the inner loop uses it.
        pictures: how the model's pictures were prepared in training.
        way: classes of a task.
        inner_steps: of the inner loop; steps after the trained ones use the last trained step's rates and batch-norm
            row.
        query_statistics: what batch norm normalises query pictures with: `support`, the support set's moments, so that
            the prediction for a picture never depends on other query pictures; `running`, the moving statistics; or
            `batch`, the moments of the query pictures themselves.
        kind: what the model's outputs are; None for logits.

    Attributes:
        stamp: a whole number below 2**24, computed from the weights and the settings.  It tells whether a state belongs
            to this model.

    Raises:
        UserError: an unknown choice, or a model that is not float32.

    Example:
        >>> import tf_mamlpp as mp
        >>> learner = mp.MetaLearner(mp.mlp((8, 8, 1), 3), way=3, inner_steps=2)
        >>> deployed = task_learner(learner, PictureFormat((8, 8), 1, mean=(0.5,), std=(0.5,)))
        >>> support_images, support_labels = tf.random.uniform((3, 8, 8, 1), 0, 255), tf.constant([0, 1, 2])
        >>> state = deployed.adapt(support_images, support_labels)
        >>> probabilities, logits = deployed.predict(state, tf.random.uniform((5, 8, 8, 1), 0, 255))
        >>> probabilities.shape
        TensorShape([5, 3])
    """

    def __init__(
        self,
        model: FunctionalModel,
        pictures: PictureFormat,
        *,
        way: int,
        inner_steps: int,
        query_statistics: str = "support",
        kind: OutputKind | None = None,
    ):
        check_choice("query_statistics", query_statistics, QUERY_STATISTICS)
        if inner_steps < 1:
            raise UserError(f"inner_steps must be at least 1, not {inner_steps}")
        if any(w.dtype != tf.float32 for w in model.fast):
            raise UserError(
                f"model '{model.model.name}' adapts {model.fast[0].dtype.name} weights: deploy float32 ones"
            )
        self.model, self.pictures, self.way = model, pictures, way
        self.inner_steps, self.query_statistics, self.kind = inner_steps, query_statistics, kind or OutputKind()
        self._last_step = inner_steps - 1
        self._statistics = self._adapted_statistics()
        self._shapes = [w.shape for w in (*model.fast, *(s.row(model.state, 0) for s in self._statistics))]
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

    @property
    def state_size(self) -> int:
        """P, the length of a state."""
        return 1 + self.way + sum(shape.num_elements() for shape in self._shapes)

    def _compute_stamp(self) -> float:
        mean, std = tuple(self.pictures.mean), tuple(self.pictures.std)
        settings = f"{self.way} {mean} {std} {self.inner_steps} {self.query_statistics}".encode()
        checksum = zlib.crc32(settings)
        for v in (*self.model.model.variables, self.model.rates.table):
            checksum = zlib.crc32(np.ascontiguousarray(v.numpy()).tobytes(), checksum)
        return float(checksum % 2**24)

    def adapt(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Runs the inner loop on a support set.

        Args:
            images: `[S, height, width, C]` float32, 0..255, of the model's size.
            labels: `[S]` int32, 0..way-1, in any order; classes may be missing.

        Returns:
            The state, `[P]` float32.
        """
        images = self.pictures.normalise(images)
        targets = tf.one_hot(labels, self.way) if self.kind.one_hot else labels
        support = {"support_images": images, "support_labels": targets}
        fast, state = self.model.adapt(support, self.model.state, self.inner_steps)
        if self._statistics:
            state = self.model.support_statistics(self.model.weights(fast), state, images, self._last_step)
        statistics = [s.row(state, self._last_step) for s in self._statistics]
        present = tf.reduce_max(tf.one_hot(labels, self.way), 0)
        parts = [tf.constant([self.stamp]), present, *(tf.reshape(t, [-1]) for t in (*fast, *statistics))]
        return tf.concat(parts, 0)

    def predict(self, state: tf.Tensor, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Classifies pictures with a state that `adapt` returned.

        Args:
            state: `[P]` float32.
            images: `[Q, height, width, C]` float32, 0..255, of the model's size.

        Returns:
            Probabilities, 0 for classes that were not in the support set, and logits; each `[Q, way]` float32.
        """
        state = tf.ensure_shape(state, [self.state_size])
        sizes = [shape.num_elements() for shape in self._shapes]
        _, present, *flat = tf.split(state, [1, self.way, *sizes])
        tensors = [tf.reshape(t, shape) for t, shape in zip(flat, self._shapes, strict=True)]
        fast_count = len(self.model.fast)
        model_state = list(self.model.state)
        for statistic, row in zip(self._statistics, tensors[fast_count:], strict=True):
            model_state[statistic.position] = statistic.table(row)
        outputs, *_ = self.model.outputs(
            self.model.weights(tensors[:fast_count]),
            model_state,
            self.pictures.normalise(images),
            self._last_step,
            statistics="batch" if self.query_statistics == "batch" else "running",
        )
        return self.kind.among(outputs, present), self.kind.to_logits(outputs)


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


def task_learner(
    learner: MetaLearner,
    pictures: PictureFormat,
    *,
    inner_steps: int | None = None,
    query_statistics: str = "support",
) -> TaskLearner:
    """Makes the part of a meta-learner that is deployed.

    Args:
        learner: a trained classifier.
        pictures: how its pictures were prepared in training.
        inner_steps: of adaptation; None for as many as trained.
        query_statistics: see `TaskLearner`.

    Raises:
        UserError: the learner has no inner loop, or was trained for regression.

    Example:
        >>> import tf_mamlpp as mp
        >>> learner = mp.MetaLearner(mp.mlp((8, 8, 1), 3, units=(4,)), way=3, inner_steps=2)
        >>> deployed = task_learner(learner, PictureFormat((8, 8), 1, mean=(0.5,), std=(0.5,)), inner_steps=5)
        >>> deployed.inner_steps, deployed.state_size  # 1 stamp + 3 classes + 275 weights
        (5, 279)
    """
    if not isinstance(learner, MetaLearner):
        raise UserError(f"only learners with an inner loop are exported, not {type(learner).__name__}")
    if learner.way is None:
        raise UserError("only classifiers are exported, and this learner has no `way`: it was trained for regression")
    return TaskLearner(
        learner.functional_model,
        pictures,
        way=learner.way,
        inner_steps=learner.inner_steps if inner_steps is None else inner_steps,
        query_statistics=query_statistics,
        kind=learner.output_kind,
    )
