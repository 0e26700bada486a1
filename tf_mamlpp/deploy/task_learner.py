"""`StateLearner` for pictures as they are: grey values, which it prepares as training did."""

from __future__ import annotations

from typing import Any

from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.deploy.state_learner import StateLearner, check_exportable
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.confidence import Confidence
from tf_mamlpp.meta.functional_model import FunctionalModel
from tf_mamlpp.meta.meta_learner import MetaLearner


class TaskLearner(StateLearner):
    """A `StateLearner` of pictures, `[S, height, width, C]` float32, 0..255, of the model's size.

    Args:
        model: the meta-trained model, as the inner loop uses it.
        pictures: how the model's pictures were prepared in training.
        way: classes of a task.
        **settings: `inner_steps`, `query_statistics`, `kind` and `confidence` of `StateLearner`.

    Raises:
        UserError: an unknown choice, or a model that is not float32.

    Example:
        >>> import tensorflow as tf
        >>> import tf_mamlpp as mp
        >>> learner = mp.MetaLearner(mp.mlp((8, 8, 1), 3), way=3, inner_steps=2)
        >>> deployed = task_learner(learner, PictureFormat((8, 8), 1, mean=(0.5,), std=(0.5,)))
        >>> support_images, support_labels = tf.random.uniform((3, 8, 8, 1), 0, 255), tf.constant([0, 1, 2])
        >>> state = deployed.adapt(support_images, support_labels)
        >>> probabilities, logits = deployed.predict(state, tf.random.uniform((5, 8, 8, 1), 0, 255))
        >>> probabilities.shape
        TensorShape([5, 3])
    """

    way: int

    def __init__(self, model: FunctionalModel, pictures: PictureFormat, *, way: int, **settings: Any):
        self.pictures = pictures
        super().__init__(model, way=way, inputs=pictures, **settings)

    def _settings_text(self) -> str:  # as ever, so that states of earlier exports stay good
        mean, std = tuple(self.pictures.mean), tuple(self.pictures.std)
        return f"{self.way} {mean} {std} {self.inner_steps} {self.query_statistics}{self._of_means()}"


def task_learner(
    learner: MetaLearner,
    pictures: PictureFormat,
    *,
    inner_steps: int | None = None,
    query_statistics: str = "support",
    confidence: Confidence | None = None,
) -> TaskLearner:
    """Makes the part of a meta-learner that is deployed.

    Args:
        learner: a trained classifier.
        pictures: how its pictures were prepared in training.
        inner_steps: of adaptation; None for as many as trained.
        query_statistics, confidence: see `StateLearner`.

    Raises:
        UserError: the learner has no inner loop, or was trained for regression.

    Example:
        >>> import tf_mamlpp as mp
        >>> learner = mp.MetaLearner(mp.mlp((8, 8, 1), 3, units=(4,)), way=3, inner_steps=2)
        >>> deployed = task_learner(learner, PictureFormat((8, 8), 1, mean=(0.5,), std=(0.5,)), inner_steps=5)
        >>> deployed.inner_steps, deployed.state_size  # 1 stamp + 3 classes + 275 weights
        (5, 279)
    """
    check_exportable(learner)
    if learner.way is None:
        raise UserError("only classifiers are exported, and this learner has no `way`: it was trained for regression")
    return TaskLearner(
        learner.functional_model,
        pictures,
        way=learner.way,
        inner_steps=learner.inner_steps if inner_steps is None else inner_steps,
        query_statistics=query_statistics,
        kind=learner.output_kind,
        confidence=confidence,
    )
