"""The last layer, where a task may have any number of classes: `head` of a learner's settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.model_checks import input_structure
from tf_mamlpp.meta.task import Tensors

_NEVER = -1e9  # the bias of a class without support pictures, which is never the answer


class Head:
    """A model's last layer, for whose weights each task has a start of its own.

    Formula:
        shared: w_c = w, b_c = b for every class c, with one w and b that are meta-learned;
        prototypes: w_c = 2 p_c / T, b_c = -|p_c|² / T, p_c the mean of the features of class c's support pictures, so
        that before any step logits are (-|f(x) - p_c|² + |f(x)|²) / T; meta-gradients flow through p_c.

    Args:
        model: as the inner loop uses it.
        kind: `shared`, or `prototypes`, which does not use the weights of the model's own layer.
        positions: of the head's weights in `model.trainable_variables`, as `head_positions` gives them.
        temperature: T, of prototypes.  With 1, the paper's, a support set of large features has a loss of nearly zero,
            and no inner step changes anything.

    Attributes:
        body: the model without its last layer, with the same variables, if that is a plain dense one: a task may then
            have any number of classes.  None where it is not: a task has as many as the model.

    Raises:
        UserError: prototypes of a model that does not end in a plain dense layer with a bias.

    Example:
        >>> layers = [keras.Input((4,)), keras.layers.Dense(2), keras.layers.Dense(5)]
        >>> head = Head(keras.Sequential(layers), "prototypes", [2, 3])
        >>> weights = head.start([], tf.constant([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0]]), tf.constant([0, 0, 1]), 2)
        >>> [w.numpy().tolist() for w in weights]
        [[[4.0, 0.0], [0.0, 2.0]], [-4.0, -1.0]]
        >>> head(tf.constant([[1.0, 1.0]]), weights).numpy()
        array([[0., 1.]], dtype=float32)

    References:
        Triantafillou et al., "Meta-Dataset", arXiv 1903.03096, section 3 (Proto-MAML).
        Ye, Chao, "How to Train Your MAML to Excel in Few-Shot Classification", arXiv 2106.16245 (one shared vector).
    """

    def __init__(self, model: keras.Model, kind: str, positions: Sequence[int], temperature: float = 1.0):
        self.kind, self.positions, self.temperature = kind, list(positions), temperature
        self.layer = dense_end(model)
        if kind == "prototypes":
            self._check_prototypes(model)
        self.body = None
        if self.layer is not None:
            self.body = keras.Model(input_structure(model), self.layer.input, name=model.name)

    def _check_prototypes(self, model: keras.Model) -> None:
        if self.layer is None or not self.layer.use_bias:
            raise UserError(
                "head=prototypes needs a Sequential or functional model that ends in a plain Dense layer with a bias, "
                f"which model '{model.name}' does not"
            )
        if len(self.layer.input.shape) != 2:
            raise UserError(
                f"model '{model.name}' has features of shape {self.layer.input.shape} before its last layer, not "
                "[B, features]: put a Flatten or a GlobalAveragePooling2D there"
            )

    def split(self, weights: Tensors) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """The body's weights and the head's, out of the model's."""
        body = [w for i, w in enumerate(weights) if i not in self.positions]
        return body, [weights[i] for i in self.positions]

    def start(self, weights: Tensors, features: tf.Tensor | None, labels: tf.Tensor, way: tf.Tensor) -> list[tf.Tensor]:
        """What the head of a task starts with.

        Args:
            weights: the meta-learned ones of the model's own layer; not used for prototypes.
            features: of the support set `[S, F]`, for prototypes.
            labels: of the support set: `[S]` integers, or a number for each class `[S, way]`.
            way: how many classes, a scalar.

        Returns:
            Kernel `[F, way]` and bias `[way]`, if the layer has one.
        """
        if self.kind == "shared":
            return [tf.repeat(w[..., :1], way, -1) for w in weights]
        assert features is not None
        means = class_means(features, labels, way)
        count = tf.reduce_sum(class_members(labels, way, features.dtype), 1)
        bias = -tf.reduce_sum(tf.square(means), 1) / self.temperature
        bias = tf.where(count > 0, bias, tf.constant(_NEVER, features.dtype))
        return [2.0 / self.temperature * tf.transpose(means), bias]

    def __call__(self, features: tf.Tensor, weights: Tensors) -> tf.Tensor:
        """The model's outputs, from the features of its body `[B, ..., F]`."""
        assert self.layer is not None
        outputs = keras.ops.matmul(tf.cast(features, weights[0].dtype), weights[0])
        if self.layer.use_bias:
            outputs = keras.ops.add(outputs, weights[1])
        return outputs if self.layer.activation is None else self.layer.activation(outputs)

    def added(self, weights: Tensors) -> list[tf.Tensor]:
        """What the layer's regularisers add to the loss."""
        assert self.layer is not None
        regularisers = self.layer.kernel_regularizer, self.layer.bias_regularizer
        return [r(w) for r, w in zip(regularisers, weights, strict=False) if r is not None]


def dense_end(model: keras.Model) -> keras.layers.Dense | None:
    """The dense layer that a model ends in; None where it ends in something else.

    Example:
        >>> dense_end(keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, name="head")])).name
        'head'
        >>> dense_end(keras.Sequential([keras.Input((4,)), keras.layers.Dense(5), keras.layers.Softmax()]))
    """
    outputs = getattr(model, "outputs", None)
    if not outputs or len(outputs) != 1:
        return None
    last: Any = outputs[0]._keras_history.operation
    # Not a subclass, whose `call` may be another; but `deploy.litert` has one that stands for the layer itself.
    if getattr(type(last), "stands_for", type(last)) is not keras.layers.Dense:
        return None
    if not last.built or len(last._inbound_nodes) != 1:
        return None
    # Nothing but a matrix product, a bias and an activation.
    own = len(last.weights) == 1 + last.use_bias
    return last if own and last.activity_regularizer is None else None


def last_layer(model: keras.Model, head: Head | None) -> Head | None:
    """The dense layer that a model ends in, apart from its body, whatever its classes start from.

    Args:
        model: as the inner loop uses it.
        head: of its tasks, which is returned if it has a body.

    Returns:
        None where the model does not end in a dense layer of features `[B, F]`, or that layer is frozen.

    Example:
        >>> layers = [keras.Input((4,)), keras.layers.Dense(2), keras.layers.Dense(5)]
        >>> last_layer(keras.Sequential(layers), None).body.output_shape
        (None, 2)
    """
    if head is not None and head.body is not None:
        return head
    layer = dense_end(model)
    if layer is None or len(layer.input.shape) != 2:
        return None
    own = {id(v) for v in layer.weights}
    positions = [i for i, v in enumerate(model.trainable_variables) if id(v) in own]
    return Head(model, "learned", positions) if len(positions) == len(layer.weights) else None


def class_means(features: tf.Tensor, labels: tf.Tensor, way: Any) -> tf.Tensor:
    """The mean features of each class's support examples, `[way, F]`; zeros for a class without any.

    Args:
        features: of the support set `[S, F]`.
        labels: of the support set, see `class_members`.
        way: how many classes.

    Example:
        >>> class_means(tf.constant([[1.0], [3.0], [5.0]]), tf.constant([0, 0, 1]), 2).numpy()
        array([[2.],
               [5.]], dtype=float32)
    """
    members = class_members(labels, way, features.dtype)
    return tf.math.divide_no_nan(members @ features, tf.reduce_sum(members, 1)[:, tf.newaxis])


def nearness(features: tf.Tensor, means: tf.Tensor) -> tf.Tensor:
    """Minus the squared distance to each mean, `[Q, way]`.

    Formula:
        -|f - p|² = 2 f·p - |p|² - |f|²: matrix products, which LiteRT has too

    Args:
        features: `[Q, F]`.
        means: `[way, F]`.

    Example:
        >>> nearness(tf.constant([[1.0, 2.0]]), tf.constant([[1.0, 0.0], [1.0, 3.0]])).numpy()
        array([[-4., -1.]], dtype=float32)
    """
    products = tf.matmul(features, means, transpose_b=True)
    squares = tf.reduce_sum(tf.square(features), -1)[:, tf.newaxis] + tf.reduce_sum(tf.square(means), -1)
    return 2.0 * products - squares


def class_members(labels: tf.Tensor, way: Any, dtype: tf.DType) -> tf.Tensor:
    """How much each support example belongs to each class, `[way, S]`.

    Args:
        labels: `[S]` or `[S, 1]` integers, or a number for each class `[S, way]`.
        way: how many classes.
        dtype: of the result.

    Example:
        >>> class_members(tf.constant([1, 0, 1]), 2, tf.float32).numpy()
        array([[0., 1., 0.],
               [1., 0., 1.]], dtype=float32)
    """
    if labels.shape.rank == 2 and labels.shape[-1] != 1:
        return tf.transpose(tf.cast(labels, dtype))
    return tf.one_hot(tf.reshape(labels, [-1]), way, axis=0, dtype=dtype)


def classes_of(labels: tf.Tensor, one_hot: bool) -> tf.Tensor:
    """How many classes a task has: one more than the largest label, or as many as each row has numbers.

    Args:
        labels: of the support set.
        one_hot: whether they are a number for each class; labels that are no integers are always.

    Example:
        >>> int(classes_of(tf.constant([0, 2, 1]), False)), int(classes_of(tf.constant([[0, 1]]), True))
        (3, 2)
    """
    if one_hot or not labels.dtype.is_integer:
        return tf.shape(labels)[-1]
    return tf.cast(tf.reduce_max(labels), tf.int32) + 1
