"""The SavedModel that learns classes: what any TensorFlow runtime needs to adapt a trained model, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import tensorflow as tf

from tf_mamlpp.data.graph_decoding import decode_encoded
from tf_mamlpp.data.images import resize
from tf_mamlpp.deploy.metadata import describe
from tf_mamlpp.deploy.task_learner import TaskLearner, task_learner
from tf_mamlpp.files import new_folder, write_json
from tf_mamlpp.meta.meta_learner import MetaLearner


class Signatures(tf.Module):
    """The functions of the SavedModel.  Each is traced once, for any number of pictures of any size.

    Args:
        learner: what learns and answers.
        image_size: height and width that the model was trained on.
        channels: 1 for grey, 3 for RGB.
        resize_policy: of `data.images.resize`, as in training.
    """

    def __init__(
        self, learner: TaskLearner, image_size: tuple[int, int], channels: int, resize_policy: str = "stretch"
    ):
        super().__init__(name="tf_mamlpp")
        self.learner, self._image_size, self._channels = learner, image_size, channels
        self._resize = partial(resize, image_size=image_size, policy=resize_policy)
        model = learner.model
        # The plain TensorFlow variables: Keras's own would need Keras to be loaded again.
        self._weights = [getattr(v, "value", v) for v in (*model.model.variables, model.rates.table)]
        floats, labels = self._spec(tf.float32, "images"), tf.TensorSpec([None], tf.int32)
        state = tf.TensorSpec([None], tf.float32)
        self._adapt = tf.function(self._adapt_pixels, input_signature=[floats, labels], autograph=False)
        self._predict = tf.function(self._predict_pixels, input_signature=[state, floats], autograph=False)

    def _spec(self, dtype: tf.DType, name: str, leading: int = 1) -> tf.TensorSpec:
        """Of pictures: encoded ones are scalars, others have any height and width."""
        picture = [] if dtype == tf.string else [None, None, self._channels]
        return tf.TensorSpec([None] * leading + picture, dtype, name)

    # --- From pictures to answers --------------------------------------------------------------------

    def _sized(self, images: tf.Tensor) -> tf.Tensor:
        """Pictures `[n, H, W, C]` as training saw them, `[n, height, width, C]` float32."""
        fits = tf.reduce_all(tf.shape(images)[1:3] == self._image_size)
        shape = [None, *self._image_size, self._channels]
        # A picture of the right size comes out of `resize` as it went in, rounded to whole grey values.
        return tf.cond(
            fits,
            lambda: self._resize(tf.ensure_shape(images, shape)),
            lambda: self._resize(images),
        )

    def _decoded(self, content: tf.Tensor) -> tf.Tensor:
        def one(item: tf.Tensor) -> tf.Tensor:
            return self._resize(decode_encoded(item, self._channels))

        signature = tf.TensorSpec([*self._image_size, self._channels], tf.float32)
        return tf.map_fn(one, content, fn_output_signature=signature)

    def _adapt_pixels(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        count, way = tf.shape(images)[0], self.learner.way
        finite = tf.reduce_all(tf.math.is_finite(images))
        in_range = tf.reduce_all((labels >= 0) & (labels < way))
        checks = [
            _require(count > 0, "the support set is empty; its pictures are", count),
            _require(
                count == tf.size(labels),
                "each support picture needs one label; labels, pictures:",
                tf.size(labels),
                count,
            ),
            _require(finite, "support_images must be finite numbers, 0 to 255; their shape:", tf.shape(images)),
            _require(in_range, f"support_labels must be 0..{way - 1} for this {way}-way model; they are", labels),
        ]
        with tf.control_dependencies(checks):
            return self.learner.learn(self._sized(images), labels)

    def _predict_pixels(self, state: tf.Tensor, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        state, stamp = tf.ensure_shape(state, [self.learner.state_size]), self.learner.stamp
        ours = _require(
            state[0] == stamp, f"this state was learned by another model: its stamp is not {stamp:.0f} but", state[0]
        )
        with tf.control_dependencies([ours]):
            return self.learner.answer(tf.identity(state), self._sized(images))

    # --- The signatures ------------------------------------------------------------------------------

    def all(self) -> dict[str, Any]:
        """The concrete functions by name; docs/deploy.md describes them."""
        labels = tf.TensorSpec([None], tf.int32, name="support_labels")
        state = tf.TensorSpec([None], tf.float32, name="state")
        found: dict[str, Any] = {}

        def add(name: str, function: Any, *specs: tf.TensorSpec) -> None:
            found[name] = tf.function(function, autograph=False).get_concrete_function(*specs)

        for suffix, dtype in (("", tf.float32), ("_uint8", tf.uint8), ("_encoded", tf.string)):
            support, query, images = (self._spec(dtype, n) for n in ("support_images", "query_images", "images"))
            add("serving_default" if not suffix else f"adapt_and_predict{suffix}", self._both, support, labels, query)
            add(f"adapt{suffix}", self._adapt_only, support, labels)
            add(f"predict{suffix}", self._predict_only, state, images)
        found["adapt_and_predict_tasks"] = self.all_tasks()
        return found

    def all_tasks(self) -> Any:
        """`adapt_and_predict_tasks`: a batch of tasks, each adapted to by itself."""
        support, query = (self._spec(tf.float32, n, 2) for n in ("support_images", "query_images"))
        labels = tf.TensorSpec([None, None], tf.int32, name="support_labels")
        return tf.function(self._tasks, autograph=False).get_concrete_function(support, labels, query)

    def _pixels(self, images: tf.Tensor) -> tf.Tensor:
        return self._decoded(images) if images.dtype == tf.string else tf.cast(images, tf.float32)

    def _adapt_only(self, support_images: tf.Tensor, support_labels: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"state": self._adapt(self._pixels(support_images), support_labels)}

    def _predict_only(self, state: tf.Tensor, images: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities, logits = self._predict(state, self._pixels(images))
        return {"probabilities": probabilities, "logits": logits}

    def _both(
        self, support_images: tf.Tensor, support_labels: tf.Tensor, query_images: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        return self._predict_only(self._adapt_only(support_images, support_labels)["state"], query_images)

    def _tasks(
        self, support_images: tf.Tensor, support_labels: tf.Tensor, query_images: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        answer = tf.TensorSpec([None, self.learner.way], tf.float32)
        tasks = (support_images, support_labels, query_images)
        counts = tf.stack([tf.shape(part)[0] for part in tasks])
        message = "support_images, support_labels and query_images need as many tasks each, at least one; they have"
        same = _require(tf.reduce_all(counts == tf.maximum(counts[0], 1)), message, counts)
        with tf.control_dependencies([same]):
            tasks = tuple(map(tf.identity, tasks))
        return tf.map_fn(
            lambda task: self._both(*task),
            tasks,
            fn_output_signature={"probabilities": answer, "logits": answer},
        )


def _require(condition: tf.Tensor, message: str, *found: tf.Tensor) -> tf.Operation:
    return tf.debugging.Assert(condition, [message, *found], summarize=32)


def export_saved_model(
    learner: MetaLearner,
    folder: str | os.PathLike[str],
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
    """Writes a SavedModel that adapts and predicts, and `metadata.json` inside it.

    Args:
        learner: trained, with float32 weights.
        folder: must not exist, or be empty.
        image_size: height and width that the model was trained on; pictures of other sizes are resized to it.
        channels: of the pictures, 1 or 3.
        mean, std: of `data.images.normalise`, as in training.
        resize_policy: of `data.images.resize`, likewise.
        inner_steps: of adaptation; None for as many as trained.
        query_statistics: see `TaskLearner`.
        metadata: more to write to `metadata.json`.

    Returns:
        What `metadata.json` holds.

    Raises:
        UserError: the folder is taken or cannot be written, or the learner cannot be exported.
    """
    deployed = task_learner(learner, mean=mean, std=std, inner_steps=inner_steps, query_statistics=query_statistics)
    module = Signatures(deployed, image_size, channels, resize_policy)
    signatures = module.all()
    described = {
        **describe(deployed, image_size, channels, resize_policy),
        "signatures": {name: _shapes(function) for name, function in signatures.items()},
        **(metadata or {}),
    }
    with new_folder(folder, tf.errors.OpError) as building:
        tf.saved_model.save(module, str(building), signatures)
        write_json(building / "metadata.json", described)
    return described


def _shapes(function: Any) -> dict[str, Any]:
    def described(specs: Mapping[str, tf.TensorSpec]) -> dict[str, Any]:
        return {name: {"dtype": s.dtype.name, "shape": s.shape.as_list()} for name, s in sorted(specs.items())}

    _, inputs = function.structured_input_signature
    arguments = dict(zip(function._arg_keywords, function.inputs, strict=False)) or inputs
    return {"inputs": described(arguments), "outputs": described(function.structured_outputs)}
