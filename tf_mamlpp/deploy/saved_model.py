"""The SavedModel that adapts and predicts.  It needs TensorFlow to run, and neither Keras nor this package."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from tf_mamlpp.data.graph_decoding import decode_encoded
from tf_mamlpp.deploy.metadata import describe
from tf_mamlpp.deploy.state_learner import StateLearner
from tf_mamlpp.deploy.task_learner import TaskLearner
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import new_folder, pattern_problem, plain_path, write_json
from tf_mamlpp.meta.task_map import task_map


class Signatures(tf.Module):
    """The functions of the SavedModel.  Each is traced once, for any number of pictures of any size.

    Args:
        learner: what adapts and predicts.

    Example:
        >>> import tf_mamlpp as mp
        >>> from tf_mamlpp.data.picture_format import PictureFormat
        >>> from tf_mamlpp.deploy.task_learner import task_learner
        >>> learner = mp.MetaLearner(mp.mlp((8, 8, 1), 3), way=3, inner_steps=1)
        >>> deployed = task_learner(learner, PictureFormat((8, 8), 1, mean=(0.5,), std=(0.5,)))
        >>> adapt_and_predict_tasks = Signatures(deployed).over_tasks()
        >>> images = tf.zeros((2, 3, 20, 30, 1))  # two tasks of three pictures, which are resized to 8x8
        >>> labels = tf.constant([[0, 1, 2], [0, 1, 2]])
        >>> adapt_and_predict_tasks(images, labels, images)["probabilities"].shape
        TensorShape([2, 3, 3])
    """

    def __init__(self, learner: TaskLearner):
        super().__init__(name="tf_mamlpp")
        self.learner = learner
        model = learner.model
        # The plain TensorFlow variables: Keras's own would need Keras to be loaded again.
        self._weights = [v.value for v in (*model.model.variables, model.rates.table)]
        floats, labels = self._picture_spec(tf.float32, "images"), tf.TensorSpec([None], tf.int32)
        state = tf.TensorSpec([None], tf.float32)
        self._adapt = tf.function(self._checked_adapt, input_signature=[floats, labels], autograph=False)
        self._predict = tf.function(self._checked_predict, input_signature=[state, floats], autograph=False)

    def _picture_spec(self, dtype: tf.DType, name: str, batch_axes: int = 1) -> tf.TensorSpec:
        """Encoded pictures are scalars, others have any height and width."""
        picture = [] if dtype == tf.string else [None, None, self.learner.pictures.channels]
        return tf.TensorSpec([None] * batch_axes + picture, dtype, name)

    # --- Pictures of any kind and size ---------------------------------------------------------------

    def _pixels(self, images: tf.Tensor) -> tf.Tensor:
        """Float32 pictures from uint8 ones or from the bytes of files."""
        return self._decode(images) if images.dtype == tf.string else tf.cast(images, tf.float32)

    def _decode(self, files: tf.Tensor) -> tf.Tensor:
        pictures = self.learner.pictures

        def decode_one(content: tf.Tensor) -> tf.Tensor:
            return pictures.resize(decode_encoded(content, pictures.channels))

        decoded = tf.TensorSpec([*pictures.image_size, pictures.channels], tf.float32)
        return tf.map_fn(decode_one, files, fn_output_signature=decoded)

    def _resize(self, images: tf.Tensor) -> tf.Tensor:
        """Pictures `[n, H, W, C]` as training saw them, `[n, height, width, C]` float32."""
        pictures = self.learner.pictures
        fits = tf.reduce_all(tf.shape(images)[1:3] == pictures.image_size)
        shape = [None, *pictures.image_size, pictures.channels]
        # A picture of the right size comes out of `resize` as it went in, rounded to whole grey values.
        return tf.cond(
            fits,
            lambda: pictures.resize(tf.ensure_shape(images, shape)),
            lambda: pictures.resize(images),
        )

    # --- Adapt and predict, with checks of their inputs ----------------------------------------------

    def _checked_adapt(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        count = tf.shape(images)[0]
        finite = tf.reduce_all(tf.math.is_finite(images))
        checks = [
            require(count > 0, "the support set is empty; its pictures are", count),
            require(
                count == tf.size(labels),
                "each support picture needs one label; labels, pictures:",
                tf.size(labels),
                count,
            ),
            require(finite, "support_images must be finite numbers, 0 to 255; their shape:", tf.shape(images)),
            require_classes(self.learner, labels, "support_labels"),
        ]
        with tf.control_dependencies(checks):
            return self.learner.adapt(self._resize(images), labels)

    def _checked_predict(self, state: tf.Tensor, images: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies(require_own_state(self.learner, state)):
            return self.learner.predictions(tf.identity(state), self._resize(images))

    # --- The signatures ------------------------------------------------------------------------------

    def by_name(self) -> dict[str, Any]:
        """The concrete functions by the names of their signatures, which docs/deploy.md describes."""
        labels = tf.TensorSpec([None], tf.int32, name="support_labels")
        state = tf.TensorSpec([None], tf.float32, name="state")
        functions: dict[str, Any] = {}

        def add(name: str, function: Any, *specs: tf.TensorSpec) -> None:
            functions[name] = tf.function(function, autograph=False).get_concrete_function(*specs)

        for suffix, dtype in (("", tf.float32), ("_uint8", tf.uint8), ("_encoded", tf.string)):
            support, query, images = (
                self._picture_spec(dtype, name) for name in ("support_images", "query_images", "images")
            )
            both = f"adapt_and_predict{suffix}" if suffix else "serving_default"
            add(both, self._adapt_and_predict_signature, support, labels, query)
            add(f"adapt{suffix}", self._adapt_signature, support, labels)
            add(f"predict{suffix}", self._predict_signature, state, images)
        functions["adapt_and_predict_tasks"] = self.over_tasks()
        return functions

    def over_tasks(self) -> Any:
        """The concrete function `adapt_and_predict_tasks`: a batch of tasks, one after the other."""
        support, query = (self._picture_spec(tf.float32, name, 2) for name in ("support_images", "query_images"))
        labels = tf.TensorSpec([None, None], tf.int32, name="support_labels")
        return tf.function(self._tasks_signature, autograph=False).get_concrete_function(support, labels, query)

    # The names of the arguments are those of the signatures' inputs.

    def _adapt_signature(self, support_images: tf.Tensor, support_labels: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"state": self._adapt(self._pixels(support_images), support_labels)}

    def _predict_signature(self, state: tf.Tensor, images: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._predict(state, self._pixels(images))

    def _adapt_and_predict_signature(
        self, support_images: tf.Tensor, support_labels: tf.Tensor, query_images: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        return self._predict_signature(self._adapt_signature(support_images, support_labels)["state"], query_images)

    def _tasks_signature(
        self, support_images: tf.Tensor, support_labels: tf.Tensor, query_images: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        tasks = (support_images, support_labels, query_images)
        counts = tf.stack([tf.shape(part)[0] for part in tasks])
        message = "support_images, support_labels and query_images need as many tasks each, at least one; they have"
        same_count = require(tf.reduce_all(counts == tf.maximum(counts[0], 1)), message, counts)
        with tf.control_dependencies([same_count]):
            tasks = tuple(map(tf.identity, tasks))
        outputs = tf.TensorSpec([None, None if self.learner.any_way else self.learner.way], tf.float32)
        signature = {"probabilities": outputs, "logits": outputs}
        if self.learner.tells_unknown:
            signature["known"] = tf.TensorSpec([None], tf.float32)
        return task_map(lambda task: self._adapt_and_predict_signature(*task), tasks, signature)


def require(condition: tf.Tensor, message: str, *values: tf.Tensor) -> tf.Operation:
    """An operation that ends a call of the exported model with a message, unless a condition holds.

    Args:
        condition: a boolean scalar.
        message: what is wrong.
        *values: written after the message.

    Example:
        >>> require(tf.constant(True), "there is nothing; the count is", tf.constant(1))
    """
    return tf.debugging.Assert(condition, [message, *values], summarize=32)


def require_classes(learner: StateLearner, labels: tf.Tensor, name: str) -> tf.Operation:
    """An operation that refuses labels of a support set that are no classes of the model's tasks.

    Args:
        learner: what adapts.
        labels: integers.
        name: of the labels.

    Example:
        >>> import tf_mamlpp as mp
        >>> from tf_mamlpp.deploy.state_learner import state_learner
        >>> learner = state_learner(mp.MetaLearner(mp.mlp((4,), 3), way=3))
        >>> require_classes(learner, tf.constant([0, 2]), "support_labels")
    """
    way = learner.way
    if not learner.any_way:
        in_range = tf.reduce_all((labels >= 0) & (labels < way))
        return require(in_range, f"{name} must be 0..{(way or 0) - 1} for this {way}-way model; they are", labels)
    found = tf.unique(tf.reshape(labels, [-1]))[0]
    numbered = tf.reduce_all(tf.sort(found) == tf.range(tf.size(found), dtype=labels.dtype))
    return require(numbered, f"{name} must be numbers of classes from 0 on, none left out; they are", labels)


def require_own_state(learner: StateLearner, state: tf.Tensor) -> list[tf.Operation]:
    """Operations that refuse a state that is not of this model.

    Args:
        learner: what predicts.
        state: `[P]` float32.

    Example:
        >>> import tf_mamlpp as mp
        >>> from tf_mamlpp.deploy.state_learner import state_learner
        >>> learner = state_learner(mp.MetaLearner(mp.mlp((4,), 3), way=3))
        >>> state = learner.adapt(tf.eye(3, 4), tf.constant([0, 1, 2]))
        >>> require_own_state(learner, state)
        [None]
    """
    stamp = learner.stamp
    if not learner.any_way:
        state = tf.ensure_shape(state, [learner.state_size])
    message = f"this state was learned by another model: its stamp is not {stamp:.0f} but"
    checks = [require(state[0] == stamp, message, state[0])]
    if learner.any_way:
        fixed = learner.size_of(0)
        length, each = tf.size(state), learner.size_of(1) - fixed
        whole = (length > fixed) & ((length - fixed) % each == 0)
        checks.append(require(whole, f"a state has {fixed} numbers and {each} for each class, not", length))
    return checks


def check_output(folder: Path) -> None:
    """Refuses a folder that TensorFlow could not load a SavedModel from.

    Args:
        folder: the output.

    Raises:
        UserError: its path would be taken for a pattern, or is not UTF-8.

    Example:
        >>> check_output(Path("models/letters [1]"))
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: output 'models/letters [1]' has '[' in its path, which TensorFlow takes for a ...
    """
    problem = pattern_problem(folder)
    if problem:
        raise UserError(f"output '{folder}' {problem}, so that it could not load the model: choose another output")


def export_saved_model(
    learner: TaskLearner, folder: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Writes a SavedModel that adapts and predicts, with `metadata.json` in it.

    Args:
        learner: what adapts and predicts.
        folder: must not exist, or be empty.
        metadata: more to write to `metadata.json`.

    Returns:
        What `metadata.json` holds.

    Raises:
        UserError: the folder is taken, cannot be written, or TensorFlow could not load the model from there.

    Example:
        >>> import tf_mamlpp as mp
        >>> from tf_mamlpp.data.picture_format import PictureFormat
        >>> from tf_mamlpp.deploy.task_learner import task_learner
        >>> learner = mp.MetaLearner(mp.mlp((8, 8, 1), 3), way=3, inner_steps=1)
        >>> deployed = task_learner(learner, PictureFormat((8, 8), 1, mean=(0.5,), std=(0.5,)))
        >>> described = export_saved_model(deployed, tmp_path / "model")
        >>> described["signatures"]["adapt"]["inputs"]["support_labels"]
        {'dtype': 'int32', 'shape': [None]}
        >>> model = tf.saved_model.load(str(tmp_path / "model")).signatures
        >>> images, labels = tf.zeros((3, 20, 30, 1)), tf.constant([0, 1, 2])
        >>> state = model["adapt"](support_images=images, support_labels=labels)["state"]
        >>> model["predict"](state=state, images=images)["probabilities"].shape
        TensorShape([3, 3])
    """
    check_output(Path(folder))
    with new_folder(folder, tf.errors.OpError) as building:
        module = Signatures(learner)
        functions = module.by_name()
        described = describe(learner, functions, metadata)
        with plain_path(building) as path:
            tf.saved_model.save(module, path, functions)
        write_json(building / "metadata.json", described)
    return described
