"""Pictures in folders, for `bin/adapt.py`: class folders to learn, and folders to classify."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tf_mamlpp.data.image_bank import ImageBank
from tf_mamlpp.data.images import decode_file
from tf_mamlpp.data.picture_files import SUFFIXES, class_folders, walk
from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.deploy.contact_sheet import thumbnail
from tf_mamlpp.deploy.deployed_model import DeployedModel
from tf_mamlpp.deploy.predictions import SHEET, TABLE
from tf_mamlpp.deploy.queries import Queries
from tf_mamlpp.errors import UserError


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
        >>> from tf_mamlpp.data.picture_format import PictureFormat
        >>> model = SimpleNamespace(inputs=PictureFormat((8, 8), channels=1, mean=(0.0,), std=(1.0,)))
        >>> [(_, picture, sized)] = read_pictures([tmp_path / "a.png"], model)
        >>> picture.shape, sized.shape
        ((20, 30, 1), (8, 8, 1))
    """
    form = model.inputs
    assert isinstance(form, PictureFormat)
    for file in files:
        try:
            picture = decode_file(file, form.channels)
        except UserError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        sized = form.resize(picture)
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


def read_support(model: DeployedModel, folder: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The pictures in the class folders of `folder`, their labels and the classes' names, as `adapt` takes them.

    Raises:
        UserError: see `folders.adapt_to_folder`.

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


def read_pool(model: DeployedModel, folder: Path) -> ImageBank:
    """All pictures in the class folders of `folder` as one bank.

    Raises:
        UserError: no class folders, or no picture that can be read.

    Example:
        >>> read_pool(None, tmp_path)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: '...' has no class folders with pictures: put each class's pictures in a folder ...
    """
    names: list[str] = []
    images: list[np.ndarray] = []
    offsets = [0]
    for name, files in files_by_class(folder).items():
        images += [sized for _, _, sized in read_pictures(files, model)]
        names.append(name)
        offsets.append(len(images))
    if not images:
        raise UserError(f"no picture in '{folder}' can be read")
    return ImageBank(np.stack(images), np.array(offsets), tuple(names), f"{folder} pool")


def read_queries(
    model: DeployedModel, folder: Path, known: Sequence[str] | None = None, classes: Sequence[str] | None = None
) -> Queries:
    """The pictures below `folder`, to be read one by one.

    Args:
        model: the deployed model.
        folder: of pictures, in subfolders or not.
        known: the classes that may be; the class folders are then the true classes of the pictures. None for pictures
            whose classes are not known.
        classes: of these, the class folders to take; None for all.

    Raises:
        UserError: no pictures, or a class that is not known.

    Example:
        >>> read_queries(None, tmp_path)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: '...' has no pictures (.png...)
    """
    files = _query_files(folder)
    truth_of: dict[Path, str] = {}
    if known is not None:
        truth_of = _true_classes(folder, files, known, classes)
        files = sorted(truth_of)

    def read() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        for file, picture, sized in read_pictures(files, model):
            yield called(file), sized, thumbnail(picture)

    def called(file: Path) -> str:
        return file.relative_to(folder).as_posix()

    truths = None if known is None else {called(file): name for file, name in truth_of.items()}
    return Queries([called(file) for file in files], read, truths)


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
