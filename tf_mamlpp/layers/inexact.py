"""Refuses what has wrong second derivatives and cannot be exchanged: what a layer or model of the user's own does.

Such a model trains without a word on a wrong meta-gradient.  What is wrong was found by a sweep over all of Keras
(`tests/meta/test_second_derivatives_of_keras.py`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf
from tensorflow.python.framework.ops import get_gradient_function

import tf_mamlpp.layers.missing_derivatives  # noqa: F401  (it gives TensorFlow derivatives)
from tf_mamlpp.errors import UserError
from tf_mamlpp.layers.derivative_paths import Differentiated, operations_between
from tf_mamlpp.layers.pooling import keeps_shape
from tf_mamlpp.layers.traced_operations import with_inner

_POOL_GRADIENTS = ("MaxPoolGrad", "MaxPoolGradV2", "MaxPool3DGrad")
_GRADIENT_OF_POOL = 2  # the position of what comes back, among their inputs

# TensorFlow has no derivative of these, and none is needed: they do not depend on the values, or by steps alone.
_WITHOUT_SLOPE = ("OneHot", "LookupTableFindV2", "EditDistance")

_SHIFTS = {"Sub", "Add", "AddV2", "Reshape", "Squeeze", "Shape"}

_ANY_WAY_OUT = "use another operation, layer or activation in its place"
_WAYS_OUT = {
    **{
        kind: "use tf_mamlpp.resize, ExactUpSampling2D or ExactResizing"
        for kind in ("ResizeBilinearGrad", "ResizeArea")
    },
    **{f"CudnnRNN{kind}": "give its layer use_cudnn=False" for kind in ("Backprop", "BackpropV2", "BackpropV3")},
}


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


def check_operations(
    model: keras.Model,
    operations: Sequence[tf.Operation],
    adapted: Sequence[tf.Tensor],
    weights: Sequence[tf.Tensor],
    gradients: Sequence[tf.Tensor],
) -> None:
    """Refuses what second derivatives of a traced gradient go through and TensorFlow has no right derivative of.

    Args:
        model: to be named, with its layers.
        operations: all that were traced for the gradients; eagerly there are none, and nothing is checked.
        adapted: the weights that the gradients are taken with respect to.
        weights: all that the gradients are differentiated by again.
        gradients: of the loss.

    Raises:
        UserError: naming the operation, its layer and the way out.

    Example:
        >>> model = keras.Sequential(name="net")
        >>> from tf_mamlpp.layers.traced_operations import traced_operations
        >>> @tf.function(autograph=False)
        ... def gradient(weights):
        ...     with traced_operations() as made, tf.GradientTape() as tape:
        ...         tape.watch(weights)
        ...         loss = tf.reduce_sum(tf.nn.max_pool2d(weights, 3, 1, "SAME") ** 2)
        ...         gradients = [tape.gradient(loss, weights)]
        ...     check_operations(model, made, [weights], [weights], gradients)
        ...     return gradients
        >>> gradient(tf.ones((1, 4, 4, 1)))
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: model 'net': the second derivatives of operation 'MaxPool2d... are wrong ...
    """
    # What is stopped before weights that are not adapted is not differentiated twice: there it is as in Keras.
    twice = {id(found.operation) for found in operations_between(operations, adapted, gradients)}
    for found in operations_between(operations, [*adapted, *weights], gradients):
        problem = _problem(found, id(found.operation) in twice)
        if problem:
            where = f"operation '{found.name}'{_layer_of(model, found.scopes)}"
            raise UserError(f"model '{model.name}': the second derivatives of {where} {problem}; or set first_order")


@contextlib.contextmanager
def name_missing_derivatives(model: keras.Model | None = None) -> Iterator[None]:
    """Says in one line which operation inside has no derivative, or no second one.

    Args:
        model: whose layers may hold the operation.

    Raises:
        UserError: naming the operation and, as far as it is known, its layer.

    Example:
        >>> with name_missing_derivatives(), tf.GradientTape() as outer:
        ...     x = tf.Variable(tf.ones((1, 2, 2, 1)))
        ...     with tf.GradientTape() as tape:
        ...         y = tf.nn.lrn(x)
        ...     outer.gradient(tape.gradient(y, x), x)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: TensorFlow has no derivative of LRNGrad, ...
    """
    try:
        yield
    except LookupError as error:
        unknown = re.search(r"gradient registry has no entry for: (\w+)", str(error))
        prevented = re.search(r"Gradient explicitly disabled. Reason: (.*)", str(error))
        if not unknown and not prevented:
            raise
        kind = unknown[1] if unknown else "PreventGradient"
        reason = f" ({prevented[1]})" if prevented else ""
        raise UserError(
            f"TensorFlow has no derivative of {kind}{_layer_with(model, kind)}, which this model needs{reason}: "
            f"{_WAYS_OUT.get(kind, _ANY_WAY_OUT)}, or set first_order if it is one of second order (...Grad)"
        ) from error


def _layer_with(model: keras.Model | None, kind: str) -> str:
    """The layer that an operation of this kind is in, in words, as far as a graph tells."""
    if model is None or tf.executing_eagerly():
        return ""
    made = tf.compat.v1.get_default_graph().get_operations()
    holders = [operation for operation in made if any(inner.type == kind for inner in with_inner(operation))]
    return _layer_of(model, [operation.name for operation in holders])


def _layer_of(model: keras.Model, names: Sequence[str]) -> str:
    """The innermost layer among the scopes of operations' names, in words; nothing where there is none."""
    layers = {layer.name: layer for layer in model._flatten_layers(include_self=False)}
    for scope in (scope for name in names for scope in reversed(name.split("/"))):
        layer = layers.get(scope) or layers.get(re.sub(r"_\d+$", "", scope))  # a scope's second time has a number
        if layer:
            return f" in layer '{layer.name}' ({type(layer).__name__})"
    return ""


def _problem(found: Differentiated, twice: bool) -> str | None:
    """What is wrong with an operation's derivative, and the way out; None for all but a few."""
    operation = found.operation
    if operation.type in _POOL_GRADIENTS and _GRADIENT_OF_POOL in found.inputs and _pool_kept_shape(operation):
        return (
            "are wrong in TensorFlow, where a max-pool's outputs have the shape of its inputs: use "
            "tf_mamlpp.ExactMaxPooling2D (1D, 3D) in its place"
        )
    if operation.type == "StopGradient":
        return _problem_of_stop(operation) if twice else None
    try:
        declared_constant = get_gradient_function(operation) is None
        missing = operation.type == "PreventGradient" or (
            declared_constant and twice and operation.type not in _WITHOUT_SLOPE
        )
    except LookupError:
        missing = True
    if not missing:
        return None
    return f"are missing in TensorFlow ({operation.type}): {_WAYS_OUT.get(operation.type, _ANY_WAY_OUT)}"


def _problem_of_stop(operation: tf.Operation) -> str | None:
    (stopped,) = operation.outputs
    users = stopped.consumers()
    if any(user.type == "SquaredDifference" and "moments" in user.name for user in users):
        return (
            "are wrong in TensorFlow, where tf.nn.moments holds the mean fixed inside the variance: use tf.reduce_mean "
            "and tf.math.reduce_variance in its place"
        )
    # Of a log-sum-exp: what is taken off is added again.
    if {user.type for user in users} <= _SHIFTS and _is_maximum(operation.inputs[0].op):
        return None
    return (
        "are stopped by tf.stop_gradient: freeze the layers before it (trainable=False) if they are not to learn, else "
        "take it out"
    )


def _is_maximum(operation: tf.Operation) -> bool:
    if operation.type in ("SelectV2", "Identity", "Reshape", "Cast"):
        return any(_is_maximum(t.op) for t in operation.inputs)
    return operation.type == "Max"


def _pool_kept_shape(gradient: tf.Operation) -> bool:
    size, strides = (
        tuple(gradient.get_attr(name)) if name in gradient.node_def.attr else None for name in ("ksize", "strides")
    )
    inputs, outputs = gradient.inputs[0].shape, gradient.inputs[1].shape
    if size is None or strides is None:  # MaxPoolGradV2 has them as tensors
        return inputs.is_compatible_with(outputs)
    lengths = inputs.as_list() if inputs.rank is not None else None
    return keeps_shape(size, strides, gradient.get_attr("padding").decode(), lengths)
