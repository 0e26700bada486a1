"""Teaching a deployed model from a folder of pictures, and asking it about another."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from tf_mamlpp.data.images import decode_file, resize
from tf_mamlpp.data.sources.image_folder import SUFFIXES, class_folders, walk
from tf_mamlpp.deploy.contact_sheet import thumbnail
from tf_mamlpp.deploy.deployed_model import DeployedModel, Learned
from tf_mamlpp.deploy.predictions import Predictions
from tf_mamlpp.errors import UserError

_CHUNK = 256  # pictures decoded at once


_SHEET = 150  # query pictures on the contact sheet


def read_pictures(files: Iterable[Path], model: DeployedModel) -> Iterator[tuple[Path, np.ndarray, np.ndarray]]:
    """Each picture that can be read: file, the picture as it is, and as the model takes it; others are named."""
    for file in files:
        try:
            picture = decode_file(file, model.channels)
        except UserError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        sized = resize(picture, model.image_size, model.resize_policy)
        yield file, picture, sized.numpy().astype(np.uint8)


def class_tree(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise UserError(f"'{folder}' is no folder: give one that holds a folder of pictures for each class")
    classes = class_folders(folder)
    if not classes:
        raise UserError(
            f"'{folder}' has no class folders with pictures: put each class's pictures in a folder of its own"
        )
    return classes


def _query_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"'{folder}' is no folder: give one that holds the pictures to classify")
    files = sorted(Path(top, name) for top, names in walk(folder) for name in names)
    if not files:
        raise UserError(f"'{folder}' has no pictures ({', '.join(SUFFIXES)})")
    return files


def learn_folder(model: DeployedModel, folder: Path) -> Learned:
    """Learns the class folders of `folder`; a picture that cannot be read is named and left out.

    Raises:
        UserError: no class folders, more than the model has outputs, or a class without a readable picture.
    """
    classes = class_tree(folder)
    if len(classes) > model.way:
        raise UserError(
            f"'{folder}' has {len(classes)} class folders, and the model tells {model.way} apart: leave out "
            f"{len(classes) - model.way}, or train one with --config.data.way={len(classes)}"
        )
    images, labels = [], []
    for label, (name, files) in enumerate(classes.items()):
        pictures = [sized for _, _, sized in read_pictures(files, model)]
        if not pictures:
            raise UserError(f"no picture of class '{name}' in '{folder}' can be read: replace them or remove the class")
        images += pictures
        labels += [label] * len(pictures)
    return model.learn(np.stack(images), np.array(labels, np.int32), tuple(classes))


def classify_folder(model: DeployedModel, learned: Learned, folder: Path, evaluate: bool = False) -> Predictions:
    """Classifies the pictures below `folder`; one that cannot be read is named and left out.

    Args:
        model: what learned.
        learned: the task.
        folder: of pictures, in subfolders or not.
        evaluate: whether the class folders in it say what its pictures are.

    Raises:
        UserError: no picture, or none that can be read; with `evaluate`, a class that was not learned.
    """
    files, truth_of = _query_files(folder), {}
    if evaluate:
        truth_of = {file: name for name, inside in class_tree(folder).items() for file in inside}
        unknown = sorted(set(truth_of.values()) - set(learned.class_names))
        if unknown:
            raise UserError(
                f"'{folder}' has class '{unknown[0]}', which was not learned ({', '.join(learned.class_names)})"
            )
        loose = [file for file in files if file not in truth_of]
        if loose:
            print(f"skipped: {len(loose)} pictures in no class folder, such as {loose[0]}", file=sys.stderr)
        files = sorted(truth_of)
    found: list[Path] = []
    shown: list[np.ndarray] = []
    probabilities: list[np.ndarray] = []
    waiting: list[np.ndarray] = []
    # Under `batch` statistics the pictures are one another's context, and must come at once.
    together = len(files) if model.query_statistics == "batch" else _CHUNK
    for file, picture, sized in read_pictures(files, model):
        found.append(file)
        waiting.append(sized)
        if len(shown) < _SHEET:
            shown.append(thumbnail(picture))
        if len(waiting) == together:
            probabilities.append(model.answer(learned, np.stack(waiting)))
            waiting = []
    if not found:
        raise UserError(f"none of the {len(files)} pictures in '{folder}' can be read")
    if waiting:
        probabilities.append(model.answer(learned, np.stack(waiting)))
    return Predictions(
        [file.relative_to(folder).as_posix() for file in found],
        np.concatenate(probabilities),
        learned.class_names,
        [truth_of[file] for file in found] if evaluate else None,
        shown,
        len(files) - len(found),
    )
