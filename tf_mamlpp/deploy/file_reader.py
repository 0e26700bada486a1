"""Pictures and recordings in folders, for `tf-mamlpp adapt`: class folders to learn, and folders to classify."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tf_mamlpp.data.bank import Bank
from tf_mamlpp.data.image_bank import ImageBank
from tf_mamlpp.data.images import decode_file
from tf_mamlpp.data.input_format import InputFormat
from tf_mamlpp.data.kinds import PICTURES, Kind
from tf_mamlpp.data.picture_files import class_folders, read_file, walk
from tf_mamlpp.data.picture_format import PictureFormat
from tf_mamlpp.data.sound.sound_bank import SCALE, SoundBank
from tf_mamlpp.data.sound.sound_format import SoundFormat
from tf_mamlpp.data.sound.sound_reader import SoundReader
from tf_mamlpp.deploy.contact_sheet import thumbnail
from tf_mamlpp.deploy.deployed_model import DeployedModel
from tf_mamlpp.deploy.predictions import SHEET, TABLE
from tf_mamlpp.deploy.queries import Queries
from tf_mamlpp.errors import UserError


class Read(NamedTuple):
    """A file that was read.

    Attributes:
        file: its path.
        example: as the deployed model takes it.
        shown: a small picture of it, uint8 `[H, W, channels]`.

    Example:
        >>> Read(Path("a.png"), np.zeros((8, 8, 1), np.uint8), np.zeros((20, 30, 1), np.uint8)).file.name
        'a.png'
    """

    file: Path
    example: np.ndarray
    shown: np.ndarray


def read_files(files: Iterable[Path], model: DeployedModel) -> Iterator[Read]:
    """Reads pictures or recordings for a model.  One that cannot be read is named on stderr and left out.

    Args:
        files: of the model's kind of examples.
        model: the deployed model, which says what size and channels, or what rate, it needs.

    Example:
        >>> from types import SimpleNamespace
        >>> from PIL import Image
        >>> Image.new("L", (30, 20)).save(tmp_path / "a.png")
        >>> from tf_mamlpp.data.picture_format import PictureFormat
        >>> model = SimpleNamespace(inputs=PictureFormat((8, 8), channels=1, mean=(0.0,), std=(1.0,)))
        >>> [found] = read_files([tmp_path / "a.png"], model)
        >>> found.example.shape, found.shown.shape
        ((8, 8, 1), (20, 30, 1))
    """
    read = _reading(model.inputs)
    for file in files:
        try:
            yield Read(file, *read(file))
        except UserError as error:
            print(f"skipped: {error}", file=sys.stderr)


def _reading(form: InputFormat) -> Callable[[Path], tuple[np.ndarray, np.ndarray]]:
    """What makes of a file an example as the deployed model takes it, and a picture of it."""
    if isinstance(form, SoundFormat):
        return partial(_recording, SoundReader(form))
    assert isinstance(form, PictureFormat)
    return partial(_picture, form)


def _picture(form: PictureFormat, file: Path) -> tuple[np.ndarray, np.ndarray]:
    picture = decode_file(file, form.channels)
    return form.resize(picture).numpy().astype(np.uint8), thumbnail(picture)


def _recording(reader: SoundReader, file: Path) -> tuple[np.ndarray, np.ndarray]:
    waveform = reader.read(read_file(str(file)), str(file)) / SCALE
    return waveform, reader.sound.pictures(waveform[np.newaxis])[0]


def files_by_class(folder: Path, kind: Kind = PICTURES, *, tell: bool = True) -> dict[str, list[Path]]:
    """The files of examples in the class folders of `folder`, by the classes' names.

    Contact sheets of earlier predictions are left out.

    Args:
        folder: that holds the class folders.
        kind: of the examples.
        tell: whether the contact sheets are named on stderr.

    Raises:
        UserError: no such folder, or no examples in class folders.

    Example:
        >>> (tmp_path / "cat").mkdir()
        >>> _ = (tmp_path / "cat" / "0.png").write_bytes(b"")
        >>> {name: [file.name for file in files] for name, files in files_by_class(tmp_path).items()}
        {'cat': ['0.png']}
    """
    if not folder.is_dir():
        raise UserError(f"'{folder}' is no folder: give one that holds a folder of {kind.examples} for each class")
    found = {name: _without_sheets(map(Path, files), tell) for name, files in class_folders(folder, kind).items()}
    classes = {name: files for name, files in found.items() if files}
    if not classes:
        raise UserError(
            f"'{folder}' has no class folders with {kind.examples}: put each class's {kind.examples} in a folder of "
            "its own"
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
    """The examples in the class folders of `folder`, their labels and the classes' names, as `adapt` takes them.

    Raises:
        UserError: see `folders.adapt_to_folder`.

    Example:
        >>> from types import SimpleNamespace
        >>> from tf_mamlpp.data.sound.sound_format import SoundFormat
        >>> model = SimpleNamespace(inputs=SoundFormat(), way=5)
        >>> read_support(model, tmp_path)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: '...' has no class folders with recordings: put each class's recordings in a ...
    """
    kind = model.inputs.kind
    classes = files_by_class(folder, kind)
    if model.way is not None and len(classes) > model.way:
        raise UserError(
            f"'{folder}' has {len(classes)} class folders, and the model tells {model.way} apart: leave out "
            f"{len(classes) - model.way}, or train one for any number with --config.learner.head=prototypes"
        )
    examples, labels = list[np.ndarray](), list[int]()
    for label, (name, files) in enumerate(classes.items()):
        of_class = [found.example for found in read_files(files, model)]
        if not of_class:
            raise UserError(
                f"no {kind.example} of class '{name}' in '{folder}' can be read: replace them or remove the class"
            )
        examples += of_class
        labels += [label] * len(of_class)
    return np.stack(examples), np.array(labels, np.int32), tuple(classes)


def read_pool(model: DeployedModel, folder: Path) -> Bank:
    """All examples in the class folders of `folder` as one bank.

    Raises:
        UserError: no class folders, or no example that can be read.

    Example:
        >>> from types import SimpleNamespace
        >>> from tf_mamlpp.data.sound.sound_format import SoundFormat
        >>> model = SimpleNamespace(inputs=SoundFormat(), way=5)
        >>> read_pool(model, tmp_path)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: '...' has no class folders with recordings: put each class's recordings in a ...
    """
    kind, form = model.inputs.kind, model.inputs
    examples, offsets = list[np.ndarray](), [0]
    classes = files_by_class(folder, kind)
    for files in classes.values():
        examples += [found.example for found in read_files(files, model)]
        offsets.append(len(examples))
    if not examples:
        raise UserError(f"no {kind.example} in '{folder}' can be read")
    about = np.array(offsets), tuple(classes), f"{folder} pool"
    if isinstance(form, SoundFormat):
        return SoundBank((np.stack(examples) * SCALE).astype(np.int16), *about, sound=form)
    return ImageBank(np.stack(examples), *about)


def read_queries(
    model: DeployedModel, folder: Path, known: Sequence[str] | None = None, classes: Sequence[str] | None = None
) -> Queries:
    """The examples below `folder`, to be read one by one.

    Args:
        model: the deployed model.
        folder: of examples, in subfolders or not.
        known: the classes that may be; the class folders are then the true classes of the examples. None for examples
            whose classes are not known.
        classes: of these, the class folders to take; None for all.

    Raises:
        UserError: no examples, or a class that is not known.

    Example:
        >>> from types import SimpleNamespace
        >>> from tf_mamlpp.data.sound.sound_format import SoundFormat
        >>> model = SimpleNamespace(inputs=SoundFormat(), way=5)
        >>> read_queries(model, tmp_path)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: '...' has no recordings (.wav...)
    """
    kind = model.inputs.kind
    files = _query_files(folder, kind)
    truth_of: dict[Path, str] = {}
    if known is not None:
        truth_of = _true_classes(folder, files, known, classes, kind)
        files = sorted(truth_of)

    def read() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        for file, example, shown in read_files(files, model):
            yield called(file), example, shown

    def called(file: Path) -> str:
        return file.relative_to(folder).as_posix()

    truths = None if known is None else {called(file): name for file, name in truth_of.items()}
    return Queries([called(file) for file in files], read, truths)


def _query_files(folder: Path, kind: Kind) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"'{folder}' is no folder: give one that holds the {kind.examples} to classify")
    files = _without_sheets(sorted(Path(top, name) for top, names in walk(folder, kind) for name in names))
    if not files:
        raise UserError(f"'{folder}' has no {kind.examples} ({', '.join(kind.suffixes)})")
    return files


def _true_classes(
    folder: Path, files: list[Path], class_names: Sequence[str], classes: Sequence[str] | None, kind: Kind
) -> dict[Path, str]:
    """The class folder that each example is in; examples in none are named and left out."""
    found = files_by_class(folder, kind, tell=False).items()
    truth_of = {file: name for name, inside in found for file in inside if classes is None or name in classes}
    unlearned = sorted(set(truth_of.values()) - set(class_names))
    if unlearned:
        raise UserError(f"'{folder}' has class '{unlearned[0]}', which was not learned ({', '.join(class_names)})")
    loose = [file for file in files if file not in truth_of] if classes is None else []
    if loose:
        print(f"skipped: {len(loose)} {kind.examples} in no class folder, such as {loose[0]}", file=sys.stderr)
    return truth_of
