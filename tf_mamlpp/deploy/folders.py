"""A deployed model adapted to a folder or a file of examples, and its predictions for another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tf_mamlpp.deploy.adapted_task import AdaptedTask
from tf_mamlpp.deploy.deployed_model import DeployedModel, check_tells_unknown, pictures_at_once
from tf_mamlpp.deploy.predictions import UNKNOWN, Predictions
from tf_mamlpp.deploy.readers import reader_of
from tf_mamlpp.errors import UserError

_MOST_SHOWN = 150  # query pictures on the contact sheet


def adapt_to_folder(model: DeployedModel, folder: Path) -> AdaptedTask:
    """Adapts a model to the class folders of `folder`, or to labelled arrays.

    A picture that cannot be read is named and left out.

    Raises:
        UserError: no class folders, more than the model has outputs, or a class without a readable picture.

    Example:
        ```python
        model = DeployedModel("models/omniglot/1")
        task = adapt_to_folder(model, Path("my/classes"))
        predictions = predict_folder(model, task, Path("my/pictures"))
        ```

        >>> from types import SimpleNamespace
        >>> from tf_mamlpp.data.picture_format import PictureFormat
        >>> model = SimpleNamespace(inputs=PictureFormat((8, 8), 1, mean=(0.0,), std=(1.0,)))
        >>> adapt_to_folder(model, tmp_path)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: '...' has no class folders with pictures: put each class's pictures in a folder ...
    """
    examples, labels, names = reader_of(model).read_support(model, folder)
    return model.adapt(examples, labels, names)


def learn(
    model: DeployedModel, before: AdaptedTask | None, folder: str | Path | None, remove: Sequence[str] = ()
) -> AdaptedTask:
    """Adapts a model to a folder, or goes on from what it has adapted to before.

    Args:
        model: the deployed model.
        before: None to begin.
        folder: class folders, or labelled arrays: new classes, or more examples of classes that `before` has; None for
            no more.
        remove: classes of `before` to leave out.

    Returns:
        The new task, or `before` itself where nothing changes.

    Raises:
        UserError: as `DeployedModel.add`, `remove` and `adapt_to_folder`; or `before` is of another model.

    Example:
        ```python
        task = learn(model, AdaptedTask.load("task.npz"), "my/new_classes", remove=["dog"])
        ```

        >>> from types import SimpleNamespace
        >>> from tf_mamlpp.data.picture_format import PictureFormat
        >>> model = SimpleNamespace(inputs=PictureFormat((8, 8), 1, mean=(0.0,), std=(1.0,)))
        >>> learn(model, None, tmp_path)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: '...' has no class folders with pictures: put each class's pictures in a folder ...
    """
    if before is None:
        return adapt_to_folder(model, Path(str(folder)))
    task = before
    if folder or remove:
        model.check_task(before)
    if remove:
        task = model.remove(task, remove)
    return model.add(task, *reader_of(model).read_support(model, Path(folder))) if folder else task


def predict_folder(
    model: DeployedModel,
    task: AdaptedTask,
    folder: Path,
    evaluate: bool = False,
    reject: bool = False,
    classes: Sequence[str] | None = None,
) -> Predictions:
    """Classifies the pictures below a folder, or the arrays of a file.  One that cannot be read is named and left out.

    Args:
        model: the deployed model.
        task: what it has adapted to.
        folder: of pictures, in subfolders or not; of a model of arrays, their file or folder.
        evaluate: whether the true classes are given: by class folders, or by labels.
        reject: whether examples that are probably of no class get the label `unknown`.  The class `unknown` is then the
            truth for examples of no class.
        classes: with `evaluate`, the classes to take; None for all.

    Raises:
        UserError: no example, or none that can be read; with `evaluate`, a class that the task does not have; with
            `reject`, a model without a threshold, or a class called `unknown`.

    Example:
        See `adapt_to_folder`.

        >>> from types import SimpleNamespace
        >>> from tf_mamlpp.data.picture_format import PictureFormat
        >>> model = SimpleNamespace(inputs=PictureFormat((8, 8), 1, mean=(0.0,), std=(1.0,)))
        >>> task = AdaptedTask(np.zeros(1), ("cat",), np.zeros((0, 8, 8, 1)), np.zeros(0))
        >>> predict_folder(model, task, tmp_path)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: '...' has no pictures (.png...)
    """
    if reject:
        check_tells_unknown(model)
        if UNKNOWN in task.class_names:
            called = (
                f"a class is called '{UNKNOWN}', the label of --reject for {model.inputs.kind.examples} of no class"
            )
            raise UserError(f"{called}: rename it")
    names = (*task.class_names, UNKNOWN) if reject else task.class_names
    queries = reader_of(model).read_queries(model, folder, names if evaluate else None, classes)
    read: list[str] = []
    shown: list[np.ndarray] = []
    probabilities: list[np.ndarray] = []
    known: list[np.ndarray] = []
    chunk: list[np.ndarray] = []

    def predict() -> None:
        if reject:
            of_chunk, known_of_chunk = model.predict_known(task, np.stack(chunk))
            known.append(known_of_chunk)
        else:
            of_chunk = model.predict(task, np.stack(chunk))
        probabilities.append(of_chunk)
        chunk.clear()

    chunk_size = pictures_at_once(model.query_statistics, len(queries.names))
    for name, example, picture in queries.read():
        read.append(name)
        chunk.append(example)
        if picture is not None and len(shown) < _MOST_SHOWN:
            shown.append(picture)
        if len(chunk) == chunk_size:
            predict()
    if not read:
        raise UserError(f"none of the {len(queries.names)} {model.inputs.kind.examples} in '{folder}' can be read")
    if chunk:
        predict()
    return Predictions(
        files=read,
        probabilities=np.concatenate(probabilities),
        class_names=task.class_names,
        truths=None if queries.truths is None else [queries.truths[name] for name in read],
        shown=shown,
        skipped=len(queries.names) - len(read),
        known=np.concatenate(known) if reject else None,
        threshold=model.threshold if reject else None,
        inputs=model.inputs,
    )
