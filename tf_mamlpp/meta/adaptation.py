"""Use of a trained learner: it adapts to one task, and answers."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tf_mamlpp.meta.functional_model import FunctionalModel
from tf_mamlpp.meta.output_kind import OutputKind
from tf_mamlpp.meta.task import Tensors


class Adapted(NamedTuple):
    """What `MetaLearner.adapt` learned from a support set: every weight of the model after the inner loop.

    Attributes:
        weights: of all trainable variables.
        state: of all others.
        row: of the batch norms' tables, the last inner step's.
        query_statistics: what `predict_adapted` normalises with.

    Example:
        >>> Adapted(weights=[], state=[], row=4, query_statistics="support").row
        4
    """

    weights: Tensors
    state: Tensors
    row: int
    query_statistics: str


class Adaptation:
    """The inner loop and the pass after it as functions of one task, each traced once for any number of examples.

    Args:
        model: of the learner.
        kind: of its outputs.

    Example:
        >>> import keras, tf_mamlpp as mp
        >>> net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        >>> learner = mp.MetaLearner(net, way=2, inner_steps=1)
        >>> use = Adaptation(learner.functional_model, learner.output_kind)
        >>> adapted = use.adapt([[0.0, 1.0], [1.0, 0.0]], tf.constant([0, 1]), 1, "support")
        >>> use.predict(adapted, [[0.0, 1.0]]).shape
        TensorShape([1, 2])
    """

    def __init__(self, model: FunctionalModel, kind: OutputKind):
        self._model, self._kind = model, kind
        self._adapt_function = tf.function(self._adapt_tensors, autograph=False)
        self._predict_function = tf.function(self._predict_tensors, autograph=False)

    def adapt(self, inputs: Any, labels: tf.Tensor, steps: int, statistics: str) -> Adapted:
        """See `MetaLearner.adapt`."""
        support = self._tensors(inputs), labels
        specifications = tf.nest.map_structure(_any_number, support)
        function = self._adapt_function.get_concrete_function(*specifications, steps, statistics)
        weights, state = function(*support, steps, statistics)
        return Adapted(weights, state, max(steps - 1, 0), statistics)

    def predict(self, adapted: Adapted, inputs: Any) -> tf.Tensor:
        """See `MetaLearner.predict_adapted`."""
        statistics = "batch" if adapted.query_statistics == "batch" else "running"
        queries = self._tensors(inputs)
        known = list(adapted.weights), list(adapted.state)
        specifications = tf.nest.map_structure(_any_number, queries)
        function = self._predict_function.get_concrete_function(*known, specifications, adapted.row, statistics)
        return function(*known, queries, adapted.row, statistics)

    def _tensors(self, inputs: Any) -> Any:
        """Inputs as tensors; several in a dict, a tuple or, of a model that declares them, a list."""
        if isinstance(inputs, dict):
            return {name: self._tensors(value) for name, value in inputs.items()}
        declared = getattr(self._model.model, "inputs", None)
        if isinstance(inputs, tuple | list) and (len(declared) > 1 if declared else isinstance(inputs, tuple)):
            return tuple(map(tf.convert_to_tensor, inputs))
        return tf.convert_to_tensor(inputs)

    def _adapt_tensors(self, inputs: Any, labels: tf.Tensor, steps: int, statistics: str) -> tuple[Tensors, Tensors]:
        model = self._model
        fast, state = model.adapt({"support_images": inputs, "support_labels": labels}, model.state, steps)
        weights = model.weights(fast)
        if statistics == "support":
            state = model.support_statistics(weights, state, inputs, max(steps - 1, 0))
        return weights, state

    def _predict_tensors(self, weights: Tensors, state: Tensors, inputs: Any, row: int, statistics: str) -> tf.Tensor:
        outputs, *_ = self._model.outputs(weights, state, inputs, row, statistics=statistics)
        return self._kind.to_probabilities(outputs)


def _any_number(tensor: tf.Tensor) -> tf.TensorSpec:
    """A signature for any number of pictures or labels, so that another number is not traced again."""
    return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)
