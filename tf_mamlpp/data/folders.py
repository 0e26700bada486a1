"""Trees of class folders, the way most people keep pictures."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tf_mamlpp.data.image_bank import Pictures
from tf_mamlpp.data.splits import SPLITS, divide_classes
from tf_mamlpp.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_SPLIT_FOLDERS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
_EXPECTED = "expected a folder of pictures for each class, or train/, val/ and test/ with such folders"

_Classes = dict[str, list[Path]]


def folder_splits(path: Path, split_seed: int) -> dict[str, tuple[str, Callable[[], Pictures]]]:
    """Lists the pictures of a tree of class folders by split, without decoding any.

    A class is any folder, at any depth, that holds pictures itself; its name is its path below the root.
    Without train/, val/ and test/ (also: valid/, validation/) the classes are divided 60/20/20 by
    `split_seed`.

    Args:
        path: root of the tree.
        split_seed: seed of the division.

    Returns:
        For each split, a key that changes with the files, and what lists the pictures.

    Raises:
        UserError: no such folder, no pictures, too few classes, or only some of the split folders.
    """
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; {_EXPECTED}")
    splits = _given_splits(path) or _divided(path, split_seed)
    return {split: (_identity(classes), _opener(classes)) for split, classes in splits.items()}


def class_folders(root: Path) -> _Classes:
    """The class folders below `root` and their pictures, sorted; folders without pictures are no classes."""
    classes: _Classes = {}
    for folder, subfolders, files in os.walk(root, followlinks=True):
        subfolders.sort()
        pictures = sorted(f for f in files if f.lower().endswith(SUFFIXES) and not f.startswith("."))
        name = Path(folder).relative_to(root).as_posix()
        if pictures and name != ".":
            classes[name] = [Path(folder, picture) for picture in pictures]
    return dict(sorted(classes.items()))


def _given_splits(path: Path) -> dict[str, _Classes] | None:
    """The splits by their folders; None if the tree has no such folders."""
    candidates = {split: [path / name for name in names] for split, names in _SPLIT_FOLDERS.items()}
    # A folder called "test" that holds only pictures is a class like any other.
    found = {split: [f for f in folders if _has_subfolders(f)] for split, folders in candidates.items()}
    if not any(found.values()):
        return None
    splits = {}
    for split, folders in found.items():
        if len(folders) != 1:
            wanted = " or ".join(f"{name}/" for name in _SPLIT_FOLDERS[split])
            raise UserError(f"{path}: needs one folder {wanted} beside its other splits, or no splits at all")
        splits[split] = class_folders(folders[0])
        if not splits[split]:
            raise UserError(f"{folders[0]}: has no class folders with pictures; {_EXPECTED}")
    return splits


def _has_subfolders(folder: Path) -> bool:
    return folder.is_dir() and any(inside.is_dir() for inside in folder.iterdir())


def _divided(path: Path, split_seed: int) -> dict[str, _Classes]:
    classes = class_folders(path)
    if not classes:
        raise UserError(f"{path}: has no class folders with pictures; {_EXPECTED}")
    names = list(classes)
    divided = divide_classes(names, split_seed, source=f"{path}")
    return {split: {names[n]: classes[names[n]] for n in divided[split]} for split in SPLITS}


def _identity(classes: _Classes) -> str:
    """What tells one state of the files from another: paths, sizes and times of change."""
    state = []
    for file in itertools.chain.from_iterable(classes.values()):
        try:
            stat = file.stat()
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror})") from error
        state.append((str(file.absolute()), stat.st_size, stat.st_mtime_ns))
    return repr(state)


def _opener(classes: _Classes) -> Callable[[], Pictures]:
    def read() -> Iterator[tuple[int, str, bytes]]:
        for number, files in enumerate(classes.values()):
            for file in files:
                yield number, str(file), _read(file)

    return lambda: Pictures(tuple(classes), tuple(map(len, classes.values())), read)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
