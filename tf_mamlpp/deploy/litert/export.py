"""A task learner as one file for LiteRT (TensorFlow Lite), which adapts and predicts with built-in operators alone."""

from __future__ import annotations

import json
import math
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import logging

from tf_mamlpp.data.images import resize
from tf_mamlpp.deploy.litert.layers import DifferentiableHead, differentiable_copy
from tf_mamlpp.deploy.litert.ops import cross_entropy
from tf_mamlpp.deploy.metadata import describe
from tf_mamlpp.deploy.task_learner import TaskLearner
from tf_mamlpp.errors import UserError, writing
from tf_mamlpp.files import check_new, plain_path, whole_file
from tf_mamlpp.meta.functional_model import FunctionalModel
from tf_mamlpp.meta.output_kind import OutputKind
from tf_mamlpp.meta.task import Loss


class Signatures(tf.Module):
    """The functions of the LiteRT model.

    `adapt(support_images [S, height, width, C] float32, support_labels [S] int32) -> state [P] float32` and
    `predict(state [P] float32, images [Q, height, width, C] float32) -> probabilities, logits [Q, way] float32`, with
    pixels 0..255, rounded to whole grey values as in training; of a model with a score of being known, `predict` also
    gives `known [Q]`.  S and Q are whatever the inputs are resized to, and so is P where there may be any number of
    classes.  The state is that of the SavedModel.

    LiteRT has no assertions.  What the SavedModel refuses (labels out of range, or not one for each picture; pictures
    of another size; another model's state) gives NaN or LiteRT's own error.

    Args:
        learner: what adapts and predicts.

    Raises:
        UserError: a layer that LiteRT cannot differentiate, or a loss other than cross-entropy.

    Example:
        >>> import tf_mamlpp as mp
        >>> from tf_mamlpp.data.picture_format import PictureFormat
        >>> from tf_mamlpp.deploy.task_learner import task_learner
        >>> learner = mp.MetaLearner(mp.mlp((8, 8, 1), 3), way=3, inner_steps=1)
        >>> signatures = Signatures(task_learner(learner, PictureFormat((8, 8), 1, mean=(0.5,), std=(0.5,))))
        >>> state = signatures.adapt(tf.zeros((3, 8, 8, 1)), tf.constant([0, 1, 2]))["state"]
        >>> signatures.predict(state, tf.zeros((5, 8, 8, 1)))["logits"].shape
        TensorShape([5, 3])
        >>> signatures.predict(state + 1, tf.zeros((1, 8, 8, 1)))["logits"].numpy()  # the state of another model
        array([[nan, nan, nan]], dtype=float32)
    """

    def __init__(self, learner: TaskLearner):
        super().__init__(name="tf_mamlpp")
        self.learner = learner = _differentiable(learner)
        # The plain TensorFlow variables: saving Keras's own would save more than they hold.
        self._weights = [v.value for v in (*learner.model.model.variables, learner.model.rates.table)]

    def adapt(self, support_images: tf.Tensor, support_labels: tf.Tensor) -> dict[str, tf.Tensor]:
        state = self.learner.adapt(self._rounded(support_images), support_labels)
        one_each = tf.shape(support_images)[0] == tf.size(support_labels)
        return {
            "state": state
            + _nan_unless(self._are_classes(support_labels) & one_each & _has_declared_size(support_images))
        }

    def _are_classes(self, labels: tf.Tensor) -> tf.Tensor:
        if not self.learner.any_way:
            return tf.reduce_all((labels >= 0) & (labels < self.learner.way))
        counts = tf.reduce_sum(tf.one_hot(labels, tf.reduce_max(labels) + 1), 0)
        return tf.reduce_all(labels >= 0) & tf.reduce_all(counts > 0.0)

    def predict(self, state: tf.Tensor, images: tf.Tensor) -> dict[str, tf.Tensor]:
        found = self.learner.predictions(state, self._rounded(images))
        added = _nan_unless((state[0] == self.learner.stamp) & _has_declared_size(images))
        return {name: values + added for name, values in found.items()}

    def _rounded(self, images: tf.Tensor) -> tf.Tensor:
        return resize(images, self.learner.pictures.image_size)  # it has that size: the values are rounded

    def by_name(self) -> dict[str, Any]:
        """The concrete functions by the names of their signatures."""
        images = [None, *self.learner.pictures.image_size, self.learner.pictures.channels]
        return {
            "adapt": tf.function(self.adapt, autograph=False).get_concrete_function(
                tf.TensorSpec(images, tf.float32, "support_images"), tf.TensorSpec([None], tf.int32, "support_labels")
            ),
            "predict": tf.function(self.predict, autograph=False).get_concrete_function(
                tf.TensorSpec([self.learner.state_size], tf.float32, "state"),
                tf.TensorSpec(images, tf.float32, "images"),
            ),
        }


def _differentiable(learner: TaskLearner) -> TaskLearner:
    """The same learner, with the same stamp, made of operations that LiteRT can differentiate."""
    plain = learner.model
    if not _is_cross_entropy(plain.loss, learner.way, learner.kind):
        raise UserError("on a device only cross-entropy can be learned from, and this learner has another loss")
    copy, head = differentiable_copy(plain.model), plain.head
    head = head and DifferentiableHead(copy, head.kind, head.positions, head.temperature)
    model = FunctionalModel(copy, plain.adapted, plain.rates, cross_entropy, plain.way, head)
    return TaskLearner(
        model,
        learner.pictures,
        way=learner.way,
        inner_steps=learner.inner_steps,
        query_statistics=learner.query_statistics,
        confidence=learner.confidence,
    )


def _is_cross_entropy(loss: Loss, way: int, kind: OutputKind) -> bool:
    labels, logits = tf.range(way), tf.random.stateless_normal([way, way], [0, 0])
    given = tf.nn.softmax(logits) if kind.probabilities else logits
    found = loss(tf.one_hot(labels, way) if kind.one_hot else labels, given)
    return abs(float(found) - float(cross_entropy(labels, logits))) < 1e-5


def _has_declared_size(images: tf.Tensor) -> tf.Tensor:
    """Whether pictures have the size of the signature; of larger ones LiteRT would use a part."""
    return tf.size(images) == tf.shape(images)[0] * math.prod(images.shape[1:])


def _nan_unless(condition: tf.Tensor) -> tf.Tensor:
    return tf.where(condition, 0.0, float("nan"))


def export_litert(
    learner: TaskLearner, file: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Writes one .tflite file.  `metadata.json` is in it as in a zip file, which does not disturb LiteRT.

    Args:
        learner: what adapts and predicts.
        file: must not exist.
        metadata: more to write to `metadata.json`.

    Returns:
        What `metadata.json` holds.

    Raises:
        UserError: the file is there already or cannot be written, or the learner cannot run on LiteRT.

    Example:
        ```python
        described = export_litert(learner, "letters.tflite")
        about = json.loads(zipfile.ZipFile("letters.tflite").read("metadata.json"))  # the same
        ```

        >>> _ = (tmp_path / "letters.tflite").write_bytes(b"")
        >>> export_litert(None, tmp_path / "letters.tflite")
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: '...letters.tflite' exists already: choose another output, or remove it
    """
    file = Path(file)
    check_new(file)
    module = Signatures(learner)
    functions = module.by_name()
    described = describe(learner, functions, metadata)
    content = _convert(module, functions)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as part:
            part.write_bytes(content)
            with zipfile.ZipFile(part, "a") as archive:
                archive.writestr(zipfile.ZipInfo("metadata.json"), json.dumps(described, indent=2))
    except OSError as error:
        raise UserError(f"'{file}' cannot be written: {error.strerror}; choose another output") from error
    return described


def _convert(module: Signatures, functions: Mapping[str, Any]) -> bytes:
    """The content of a .tflite file."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # the converter's loader warns that the functions cannot be differentiated
    try:
        with tempfile.TemporaryDirectory() as temporary, plain_path(Path(temporary)) as folder:
            # Nothing differentiates them again; saved without their gradients they take a seventh of the time.
            options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
            with writing(Path(temporary), tf.errors.OpError):
                tf.saved_model.save(module, folder, dict(functions), options)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(functions))
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            return converter.convert()
    finally:
        logging.set_verbosity(verbosity)
