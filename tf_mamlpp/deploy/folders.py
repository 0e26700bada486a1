"""A deployed model adapted to a folder of pictures, and its predictions for another folder."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tf_mamlpp.data.images import decode_file, resize
from tf_mamlpp.data.picture_files import SUFFIXES, class_folders, walk
from tf_mamlpp.deploy.adapted_task import AdaptedTask
from tf_mamlpp.deploy.contact_sheet import thumbnail
from tf_mamlpp.deploy.deployed_model import DeployedModel, check_tells_unknown, pictures_at_once
from tf_mamlpp.deploy.predictions import SHEET, TABLE, UNKNOWN, Predictions
from tf_mamlpp.errors import UserError

_MOST_SHOWN = 150  # query pictures on the contact sheet


def read_pictures(files: Iterable[Path], model: DeployedModel) -> Iterator[tuple[Path, np.ndarray, np.ndarray]]:
    """Reads pictures for a model.  One that cannot be read is named on stderr and left out.

    Args:
        files: the pictures' files.
        model: the deployed model, which says what size and channels it needs.

    Yields:
        For each picture its file, the picture in its own size, and the picture in the model's size; both uint8
        `[H, W, channels]`.

    Example:
        >>> from types import SimpleNamespace
        >>> from PIL import Image
        >>> Image.new("L", (30, 20)).save(tmp_path / "a.png")
        >>> model = SimpleNamespace(channels=1, image_size=(8, 8), resize_policy="stretch")
        >>> [(_, picture, sized)] = read_pictures([tmp_path / "a.png"], model)
        >>> picture.shape, sized.shape
        ((20, 30, 1), (8, 8, 1))
    """
    for file in files:
        try:
            picture = decode_file(file, model.channels)
        except UserError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        sized = resize(picture, model.image_size, model.resize_policy)
        yield file, picture, sized.numpy().astype(np.uint8)


def files_by_class(folder: Path, *, tell: bool = True) -> dict[str, list[Path]]:
    """The picture files in the class folders of `folder`, by the classes' names.

    Contact sheets of earlier predictions are left out.

    Args:
        folder: that holds the class folders.
        tell: whether the contact sheets are named on stderr.

    Raises:
        UserError: no such folder, or no pictures in class folders.

    Example:
        >>> (tmp_path / "cat").mkdir()
        >>> _ = (tmp_path / "cat" / "0.png").write_bytes(b"")
        >>> {name: [file.name for file in files] for name, files in files_by_class(tmp_path).items()}
        {'cat': ['0.png']}
    """
    if not folder.is_dir():
        raise UserError(f"'{folder}' is no folder: give one that holds a folder of pictures for each class")
    found = {name: _without_sheets(map(Path, files), tell) for name, files in class_folders(folder).items()}
    classes = {name: files for name, files in found.items() if files}
    if not classes:
        raise UserError(
            f"'{folder}' has no class folders with pictures: put each class's pictures in a folder of its own"
        )
    return classes


def _without_sheets(files: Iterable[Path], tell: bool = True) -> list[Path]:
    """The files without the contact sheets of earlier predictions."""
    kept = []
    for file in files:
        if file.name != SHEET or not (file.parent / TABLE).exists():
            kept.append(file)
        elif tell:
            print(f"skipped: {file}: the contact sheet of the {TABLE} beside it", file=sys.stderr)
    return kept


def adapt_to_folder(model: DeployedModel, folder: Path) -> AdaptedTask:
    """Adapts a model to the class folders of `folder`.  A picture that cannot be read is named and left out.

    Raises:
        UserError: no class folders, more than the model has outputs, or a class without a readable picture.

    Example:
        ```python
        model = DeployedModel("models/omniglot/1")
        task = adapt_to_folder(model, Path("my/classes"))
        predictions = predict_folder(model, task, Path("my/pictures"))
        ```

        >>> adapt_to_folder(None, tmp_path)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: '...' has no class folders with pictures: put each class's pictures in a folder ...
    """
    images, labels, names = read_support(model, folder)
    return model.adapt(images, labels, names)


def learn(
    model: DeployedModel, before: AdaptedTask | None, folder: str | Path | None, remove: Sequence[str] = ()
) -> AdaptedTask:
    """Adapts a model to a folder, or goes on from what it has adapted to before.

    Args:
        model: the deployed model.
        before: None to begin.
        folder: class folders: new classes, or more pictures of classes that `before` has; None for no more.
        remove: classes of `before` to leave out.

    Returns:
        The new task, or `before` itself where nothing changes.

    Raises:
        UserError: as `DeployedModel.add`, `remove` and `adapt_to_folder`; or `before` is of another model.

    Example:
        ```python
        task = learn(model, AdaptedTask.load("task.npz"), "my/new_classes", remove=["dog"])
        ```

        >>> learn(None, None, tmp_path)
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
    return model.add(task, *read_support(model, Path(folder))) if folder else task


def read_support(model: DeployedModel, folder: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The pictures in the class folders of `folder`, their labels and the classes' names, as `adapt` takes them.

    Raises:
        UserError: see `adapt_to_folder`.

    Example:
        >>> read_support(None, tmp_path)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: '...' has no class folders with pictures: put each class's pictures in a folder ...
    """
    classes = files_by_class(folder)
    if model.way is not None and len(classes) > model.way:
        raise UserError(
            f"'{folder}' has {len(classes)} class folders, and the model tells {model.way} apart: leave out "
            f"{len(classes) - model.way}, or train one for any number with --config.learner.head=prototypes"
        )
    images, labels = [], []
    for label, (name, files) in enumerate(classes.items()):
        pictures = [sized for _, _, sized in read_pictures(files, model)]
        if not pictures:
            raise UserError(f"no picture of class '{name}' in '{folder}' can be read: replace them or remove the class")
        images += pictures
        labels += [label] * len(pictures)
    return np.stack(images), np.array(labels, np.int32), tuple(classes)


def predict_folder(
    model: DeployedModel,
    task: AdaptedTask,
    folder: Path,
    evaluate: bool = False,
    reject: bool = False,
    classes: Sequence[str] | None = None,
) -> Predictions:
    """Classifies the pictures below `folder`.  One that cannot be read is named and left out.

    Args:
        model: the deployed model.
        task: what it has adapted to.
        folder: of pictures, in subfolders or not.
        evaluate: whether the class folders in it are the true classes of its pictures.
        reject: whether pictures that are probably of no class get the label `unknown`.  The class folder `unknown` is
            then the truth for pictures of no class.
        classes: with `evaluate`, the class folders to take; None for all.

    Raises:
        UserError: no picture, or none that can be read; with `evaluate`, a class that the task does not have; with
            `reject`, a model without a threshold, or a class called `unknown`.

    Example:
        See `adapt_to_folder`.

        >>> task = AdaptedTask(np.zeros(1), ("cat",), np.zeros((0, 8, 8, 1)), np.zeros(0))
        >>> predict_folder(None, task, tmp_path)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: '...' has no pictures (.png...)
    """
    truth_of: dict[Path, str] = {}
    if reject:
        check_tells_unknown(model)
        if UNKNOWN in task.class_names:
            raise UserError(f"a class is called '{UNKNOWN}', the label of --reject for pictures of no class: rename it")
    files = _query_files(folder)
    if evaluate:
        names = (*task.class_names, UNKNOWN) if reject else task.class_names
        truth_of = _true_classes(folder, files, names, classes)
        files = sorted(truth_of)
    read: list[Path] = []
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

    chunk_size = pictures_at_once(model.query_statistics, len(files))
    for file, picture, sized in read_pictures(files, model):
        read.append(file)
        chunk.append(sized)
        if len(shown) < _MOST_SHOWN:
            shown.append(thumbnail(picture))
        if len(chunk) == chunk_size:
            predict()
    if not read:
        raise UserError(f"none of the {len(files)} pictures in '{folder}' can be read")
    if chunk:
        predict()
    return Predictions(
        files=[file.relative_to(folder).as_posix() for file in read],
        probabilities=np.concatenate(probabilities),
        class_names=task.class_names,
        truths=[truth_of[file] for file in read] if evaluate else None,
        shown=shown,
        skipped=len(files) - len(read),
        known=np.concatenate(known) if reject else None,
        threshold=model.threshold if reject else None,
    )


def _query_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"'{folder}' is no folder: give one that holds the pictures to classify")
    files = _without_sheets(sorted(Path(top, name) for top, names in walk(folder) for name in names))
    if not files:
        raise UserError(f"'{folder}' has no pictures ({', '.join(SUFFIXES)})")
    return files


def _true_classes(
    folder: Path, files: list[Path], class_names: Sequence[str], classes: Sequence[str] | None
) -> dict[Path, str]:
    """The class folder that each picture is in; pictures in none are named and left out."""
    found = files_by_class(folder, tell=False).items()
    truth_of = {file: name for name, inside in found for file in inside if classes is None or name in classes}
    unlearned = sorted(set(truth_of.values()) - set(class_names))
    if unlearned:
        raise UserError(f"'{folder}' has class '{unlearned[0]}', which was not learned ({', '.join(class_names)})")
    loose = [file for file in files if file not in truth_of] if classes is None else []
    if loose:
        print(f"skipped: {len(loose)} pictures in no class folder, such as {loose[0]}", file=sys.stderr)
    return truth_of
