"""A task learner as one file for LiteRT (TensorFlow Lite), where it adapts and predicts with built-in operators."""

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
from tf_mamlpp.deploy.litert.layers import builtin_forms
from tf_mamlpp.deploy.litert.ops import cross_entropy
from tf_mamlpp.deploy.metadata import describe
from tf_mamlpp.deploy.task_learner import TaskLearner, task_learner
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import whole_file
from tf_mamlpp.meta.functional_model import FunctionalModel
from tf_mamlpp.meta.meta_learner import MetaLearner
from tf_mamlpp.meta.task import Loss


def with_builtin_forms(learner: TaskLearner) -> TaskLearner:
    """The same learner, same stamp, of forms that LiteRT can differentiate (`builtin_forms`).

    Raises:
        UserError: a layer has no such form, or the loss is not cross-entropy.
    """
    plain = learner.model
    if not _is_cross_entropy(plain.loss, learner.way):
        raise UserError("on a device only cross-entropy can be learned from, and this learner has another loss")
    shared = sorted(plain.shared)
    model = FunctionalModel(builtin_forms(plain.model), plain.adapted, plain.rates, cross_entropy, learner.way, shared)
    return TaskLearner(
        model,
        way=learner.way,
        mean=learner.mean,
        std=learner.std,
        inner_steps=learner.inner_steps,
        query_statistics=learner.query_statistics,
    )


def _is_cross_entropy(loss: Loss, way: int) -> bool:
    labels, logits = tf.range(way), tf.random.stateless_normal([way, way], [0, 0])
    return abs(float(loss(labels, logits)) - float(cross_entropy(labels, logits))) < 1e-5


class _Signatures(tf.Module):
    def __init__(self, learner: TaskLearner, image_size: tuple[int, int]):
        super().__init__(name="tf_mamlpp")
        self.learner, self._image_size = learner, image_size
        # The plain TensorFlow variables: saving Keras's own would save more than they hold.
        self._weights = [v.value for v in (*learner.model.model.variables, learner.model.rates.table)]

    # LiteRT has no assertions: what a SavedModel refuses gives NaN here.
    def adapt(self, support_images: tf.Tensor, support_labels: tf.Tensor) -> dict[str, tf.Tensor]:
        state = self.learner.learn(resize(support_images, self._image_size), support_labels)
        known = tf.reduce_all((support_labels >= 0) & (support_labels < self.learner.way))
        one_each = tf.shape(support_images)[0] == tf.size(support_labels)
        return {"state": state + _nan_unless(known & one_each & _fit(support_images))}

    def predict(self, state: tf.Tensor, images: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities, logits = self.learner.answer(state, resize(images, self._image_size))
        mark = _nan_unless((state[0] == self.learner.stamp) & _fit(images))
        return {"probabilities": probabilities + mark, "logits": logits + mark}


def _fit(images: tf.Tensor) -> tf.Tensor:
    """Whether pictures have the size that they are declared to have: LiteRT would use a part of larger ones."""
    return tf.size(images) == tf.shape(images)[0] * math.prod(images.shape[1:])


def _nan_unless(condition: tf.Tensor) -> tf.Tensor:
    return tf.where(condition, 0.0, float("nan"))


def convert(learner: TaskLearner, image_size: tuple[int, int], channels: int) -> bytes:
    """The content of a .tflite file with the signatures `adapt` and `predict`.

    `adapt(support_images [S, height, width, C] float32, support_labels [S] int32) -> state [P] float32` and
    `predict(state [P] float32, images [Q, height, width, C] float32) -> probabilities, logits [Q, way] float32`, with
    pixels 0..255, rounded to whole ones as in training.  S and Q are whatever the inputs are resized to.  The state is
    the SavedModel's: one learned there serves here, and the other way round.  LiteRT has no assertions: labels that are
    no classes or not one a picture, pictures of another size, and another model's state give NaN or LiteRT's own error.

    Args:
        learner: what learns and answers.
        image_size: height and width of the model's pictures; resizing others is the caller's.
        channels: of the pictures.

    Raises:
        UserError: see `with_builtin_forms`.
    """
    module = _Signatures(with_builtin_forms(learner), image_size)
    pictures = [None, *image_size, channels]
    signatures = {
        "adapt": tf.function(module.adapt, autograph=False).get_concrete_function(
            tf.TensorSpec(pictures, tf.float32, "support_images"), tf.TensorSpec([None], tf.int32, "support_labels")
        ),
        "predict": tf.function(module.predict, autograph=False).get_concrete_function(
            tf.TensorSpec([learner.state_size], tf.float32, "state"), tf.TensorSpec(pictures, tf.float32, "images")
        ),
    }
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # the converter's loader warns that the functions cannot be differentiated
    try:
        with tempfile.TemporaryDirectory() as folder:
            # Not to be differentiated again, they are saved in a seventh of the time.
            options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
            tf.saved_model.save(module, folder, signatures, options)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            return converter.convert()
    finally:
        logging.set_verbosity(verbosity)


def _shapes(learner: TaskLearner, image_size: tuple[int, int], channels: int) -> dict[str, Any]:
    """Inputs and outputs as `metadata.json` describes them."""

    def described(dtype: str, *shape: int | None) -> dict[str, Any]:
        return {"dtype": dtype, "shape": list(shape)}

    pictures = described("float32", None, *image_size, channels)
    state, answer = described("float32", learner.state_size), described("float32", None, learner.way)
    return {
        "adapt": {
            "inputs": {"support_images": pictures, "support_labels": described("int32", None)},
            "outputs": {"state": state},
        },
        "predict": {
            "inputs": {"images": pictures, "state": state},
            "outputs": {"logits": answer, "probabilities": answer},
        },
    }


def export_litert(
    learner: MetaLearner,
    output: str | os.PathLike[str],
    *,
    image_size: tuple[int, int],
    channels: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    resize_policy: str = "stretch",
    inner_steps: int | None = None,
    query_statistics: str = "support",
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes one .tflite file; `metadata.json` is in it as in a zip file, which does not disturb LiteRT.

    Args:
        learner: trained, with float32 weights.
        output: the file; must not exist.
        image_size, channels, mean, std, resize_policy: of the pictures; see `export.export_saved_model`.
        inner_steps, query_statistics: see `TaskLearner`.
        metadata: more to write to `metadata.json`.

    Returns:
        What `metadata.json` holds.

    Raises:
        UserError: the file is there already or cannot be written, or the learner cannot be exported.
    """
    output = Path(output)
    if output.exists():
        raise UserError(f"'{output}' exists already: choose another output, or remove it")
    deployed = task_learner(learner, mean=mean, std=std, inner_steps=inner_steps, query_statistics=query_statistics)
    described = {
        **describe(deployed, image_size, channels, resize_policy),
        "signatures": _shapes(deployed, image_size, channels),
        **(metadata or {}),
    }
    content = convert(deployed, image_size, channels)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(output) as part:
            part.write_bytes(content)
            with zipfile.ZipFile(part, "a") as archive:
                archive.writestr(zipfile.ZipInfo("metadata.json"), json.dumps(described, indent=2))
    except OSError as error:
        raise UserError(f"'{output}' cannot be written: {error.strerror}; choose another output") from error
    return described
