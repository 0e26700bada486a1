"""What a model's outputs are, decided once from the way that the model ends and from its loss."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.task import Loss


class OutputKind(NamedTuple):
    """How outputs are read.

    Attributes:
        values: they are numbers, of a regression.
        probabilities: they are probabilities already; else logits, if they are no values.
        independent: each output is a yes or no of its own (sigmoid); else a row is one choice of classes (softmax).
        one_hot: labels have one number for each output.

    Example:
        >>> OutputKind().to_probabilities(tf.constant([[0.0, 0.0]])).numpy()
        array([[0.5, 0.5]], dtype=float32)
        >>> OutputKind(probabilities=True).to_probabilities(tf.constant([[0.2, 0.8]])).numpy()
        array([[0.2, 0.8]], dtype=float32)
    """

    values: bool = False
    probabilities: bool = False
    independent: bool = False
    one_hot: bool = False

    @property
    def threshold(self) -> float:
        """Above which an independent output says yes."""
        return 0.5 if self.probabilities or self.values else 0.0

    def to_probabilities(self, outputs: tf.Tensor) -> tf.Tensor:
        """Probabilities of the outputs' shape; of a regression the outputs."""
        if self.values or self.probabilities:
            return outputs
        return tf.sigmoid(outputs) if self.independent else _softmax(outputs)

    def to_logits(self, outputs: tf.Tensor) -> tf.Tensor:
        """The logits that `to_probabilities` would make the probabilities of; finite."""
        if not self.probabilities:
            return outputs
        logits = tf.math.log(tf.maximum(outputs, _SMALLEST))
        return logits - tf.math.log(tf.maximum(1 - outputs, _SMALLEST)) if self.independent else logits

    def of_probabilities(self, probabilities: np.ndarray) -> np.ndarray:
        """Outputs of this kind that have these probabilities, as float64 if they are logits."""
        if self.values or self.probabilities:
            return probabilities
        exact = np.maximum(np.asarray(probabilities, np.float64), 1e-46)  # below all of float32, so that order stays
        return np.log(exact) - np.log(np.maximum(1 - exact, 1e-46)) if self.independent else np.log(exact)

    def at_temperature(self, outputs: tf.Tensor, temperature: float) -> tf.Tensor:
        """Outputs of this kind, one choice of classes, whose logits are divided by a temperature."""
        if temperature == 1.0:
            return outputs
        logits = self.to_logits(outputs) / temperature
        return _softmax(logits) if self.probabilities else logits

    def among(self, outputs: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
        """Probabilities where only some classes can be meant.

        Args:
            outputs: `[Q, way]`.
            present: `[way]`, 1 for these classes and 0 for the others.

        Returns:
            `[Q, way]`, 0 for the others.
        """
        if self.independent:
            return self.to_probabilities(outputs) * present
        if self.probabilities:
            some = outputs * present
            return tf.math.divide_no_nan(some, tf.reduce_sum(some, -1, keepdims=True))
        return tf.nn.softmax(tf.where(present > 0.5, outputs, outputs.dtype.min)) * present


_SMALLEST = 1e-37  # a float32 that is not denormal


def _softmax(logits: tf.Tensor) -> tf.Tensor:
    """Over the last axis, of any rank: some of TensorFlow's kernels take five axes and no more."""
    logits = tf.convert_to_tensor(logits)

    def of_rows() -> tf.Tensor:
        return tf.reshape(tf.nn.softmax(tf.reshape(logits, [-1, tf.shape(logits)[-1]])), tf.shape(logits))

    if logits.shape.rank is not None:
        return tf.nn.softmax(logits) if logits.shape.rank <= 5 else of_rows()
    return tf.cond(tf.rank(logits) <= 5, lambda: tf.nn.softmax(logits), of_rows)


# What Keras's losses take: a row of classes, a yes or no for each output, or any probabilities.
_TAKES = {
    "sparse_categorical_crossentropy": "classes",
    "categorical_crossentropy": "classes",
    "categorical_focal_crossentropy": "classes",
    "binary_crossentropy": "answers",
    "binary_focal_crossentropy": "answers",
    "kl_divergence": "probabilities",
    "categorical_generalized_cross_entropy": "probabilities",
    "dice": "probabilities",
    "tversky": "probabilities",
}


def output_kind(
    model: keras.Model, loss: str | Loss | None = None, way: int | None = None
) -> tuple[OutputKind, str | Loss]:
    """Decides what a model's outputs are, and makes the loss read them so.

    The name of a cross-entropy, or its function, says nothing of logits: it takes what the model ends in.  An object
    (`keras.losses.BinaryCrossentropy(from_logits=True)`) has to agree with it.

    Args:
        model: built.
        loss: as `MetaLearner` takes it.
        way: classes of a task; None where the loss alone tells whether outputs are classes.

    Returns:
        The kind, and the loss: Keras's own with the right `from_logits`.

    Raises:
        UserError: model and loss contradict each other, or it cannot be told.

    Example:
        >>> net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")], name="net")
        >>> output_kind(net, "sparse_categorical_crossentropy")[0]
        OutputKind(values=False, probabilities=True, independent=False, one_hot=False)
        >>> output_kind(net, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: model 'net' ends in softmax, and the loss sparse_categorical_crossentropy has ...
    """
    return agreement(model.name, model_end(model), loss, way)


def agreement(
    model: str, end: str, loss: str | Loss | None = None, way: int | None = None
) -> tuple[OutputKind, str | Loss]:
    """`output_kind` of a model whose end is known.

    Args:
        model: its name, for errors.
        end: see `model_end`.
        loss, way: see `output_kind`.

    Example:
        >>> agreement("net", "logits", "categorical_crossentropy", way=5)[0].one_hot
        True
    """
    if isinstance(loss, list | tuple | dict):
        raise UserError("loss is one loss, not several: a learner has one output")
    try:
        given = keras.losses.SparseCategoricalCrossentropy(from_logits=True) if loss is None else keras.losses.get(loss)
    except ValueError as error:
        raise UserError(f"loss {loss!r} is not one of keras.losses, nor a function (labels, outputs)") from error
    function, from_logits = _function_of(given)
    name = getattr(function, "__name__", type(given).__name__)
    takes = _TAKES.get(name) if getattr(keras.losses, name, None) is function else None
    if loss is None or isinstance(loss, str):
        from_logits = None
    _check_agreement(model, end, name, takes, from_logits, loss is None)
    if takes in ("classes", "answers"):
        logits = end == "logits" or (end == "unknown" and from_logits is not False)
        one_hot = not name.startswith("sparse")
        kind = OutputKind(probabilities=not logits, independent=takes == "answers", one_hot=one_hot)
        return kind, _with_from_logits(given, logits)
    if takes == "probabilities" or (way and end in ("softmax", "sigmoid")):
        return OutputKind(probabilities=True, independent=end == "sigmoid", one_hot=takes is not None), given
    return OutputKind(values=way is None), given


def _check_agreement(
    model: str, end: str, loss: str, takes: str | None, from_logits: bool | None, default: bool
) -> None:
    """Refuses a loss that does not take what the model gives."""
    is_cross_entropy, given = takes in ("classes", "answers"), "" if default else f"the loss {loss}"
    if end == "unknown" and is_cross_entropy and from_logits is None and not default:
        raise UserError(
            f"it cannot be told whether the outputs of model '{model}' are logits or probabilities: give {given} as an "
            "object of keras.losses, with from_logits"
        )
    if end in ("softmax", "sigmoid") and from_logits and is_cross_entropy:
        raise UserError(f"model '{model}' ends in {end}, and {given} has from_logits=True: leave one of the two out")
    if end == "softmax" and takes == "answers":
        raise UserError(
            f"model '{model}' ends in softmax, one choice of all outputs, and {given} takes a yes or no for each: end "
            "in sigmoid, or take categorical_crossentropy"
        )
    if end == "sigmoid" and takes == "classes":
        raise UserError(
            f"model '{model}' ends in sigmoid, a yes or no for each output, and {given or 'the default loss'} takes "
            "one choice of all: end in softmax or without activation, or take loss='binary_crossentropy'"
        )
    if end == "logits" and (takes == "probabilities" or (is_cross_entropy and from_logits is False)):
        mend = "set from_logits=True, or end in" if is_cross_entropy else "end in"
        raise UserError(f"model '{model}' ends without softmax or sigmoid, and {given} takes probabilities: {mend} one")


def _function_of(loss: Any) -> tuple[Any, bool | None]:
    """The function of `keras.losses` in a loss, if there is one, and whether it is told to take logits."""
    if isinstance(loss, keras.losses.Loss):
        inner, told = _function_of(getattr(loss, "fn", None))
        from_logits = getattr(loss, "from_logits", getattr(loss, "_fn_kwargs", {}).get("from_logits", told))
        return inner, from_logits
    if isinstance(loss, partial):
        return loss.func, loss.keywords.get("from_logits")
    return loss, None


def _with_from_logits(loss: Any, from_logits: bool) -> Any:
    """One of Keras's cross-entropies, as a Loss object or a function, that takes logits or probabilities."""
    if isinstance(loss, keras.losses.Loss):
        is_told = _function_of(loss)[1] == from_logits
        return loss if is_told else type(loss).from_config({**loss.get_config(), "from_logits": from_logits})
    return partial(loss, from_logits=from_logits)


# --- How a model ends ------------------------------------------------------------------------------------

_PASSING = ("Identity", "Reshape", "Cast", "Squeeze", "ExpandDims", "Transpose", "StopGradient", "Pack")
_NO_PROBABILITIES = ("LogSoftmax", "Tanh", "Relu", "LeakyRelu", "Elu", "Selu")
_PRODUCTS = ("MatMul", "BatchMatMulV2", "Einsum", "Conv2D", "Conv3D")


def model_end(model: keras.Model) -> str:
    """The last operation of a model, found in the traced graph of its last layer.

    Returns:
        `softmax`, `sigmoid`, `logits` (such as a dense layer without activation: no probabilities), or `unknown`.

    Example:
        >>> model_end(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Softmax()]))
        'softmax'
    """
    if not getattr(model, "inputs", None):
        return _subclassed_end(model)
    outputs = model.outputs
    while len(outputs) == 1:
        layer, index, _ = outputs[0]._keras_history
        if isinstance(layer, keras.Model) and getattr(layer, "inputs", None):
            outputs = layer.outputs
            continue
        arguments = layer._inbound_nodes[index].arguments
        inputs = arguments.keras_tensors
        if not inputs:
            break
        fed, result = _traced_call(layer, arguments.args, arguments.kwargs)
        end, source = _end_of(result, fed)
        if source is None:
            return end
        outputs = [inputs[source]]  # the layer changes nothing: the one before it
    return "unknown"


def _subclassed_end(model: keras.Model) -> str:
    shape = (model.get_build_config() or {}).get("input_shape")
    if not isinstance(shape, (tuple, list)) or not all(n is None or isinstance(n, int) for n in shape):
        return "unknown"
    try:
        inputs = keras.KerasTensor([None, *shape[1:]], model.compute_dtype)
        fed, result = _traced_call(model, (inputs,), {})
    except Exception:  # it takes another dtype than it computes in, or more than one argument
        return "unknown"
    return _end_of(result, fed)[0]


def _traced_call(layer: Any, args: Any, kwargs: Any) -> tuple[list[tf.Tensor], Any]:
    """The tensors that stand for the Keras tensors among the arguments, and what the layer makes of them."""
    symbolic = [t for t in tf.nest.flatten((args, kwargs)) if isinstance(t, keras.KerasTensor)]
    found: list[Any] = []

    def trace(*fed: tf.Tensor) -> None:
        values = iter(fed)
        given = [next(values) if isinstance(t, keras.KerasTensor) else t for t in tf.nest.flatten((args, kwargs))]
        new_args, new_kwargs = tf.nest.pack_sequence_as((args, kwargs), given)
        found.append((list(fed), layer(*new_args, **new_kwargs)))

    specs = [tf.TensorSpec(t.shape, t.dtype) for t in symbolic]
    tf.function(trace, autograph=False).get_concrete_function(*specs)
    return found[0]


def _end_of(outputs: Any, fed: Sequence[tf.Tensor]) -> tuple[str, int | None]:
    """What the operation is that outputs come from; and which input they are, if they are one unchanged."""
    if not isinstance(outputs, tf.Tensor):
        return "unknown", None
    last = _before_passing(outputs)
    sources = [t.op for t in fed]
    if last in sources:
        return "unknown", sources.index(last)
    if last.type in ("Softmax", "Sigmoid"):
        return last.type.lower(), None
    if last.type in ("Add", "AddV2", "BiasAdd"):
        last = next((p for p in map(_before_passing, last.inputs) if p.type in _PRODUCTS), last)
    # With weights: a product of two results may well be probabilities.
    is_product = last.type in _PRODUCTS and not all(_depends_on(t, sources) for t in last.inputs)
    return "logits" if is_product or last.type in _NO_PROBABILITIES else "unknown", None


def _before_passing(tensor: tf.Tensor) -> tf.Operation:
    while tensor.op.type in _PASSING:
        tensor = tensor.op.inputs[0]
    return tensor.op


def _depends_on(tensor: tf.Tensor, sources: Sequence[tf.Operation]) -> bool:
    seen, left = set[tf.Operation](), [tensor.op]
    while left:
        operation = left.pop()
        if operation in sources:
            return True
        if operation not in seen:
            seen.add(operation)
            left += [t.op for t in operation.inputs]
    return False
