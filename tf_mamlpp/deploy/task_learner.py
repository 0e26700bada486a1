"""What is deployed: adapting to a task and predicting, as pure functions of pixels and one flat vector."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mamlpp.data.images import normalise
from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.per_step_batch_norm import PerStepBatchNormalization
from tf_mamlpp.meta.functional_model import FunctionalModel
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.settings import QUERY_STATISTICS


class TaskLearner:
    """A meta-trained model that learns tasks.  Writes no variable; what it learned is a vector, the *state*.

    The state of a task is, in this order: the model's `stamp`; for each class 1 if the support set had it, else 0; the
    adapted weights; and, where `query_statistics` is `support`, mean and variance of each batch norm.  A client may
    store it, send it, and use it wherever the same model runs.

    Args:
        model: the meta-trained model, as the inner loop sees it.
        way: classes of a task.
        mean, std: of `data.images.normalise`, as in training.
        inner_steps: of the inner loop; steps past the trained ones reuse the last rates and batch-norm row.
        query_statistics: what batch norm normalises with in `answer`: `support` (a picture's answer never depends on
            its neighbours), `running`, or `batch` (the pictures' own moments).

    Attributes:
        stamp: a whole number below 2**24 that tells this model, its weights as they are now, its steps and its
            statistics from others.

    Raises:
        UserError: an unknown choice, or a model that is not float32.
    """

    def __init__(
        self,
        model: FunctionalModel,
        *,
        way: int,
        mean: Sequence[float],
        std: Sequence[float],
        inner_steps: int,
        query_statistics: str = "support",
    ):
        if query_statistics not in QUERY_STATISTICS:
            raise UserError(f"query statistics are one of {', '.join(QUERY_STATISTICS)}, not '{query_statistics}'")
        if inner_steps < 1:
            raise UserError(f"inner_steps must be at least 1, not {inner_steps}")
        if any(w.dtype != tf.float32 for w in model.fast):
            raise UserError(
                f"model '{model.model.name}' adapts {model.fast[0].dtype.name} weights: deploy float32 ones"
            )
        self.model, self.way, self.mean, self.std = model, way, tuple(mean), tuple(std)
        self.inner_steps, self.query_statistics = inner_steps, query_statistics
        self._norms = self._read_statistics()
        statistics = [model.state[i][-1] if rows else model.state[i] for i, rows in self._norms]
        self._shapes = [w.shape for w in (*model.fast, *statistics)]
        self.stamp = self._take_stamp()

    def _read_statistics(self) -> list[tuple[int, int]]:
        """The batch-norm statistics that a task sets: position among the non-trainable variables, and rows (0: one)."""
        if self.query_statistics != "support":
            return []
        places = {id(v): i for i, v in enumerate(self.model.model.non_trainable_variables)}
        return [
            (places[id(v)], norm.inner_steps if norm.per_step_statistics else 0)
            for norm in self.model.model._flatten_layers()
            if isinstance(norm, PerStepBatchNormalization) and norm.trainable
            for v in (norm.moving_mean, norm.moving_variance)
        ]

    @property
    def state_size(self) -> int:
        """P, how many numbers a state has."""
        return 1 + self.way + sum(shape.num_elements() for shape in self._shapes)

    def _take_stamp(self) -> float:
        settings = f"{self.way} {self.mean} {self.std} {self.inner_steps} {self.query_statistics}".encode()
        check = zlib.crc32(settings)
        for v in (*self.model.model.variables, self.model.rates.table):
            check = zlib.crc32(np.ascontiguousarray(v.numpy()).tobytes(), check)
        return float(check % 2**24)

    @property
    def _row(self) -> int:
        return self.inner_steps - 1

    def learn(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """The inner loop.

        Args:
            images: `[S, height, width, C]` float32, 0..255, of the model's size.
            labels: `[S]` int32, 0..way-1, in any order; classes may be missing.

        Returns:
            The state, `[P]` float32.
        """
        images = normalise(images, self.mean, self.std)
        support = {"support_images": images, "support_labels": labels}
        fast, state = self.model.run(support, self.model.state, self.inner_steps)
        if self._norms:
            state = self.model.support_statistics(self.model.weights(fast), state, images, self._row)
        statistics = [state[i][min(self._row, rows - 1)] if rows else state[i] for i, rows in self._norms]
        present = tf.reduce_max(tf.one_hot(labels, self.way), 0)
        parts = [tf.constant([self.stamp]), present, *(tf.reshape(t, [-1]) for t in (*fast, *statistics))]
        return tf.concat(parts, 0)

    def answer(self, state: tf.Tensor, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Classifies pictures under what `learn` learned.

        Args:
            state: `[P]` float32.
            images: `[Q, height, width, C]` float32, 0..255, of the model's size.

        Returns:
            Probabilities, 0 for classes that the support set did not have, and logits; each `[Q, way]` float32.
        """
        state = tf.ensure_shape(state, [self.state_size])
        sizes = [shape.num_elements() for shape in self._shapes]
        _, present, *flat = tf.split(state, [1, self.way, *sizes])
        tensors = [tf.reshape(t, shape) for t, shape in zip(flat, self._shapes, strict=True)]
        adapted = len(self.model.fast)
        known = list(self.model.state)
        for (i, rows), value in zip(self._norms, tensors[adapted:], strict=True):
            known[i] = tf.repeat(value[tf.newaxis], rows, 0) if rows else value
        logits, _ = self.model.outputs(
            self.model.weights(tensors[:adapted]),
            known,
            normalise(images, self.mean, self.std),
            self._row,
            statistics="batch" if self.query_statistics == "batch" else "running",
        )
        masked = tf.where(present > 0.5, logits, logits.dtype.min)
        return tf.nn.softmax(masked) * present, logits


def task_learner(learner: MetaLearner, **settings: Any) -> TaskLearner:
    """The learner as it is deployed.

    Args:
        learner: of a classifier.
        settings: `mean`, `std`, `inner_steps` (None for as many as trained) and `query_statistics` of `TaskLearner`.
    """
    if not isinstance(learner, MetaLearner):
        raise UserError(f"only learners with an inner loop are exported, not {type(learner).__name__}")
    if learner.way is None:
        raise UserError("only classifiers are exported, and this learner has no `way`: it was trained for regression")
    settings["inner_steps"] = settings.get("inner_steps") or learner.inner_steps
    return TaskLearner(learner._adaptable, way=learner.way, **settings)
