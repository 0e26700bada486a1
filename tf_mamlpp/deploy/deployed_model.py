"""An exported SavedModel in use."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mamlpp.data.input_format import FORMATS, read_format
from tf_mamlpp.deploy.adapted_task import AdaptedTask
from tf_mamlpp.deploy.metadata import FORMAT
from tf_mamlpp.errors import UserError, reason
from tf_mamlpp.files import plain_path

_OTHER_MODEL = "the learned state does not belong to this model: learn the task again, with the same --model"
_AT_ONCE = 256  # pictures, so that memory does not grow with their number


class DeployedModel:
    """An exported model, loaded.

    Args:
        folder: what `tf-mamlpp export` or `export_saved_model` wrote.

    Attributes:
        way: the most classes that it tells apart; None for any number.
        trained_way: classes of the tasks that it was trained on.
        inputs: what one example is: a `PictureFormat`, or the format of another kind of data.
        query_statistics: see `TaskLearner`.
        threshold: of `known`: 95 % of known pictures reached it when it was exported; None of a model that does not
            tell whether it knows a picture.

    Raises:
        UserError: the folder holds no such model.

    Example:
        >>> import tf_mamlpp as mp
        >>> from tf_mamlpp.data.picture_format import PictureFormat
        >>> from tf_mamlpp.deploy.saved_model import export_saved_model
        >>> from tf_mamlpp.deploy.task_learner import task_learner
        >>> learner = mp.MetaLearner(mp.mlp((8, 8, 1), 3), way=3, inner_steps=1)
        >>> pictures = PictureFormat((8, 8), 1, mean=(0.5,), std=(0.5,))
        >>> _ = export_saved_model(task_learner(learner, pictures), tmp_path / "model")
        >>> model = DeployedModel(tmp_path / "model")
        >>> support_images = np.zeros((2, 8, 8, 1), np.uint8)
        >>> task = model.adapt(support_images, [0, 1], ["cat", "dog"])
        >>> model.predict(task, np.zeros((5, 8, 8, 1), np.uint8)).shape
        (5, 2)
        >>> more = model.add(task, support_images, [0, 1], ["cow", "dog"])
        >>> more.class_names, len(more.images), model.remove(more, ["cat"]).class_names
        (('cat', 'dog', 'cow'), 4, ('dog', 'cow'))
    """

    def __init__(self, folder: str | os.PathLike[str]):
        folder = Path(folder)
        try:
            about = json.loads((folder / "metadata.json").read_text())
            if isinstance(about, dict) and "signatures" in about and not about.keys() & FORMATS:
                raise UserError(f"'{folder}' takes no pictures, but what its model took: use tf.saved_model.load")
            self._read_metadata(about)
        except FileNotFoundError:
            raise UserError(f"'{folder}' holds no exported model: write one with tf-mamlpp export") from None
        except UserError:
            raise
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise UserError(f"'{folder / 'metadata.json'}' is damaged: {error!r}; export the model again") from error
        if about["format"] != FORMAT:
            raise UserError(
                f"'{folder}' has format {about['format']}, and this version reads {FORMAT}: export the model again"
            )
        try:
            with plain_path(folder) as path:
                self._model = tf.saved_model.load(path)
            # Pictures come as whole grey values.
            form = "_uint8" if self.inputs.kind.is_pictures else ""
            self._adapt, self._predict = (self._model.signatures[f"{name}{form}"] for name in ("adapt", "predict"))
            if self.threshold is not None and "known" not in self._predict.structured_outputs:
                raise ValueError("metadata.json has a threshold, and the model gives no `known`")
        except UserError:
            raise
        except Exception as error:  # damage to a graph raises nearly anything
            raise UserError(f"'{folder}' cannot be loaded: {reason(error)}; export the model again") from error

    def _read_metadata(self, about: dict[str, Any]) -> None:
        _ = about["format"]
        try:
            self.inputs = read_format(about)
        except UserError as error:
            raise ValueError(str(error)) from error
        self.way = None if about["way"] is None else int(about["way"])
        self.trained_way = int(about["trained_way"]) if self.way is None else self.way
        self.query_statistics = str(about["query_statistics"])
        if min(self.trained_way, *self.inputs.shape) < 1:
            raise ValueError("a size in it is not positive")
        confidence = about.get("confidence")  # earlier versions wrote none
        known = None if confidence is None else confidence["known"]
        self.threshold = None if known is None else float(known["threshold"])
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError("the threshold in it is not in 0..1")

    def adapt(self, images: np.ndarray, labels: np.ndarray | Sequence[int], class_names: Sequence[str]) -> AdaptedTask:
        """Adapts to a support set.

        Args:
            images: `[S, H, W, channels]` uint8, or other examples as `inputs.signature()` says.
            labels: `[S]`, 0 to `len(class_names) - 1`.
            class_names: at most `way`.

        Raises:
            UserError: too many classes, or none; a class without a picture, or two of one name.
        """
        if self.way is not None and not 1 <= len(class_names) <= self.way:
            raise UserError(f"{len(class_names)} classes for a {self.way}-way model: give it 1 to {self.way}")
        labels = np.asarray(labels, np.int32)
        check_classes(labels, class_names, self.inputs.kind.example)
        given = {f"support_{self._noun}": tf.constant(images), "support_labels": tf.constant(labels)}
        state = self._adapt(**given)["state"]
        return AdaptedTask(state.numpy(), tuple(class_names), images, labels)

    def add(
        self, task: AdaptedTask, images: np.ndarray, labels: np.ndarray | Sequence[int], class_names: Sequence[str]
    ) -> AdaptedTask:
        """Adapts to one class more, to several, or to more pictures of those that there are.

        Args:
            task: what the model has adapted to; it stays as it is.
            images, labels, class_names: as for `adapt`.  A name that the task has is that class, any other a new one.

        Returns:
            What `adapt` gives of all pictures together.

        Raises:
            UserError: as for `adapt`.
        """
        check_classes(np.asarray(labels, np.int32), class_names, self.inputs.kind.example)
        names = [*task.class_names, *(name for name in class_names if name not in task.class_names)]
        added = np.array([names.index(name) for name in class_names], np.int32)[np.asarray(labels, np.int32)]
        return self.adapt(np.concatenate([task.images, images]), np.concatenate([task.labels, added]), names)

    def remove(self, task: AdaptedTask, class_names: Sequence[str]) -> AdaptedTask:
        """Adapts anew, without some of the classes.

        Args:
            task: what the model has adapted to; it stays as it is.
            class_names: to be left out.

        Raises:
            UserError: a class that is not there, or none is left.
        """
        unknown = next((name for name in class_names if name not in task.class_names), None)
        if unknown is not None:
            raise UserError(f"class '{unknown}' is not there to remove: there are {', '.join(task.class_names)}")
        names = [name for name in task.class_names if name not in class_names]
        if not names:
            raise UserError("no class would be left: remove fewer of them")
        kept = np.array([task.class_names[label] in names for label in task.labels], bool)
        labels = [names.index(task.class_names[label]) for label in task.labels[kept]]
        return self.adapt(task.images[kept], labels, names)

    @property
    def _noun(self) -> str:
        """What the signatures call examples."""
        return "images" if self.inputs.kind.is_pictures else "inputs"

    def check_task(self, task: AdaptedTask) -> None:
        """Refuses a task of another model.

        Raises:
            UserError: it has pictures of another size, or the state of another model.
        """
        kept = self.inputs.shape if self.inputs.kind.is_pictures else self.inputs.signature().shape[1:]
        if not tf.TensorShape(kept).is_compatible_with(task.images.shape[1:]):
            raise UserError(_OTHER_MODEL)
        self.predict(task, task.images[:1])

    def predict(self, task: AdaptedTask, images: np.ndarray) -> np.ndarray:
        """Classifies pictures or other examples.

        Args:
            task: what `adapt` of the same model returned.
            images: as for `adapt`, `[Q, ...]`.

        Returns:
            Probabilities `[Q, len(task.class_names)]` float32.

        Raises:
            UserError: the task's state is of another model.
        """
        return self._outputs(task, images)[0]

    def predict_known(self, task: AdaptedTask, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Classifies examples that may be of none of the classes.

        Args:
            task: what `adapt` of the same model returned.
            images: as for `adapt`, `[Q, ...]`.

        Returns:
            Probabilities `[Q, len(task.class_names)]`, and `[Q]` in 0..1 whether an example is of any of the
            classes: the chance of it, if half of all examples are.  Below `threshold` it passes for unknown.

        Raises:
            UserError: the model does not tell, or the task's state is of another model.
        """
        check_tells_unknown(self)
        return self._outputs(task, images)

    def _outputs(self, task: AdaptedTask, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities, and `known`, which is empty where the model does not tell."""
        chunk = pictures_at_once(self.query_statistics, len(images))
        try:
            outputs = [
                self._predict(**{"state": tf.constant(task.state), self._noun: tf.constant(images[i : i + chunk])})
                for i in range(0, len(images), chunk or 1)
            ]
        except tf.errors.InvalidArgumentError as error:
            raise UserError(_OTHER_MODEL) from error
        no_pictures = np.zeros((0, len(task.class_names) if self.way is None else self.way), np.float32)
        probabilities = np.concatenate([no_pictures, *(output["probabilities"].numpy() for output in outputs)])
        known = [output["known"].numpy() for output in outputs if "known" in output]
        return probabilities[:, : len(task.class_names)], np.concatenate([np.zeros(0, np.float32), *known])


def check_tells_unknown(model: DeployedModel) -> None:
    """Refuses a model without a threshold.

    Args:
        model: deployed.

    Raises:
        UserError: it has none.

    Example:
        >>> from types import SimpleNamespace
        >>> check_tells_unknown(SimpleNamespace(threshold=None))
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: this model has no threshold for unknown pictures: export a run again with ...
    """
    if model.threshold is None:
        raise UserError(
            "this model has no threshold for unknown pictures: export a run again with tf-mamlpp export, which fits "
            "one to its validation tasks (not with --tasks=0)"
        )


def check_classes(labels: np.ndarray, class_names: Sequence[str], example: str = "picture") -> None:
    """Refuses a support set whose labels and names of classes do not go together.

    Args:
        labels: `[S]` int32.
        class_names: of the classes 0, 1, ...
        example: what an example is called.

    Raises:
        UserError: naming the class.

    Example:
        >>> check_classes(np.array([0, 0, 2]), ["cat", "dog", "cow"])
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: class 'dog' has no picture: give it one, or leave it out
    """
    names = list(class_names)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"two classes are called '{twice}': give each a name of its own")
    if labels.size and not 0 <= labels.min() <= labels.max() < len(names):
        raise UserError(f"label {labels.max() if labels.min() >= 0 else labels.min()} has none of {len(names)} names")
    empty = next((name for label, name in enumerate(names) if label not in labels), None)
    if empty is not None:
        raise UserError(f"class '{empty}' has no {example}: give it one, or leave it out")


def pictures_at_once(query_statistics: str, count: int) -> int:
    """How many of `count` query pictures to predict at once.

    Example:
        >>> pictures_at_once("support", 10_000)
        256
        >>> pictures_at_once("batch", 10_000)  # each prediction depends on all pictures
        10000
    """
    return count if query_statistics == "batch" else _AT_ONCE
