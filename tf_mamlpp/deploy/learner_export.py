"""A learner exported from Python: a SavedModel that adapts and predicts, for whatever inputs its model takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.deploy.metadata import describe
from tf_mamlpp.deploy.saved_model import check_output, export_saved_model, require, require_classes, require_own_state
from tf_mamlpp.deploy.state_learner import StateLearner, state_learner
from tf_mamlpp.deploy.task_learner import task_learner
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import new_folder, plain_path, write_json
from tf_mamlpp.meta.confidence import Confidence
from tf_mamlpp.meta.outer_loop import EpisodicModel


def export(
    learner: EpisodicModel,
    filepath: str | os.PathLike[str],
    *,
    pictures: PictureFormat | None = None,
    inner_steps: int | None = None,
    query_statistics: str = "support",
    input_signature: Any = None,
    confidence: Confidence | None = None,
) -> dict[str, Any]:
    """Writes a SavedModel that adapts and predicts, and needs neither Keras nor this package; `learner.export` too.

    Its signatures are `adapt(support_x, support_y) -> state`, `predict(state, x) -> probabilities, logits` (of a
    regression: `outputs`), and both in one as `serving_default(support_x, support_y, query_x)`.  Of a model with
    several inputs each has its own, such as `support_x_text` for `{"text": ...}` and `support_x_0` for a list.  In
    Python, `tf.saved_model.load(filepath)` has the functions `adapt` and `predict` too, which take the model's own
    structure.

    Args:
        learner: trained.
        filepath: the folder to write; must not exist, or be empty.
        pictures: how the pictures of training were prepared: the SavedModel then takes grey values of any size, and
            encoded files, and is the one of `tf-mamlpp export`.  None for inputs as the model takes them.
        inner_steps: of adaptation; None for as many as trained.
        query_statistics: see `state_learner.StateLearner`.
        input_signature: a `tf.TensorSpec`, or a structure of them, of the inputs of a model that does not declare them.
        confidence: what `confidence.fit_confidence` fitted to tasks that the learner was not trained on: calibrates
            the probabilities, and adds the output `known`.

    Returns:
        What `metadata.json` in the folder holds.

    Raises:
        UserError: the learner has no inner loop, its inputs are not known, or the folder cannot be written.

    Example:
        >>> import tf_mamlpp as mp
        >>> learner = mp.MetaLearner(mp.mlp((4,), 3, (5,)), way=3, inner_steps=2)
        >>> sorted(export(learner, tmp_path / "model")["signatures"]["adapt"]["inputs"])
        ['support_x', 'support_y']
        >>> model = tf.saved_model.load(str(tmp_path / "model"))
        >>> state = model.adapt(tf.eye(3, 4), tf.constant([0, 1, 2]))["state"]
        >>> model.predict(state, tf.eye(2, 4))["probabilities"].shape
        TensorShape([2, 3])
    """
    settings: dict[str, Any] = {"inner_steps": inner_steps, "query_statistics": query_statistics}
    settings["confidence"] = confidence
    if pictures is not None:
        return export_saved_model(task_learner(learner, pictures, **settings), filepath)  # type: ignore[arg-type]
    deployed = state_learner(learner, **settings)
    signature = _declared(learner.model) if input_signature is None else input_signature
    return export_inputs(InputSignatures(deployed, signature), filepath)


def export_inputs(
    module: InputSignatures, filepath: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Writes a SavedModel of these functions, with `metadata.json` in it.

    Args:
        module: the functions.
        filepath: the folder to write; must not exist, or be empty.
        metadata: more to write to `metadata.json`.

    Returns:
        What `metadata.json` holds.

    Raises:
        UserError: the folder is taken, cannot be written, or TensorFlow could not load the model from there.

    Example:
        >>> import tf_mamlpp as mp
        >>> learner = mp.MetaLearner(mp.mlp((4,), 3, (5,)), way=3, inner_steps=1)
        >>> module = InputSignatures(state_learner(learner), tf.TensorSpec([None, 4]), RUN_NAMES)
        >>> sorted(export_inputs(module, tmp_path / "model", {"note": "a test"})["signatures"]["predict"]["inputs"])
        ['inputs', 'state']
    """
    check_output(Path(filepath))
    functions = module.by_name()
    described = describe(module.learner, functions, metadata)
    with new_folder(filepath, tf.errors.OpError) as building:
        with plain_path(building) as path:
            tf.saved_model.save(module, path, functions)
        write_json(building / "metadata.json", described)
    return described


def _declared(model: keras.Model) -> Any:
    """Specifications of a model's inputs, in its own structure, for any number of examples."""
    if not getattr(model, "inputs", None):
        raise UserError(
            f"model '{model.name}' does not declare its inputs: give input_signature, such as "
            "tf.TensorSpec([None, 28, 28, 1], tf.float32)"
        )
    inputs = model.inputs if isinstance(model, keras.Sequential) else model.input
    inputs = inputs[0] if isinstance(inputs, list) and len(inputs) == 1 else inputs
    return tf.nest.map_structure(lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype), inputs)


def _named(structure: Any, prefix: str) -> dict[str, Any]:
    """The leaves of a structure by name, in the order of `tf.nest.flatten`."""
    if isinstance(structure, Mapping):
        parts = [(str(key), structure[key]) for key in sorted(structure)]
    elif isinstance(structure, (list, tuple)):
        parts = [(str(i), part) for i, part in enumerate(structure)]
    else:
        return {prefix: structure}
    return {name: leaf for key, part in parts for name, leaf in _named(part, f"{prefix}_{key}").items()}


class Names(NamedTuple):
    """What signatures call their inputs.

    Example:
        >>> Names().support, RUN_NAMES.support
        ('support_x', 'support_inputs')
    """

    support: str = "support_x"
    labels: str = "support_y"
    query: str = "query_x"
    inputs: str = "x"


PYTHON_NAMES = Names()
"""The names in a learner's own export."""

RUN_NAMES = Names("support_inputs", "support_labels", "query_inputs", "inputs")
"""The names in an exported run, beside `support_images` and so on in one of pictures."""


class InputSignatures(tf.Module):
    """The functions of the SavedModel, each traced once for any number of examples.

    Args:
        learner: what adapts and predicts.
        inputs: specifications of the inputs that it takes.
        names: of the signatures' inputs.

    Example:
        >>> import tf_mamlpp as mp
        >>> learner = mp.MetaLearner(mp.mlp((4,), 3, (5,)), way=3, inner_steps=1)
        >>> functions = InputSignatures(state_learner(learner), tf.TensorSpec([None, 4])).by_name()
        >>> functions["adapt"](support_x=tf.eye(3, 4), support_y=tf.constant([0, 1, 2]))["state"].shape
        TensorShape([47])
    """

    def __init__(self, learner: StateLearner, inputs: Any, names: Names = PYTHON_NAMES):
        super().__init__(name="tf_mamlpp")
        self.learner, self._inputs, self._names = learner, inputs, names
        # The plain TensorFlow variables: Keras's own would need Keras to be loaded again.
        self._weights = [v.value for v in (*learner.model.model.variables, learner.model.rates.table)]
        self._labels = self._label_spec()
        state = tf.TensorSpec([None], tf.float32, "state")
        self.adapt = tf.function(self._adapt, input_signature=[inputs, self._labels], autograph=False)
        self.predict = tf.function(self._predict, input_signature=[state, inputs], autograph=False)

    def _label_spec(self) -> tf.TensorSpec:
        """One class for each output of `way`; where outputs are answers or values of their own, one for each."""
        learner, model = self.learner, self.learner.model

        def outputs(inputs: Any) -> tf.Tensor:
            return model.outputs(model.start, model.state, learner.prepared(inputs), 0, statistics="batch")[0]

        shape = tf.function(outputs, autograph=False).get_concrete_function(self._inputs).output_shapes
        if learner.way is None or learner.kind.independent:
            return tf.TensorSpec([None, *shape[1:]], tf.float32, self._names.labels)
        return tf.TensorSpec([None, *shape[1:-1]], tf.int32, self._names.labels)

    def _adapt(self, inputs: Any, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        flat, count = tf.nest.flatten(inputs), tf.shape(labels)[0]
        counts = tf.stack([tf.shape(part)[0] for part in flat])
        support, of = self._names.support, self._names.labels
        finite = [tf.reduce_all(tf.math.is_finite(part)) for part in (*flat, labels) if part.dtype.is_floating]
        checks = [
            require(count > 0, "the support set is empty; its labels are", count),
            require(tf.reduce_all(counts == count), "each example needs one label; labels, examples:", count, counts),
            require(tf.reduce_all(finite), f"{support} and {of} must be finite numbers; examples:", count),
        ]
        if labels.dtype.is_integer:
            checks.append(require_classes(self.learner, labels, of))
        with tf.control_dependencies(checks):
            inputs = tf.nest.map_structure(tf.identity, inputs)
            return {"state": self.learner.adapt(inputs, labels)}

    def _predict(self, state: tf.Tensor, inputs: Any) -> dict[str, tf.Tensor]:
        with tf.control_dependencies(require_own_state(self.learner, state)):
            found = self.learner.predictions(tf.identity(state), inputs)
        return {"outputs": found["probabilities"]} if self.learner.way is None else found

    def by_name(self) -> dict[str, Any]:
        """The concrete functions by the names of their signatures."""
        state = {"state": tf.TensorSpec([None], tf.float32)}
        names = self._names
        labels = {names.labels: self._labels}
        support, query, x = (_named(self._inputs, name) for name in (names.support, names.query, names.inputs))

        def packed(values: Mapping[str, tf.Tensor], names: Mapping[str, Any]) -> Any:
            return tf.nest.pack_sequence_as(self._inputs, [values[name] for name in names])

        def adapt(**given: tf.Tensor) -> dict[str, tf.Tensor]:
            return self.adapt(packed(given, support), given[names.labels])

        def predict(**given: tf.Tensor) -> dict[str, tf.Tensor]:
            return self.predict(given["state"], packed(given, x))

        def both(**given: tf.Tensor) -> dict[str, tf.Tensor]:
            return self.predict(adapt(**{n: given[n] for n in (*support, *labels)})["state"], packed(given, query))

        def traced(function: Any, specs: Mapping[str, tf.TensorSpec]) -> Any:
            named = {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in specs.items()}
            return tf.function(function, autograph=False).get_concrete_function(**named)

        return {
            "serving_default": traced(both, {**support, **labels, **query}),
            "adapt": traced(adapt, {**support, **labels}),
            "predict": traced(predict, {**state, **x}),
        }
