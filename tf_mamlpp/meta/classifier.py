"""Pretraining: one network learns all training classes at once, before it learns to learn."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.meta.prototypical_networks import PrototypicalNetworks
from tf_mamlpp.meta.task import Task, Tensors
from tf_mamlpp.meta.task_data import SUPPORT

_SCALE = 10.0  # of cosines as logits: between -1 and 1, softmax would hardly tell classes apart


@keras.saving.register_keras_serializable("tf_mamlpp")
class Classifier(PrototypicalNetworks):
    """Learns features by telling all training classes apart, and is validated by the nearest class mean of tasks.

    The usual start of few-shot learners: `training.start` and `pretrain` of a config give its features to one.

    An element of its training data is a batch in parts, as a meta-batch is in tasks: `support_images`
    `[parts, B, ...]` and `support_labels` `[parts, B]` (see `data.picture_batches`).  Parts are computed beside each
    other, and batch norm normalises each with its own moments.  Validation data are meta-batches of tasks.

    Formula:
        training: mean over pictures of the cross-entropy of f(x) W + b, plus weight_decay/2 times the sum of all
        squared weights; a task: p(y = c | x) = softmax_c(10 cos(f(x) - m, p_c - m)), p_c the mean of f over class c's
        support pictures, m the mean of the p_c.  Batch norm then normalises with its moving statistics.

    Args:
        model: maps images `[B, ...]` to logits, and ends in a dense layer; `self.model` is it without that layer.
        classes: of the training data.
        way: classes of a task in validation.
        weight_decay: as in PyTorch's SGD, an L2 term of the loss.
        name: of the Keras model.
        **settings: as for `PrototypicalNetworks`.

    Raises:
        UserError: a model that does not fit, or a setting that is unknown or has no use.

    Example:
        >>> import tf_mamlpp as mp
        >>> learner = Classifier(mp.conv4((28, 28, 1), way=5, filters=4), classes=64, way=5)
        >>> tuple(learner.kernel.shape)
        (4, 64)

    References:
        Wang et al., "SimpleShot", arXiv 1911.04623, sections 3 and 4 (classification, nearest class mean, centring).
        Chen et al., "Meta-Baseline", arXiv 2003.04390, section 3.1 (Classifier-Baseline, cosine).
    """

    _trains_on = SUPPORT

    def __init__(
        self,
        model: keras.Model,
        *,
        classes: int,
        way: int,
        weight_decay: float = 0.0,
        name: str = "classifier",
        **settings: Any,
    ):
        self.weight_decay = weight_decay
        super().__init__(model, way=way, name=name, **{"evaluation_statistics": "running", **settings})
        self._keep_arguments(classes=classes, way=way, weight_decay=weight_decay)
        shape, dtype = (self.model.output_shape[-1], classes), self.model.trainable_variables[0].dtype
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="glorot_uniform", dtype=dtype)
        self.bias = self.add_weight(name="bias", shape=(classes,), initializer="zeros", dtype=dtype)

    def task_loss(self, task: Task, state: Tensors) -> tuple[tf.Tensor, Tensors, tf.Tensor, list[tf.Tensor]]:
        """The loss of one part of a batch, with the weight decay of all weights."""
        weights = self.functional_model.start
        features, state, added = self.functional_model.outputs(
            weights, state, task["support_images"], 0, statistics="batch", momentum=None, training=True
        )
        head = [tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)]
        logits = features @ head[0] + head[1]
        loss = self.functional_model.total_loss(task["support_labels"], logits, added)
        decay = tf.add_n([tf.nn.l2_loss(w) for w in [*weights, *head]])
        measured = self.reading.measure(task["support_labels"], logits)
        return loss + self.weight_decay * decay, state, loss, measured

    def _similarity(self, queries: tf.Tensor, means: tf.Tensor) -> tf.Tensor:
        centre = tf.reduce_mean(means, 0)
        queries, means = (tf.math.l2_normalize(x - centre, -1) for x in (queries, means))
        return _SCALE * tf.matmul(queries, means, transpose_b=True)
