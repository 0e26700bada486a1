"""Refuses what has wrong second derivatives and cannot be exchanged: what a layer or model of the user's own does.

Such a model trains without a word on a wrong meta-gradient.  What is wrong was found by a sweep over all of Keras
(`tests/meta/test_second_derivatives_of_keras.py`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence

import keras
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.pooling import keeps_shape
from tf_mamlpp.layers.traced_operations import traced_operations, with_inner

_POOLS = ("MaxPool", "MaxPoolV2", "MaxPoolWithArgmax", "MaxPool3D")


def check_layers(model: keras.Model) -> None:
    """Refuses layers that hold fixed, in second order, what depends on the weights.

    Raises:
        UserError: naming the layer.

    Example:
        >>> dense = keras.layers.SpectralNormalization(keras.layers.Dense(2), name="normed")
        >>> check_layers(keras.Sequential([keras.Input((4,)), dense], name="net"))
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: model 'net': the second derivatives of layer 'normed' ...
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.SpectralNormalization) and layer.trainable_variables:
            raise UserError(
                f"model '{model.name}': the second derivatives of layer '{layer.name}' (SpectralNormalization) are "
                "wrong, because it holds the singular vectors fixed: take the layer inside it alone, or set first_order"
            )


@contextlib.contextmanager
def exact_operations_only(model: str, weights: Sequence[tf.Tensor]) -> Iterator[None]:
    """Refuses operations traced inside whose second derivatives with respect to the weights are wrong.

    Eagerly it does nothing: only graphs of operations can be looked through.

    Args:
        model: its name.
        weights: those that the inner loop changes.

    Raises:
        UserError: at the end, naming the operation.

    Example:
        >>> @tf.function(autograph=False)
        ... def pooled(weights):
        ...     with exact_operations_only("net", [weights]):
        ...         return tf.nn.max_pool2d(weights, 3, 1, "SAME")
        >>> pooled(tf.ones((1, 4, 4, 1)))
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: model 'net': the second derivatives of operation 'MaxPool2d' are wrong ...
    """
    with traced_operations() as made:
        yield
    here = bool(made) and all(getattr(w, "graph", None) is made[0].graph for w in weights)
    for operation in _depending_on(weights, made) if here else made:
        for inner in with_inner(operation):
            problem = _problem(inner)
            if problem:
                raise UserError(
                    f"model '{model}': the second derivatives of operation '{inner.name}' are wrong in TensorFlow, "
                    f"{problem}; or set first_order"
                )


@contextlib.contextmanager
def name_missing_derivatives() -> Iterator[None]:
    """Says in one line which operation inside has no derivative, or no second one.

    Raises:
        UserError: naming the operation.

    Example:
        >>> with name_missing_derivatives(), tf.GradientTape() as outer:
        ...     x = tf.Variable(1.0)
        ...     with tf.GradientTape() as tape:
        ...         y = tf.nn.softsign(x)
        ...     outer.gradient(tape.gradient(y, x), x)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: TensorFlow has no derivative of SoftsignGrad, ...
    """
    try:
        yield
    except LookupError as error:
        unknown = re.search(r"gradient registry has no entry for: (\w+)", str(error))
        if not unknown:
            raise
        raise UserError(
            f"TensorFlow has no derivative of {unknown[1]}, which this model needs: use another layer or activation in "
            "its place, or set first_order if it is one of second order (...Grad)"
        ) from error


def _depending_on(sources: Sequence[tf.Tensor], operations: Iterable[tf.Operation]) -> Iterator[tf.Operation]:
    dependent = {t.ref() for t in sources}
    for operation in operations:  # in the order in which they were made: inputs come first
        if any(t.ref() in dependent for t in operation.inputs):
            dependent.update(t.ref() for t in operation.outputs)
            yield operation


def _problem(operation: tf.Operation) -> str | None:
    """What is wrong with an operation's second derivative, and the mend; None for all but a few."""
    if operation.type in _POOLS and _pool_keeps_shape(operation):
        return (
            "where a max-pool's outputs have the shape of its inputs: use tf_mamlpp.ExactMaxPooling2D (1D, 3D) in its "
            "place"
        )
    if operation.type == "SquaredDifference" and "moments" in operation.name:
        if any(t.op.type == "StopGradient" for t in operation.inputs):
            return (
                "where tf.nn.moments holds the mean fixed inside the variance: use tf.reduce_mean and "
                "tf.math.reduce_variance in its place"
            )
    return None


def _pool_keeps_shape(operation: tf.Operation) -> bool:
    size, strides = (
        tuple(operation.get_attr(name)) if name in operation.node_def.attr else None for name in ("ksize", "strides")
    )
    inputs, outputs = operation.inputs[0].shape, operation.outputs[0].shape
    if size is None or strides is None:  # MaxPoolV2 has them as tensors
        return inputs.is_compatible_with(outputs)
    lengths = inputs.as_list() if inputs.rank is not None else None
    return keeps_shape(size, strides, operation.get_attr("padding").decode(), lengths)
