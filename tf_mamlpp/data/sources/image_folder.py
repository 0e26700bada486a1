"""Trees of class folders, the way most people keep pictures.  Imports no TensorFlow."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tf_mamlpp.data.picture_files import checked_stat, class_folders, read_file
from tf_mamlpp.data.sources.listing import Pictures, Splits
from tf_mamlpp.data.sources.splits import FRACTIONS, SPLIT_FOLDERS, SPLITS, divide_classes
from tf_mamlpp.errors import UserError

_EXPECTED = "expected a folder of pictures for each class, or train/, val/ and test/ with such folders"

_Classes = dict[str, list[str]]  # the files of each class


def folder_splits(
    path: Path,
    split_seed: int,
    split_file: str | os.PathLike[str] | None = None,
    split_fractions: Sequence[float] = FRACTIONS,
) -> Splits:
    """Lists the pictures of a tree of class folders by split, without decoding any.

    A class is any folder, at any depth, that holds pictures itself; its name is its path below the root.
    With a `split_file`, or without train/, val/ and test/ (also: valid/, validation/), all classes are one pool.

    Args:
        path: root of the tree.
        split_seed: seed of the pool's division.
        split_file: lists of classes that divide the pool instead, see `divide_classes`.
        split_fractions: shares of the pool, see `divide_classes`.

    Returns:
        For each split, a key that changes with the files, and a function that lists the pictures.

    Raises:
        UserError: no such folder, no pictures, too few classes, or only some of the split folders.

    Example:
        >>> for name in ("ant", "bee", "cat", "dog"):
        ...     (tmp_path / name).mkdir()
        ...     (tmp_path / name / "1.png").touch()
        >>> splits = folder_splits(tmp_path, split_seed=0)
        >>> {split: open_pictures().class_names for split, (key, open_pictures) in splits.items()}
        {'train': ('ant', 'dog'), 'validation': ('bee',), 'test': ('cat',)}
    """
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; {_EXPECTED}")
    given = given_splits(path) if split_file is None else None
    if given is not None:
        return given
    classes = class_folders(path)
    if not classes:
        raise UserError(f"{path}: has no class folders with pictures; {_EXPECTED}")
    names = list(classes)
    divided = divide_classes(names, split_seed, split_file, split_fractions, source=f"{path}")
    splits = {split: {names[n]: classes[names[n]] for n in divided[split]} for split in SPLITS}
    return _listed(splits, by_fractions=split_file is None)


def given_splits(path: Path) -> Splits | None:
    """The splits that a tree's own folders train/, val/ and test/ make.

    Args:
        path: root of the tree; validation's folder may also be called valid/ or validation/.

    Returns:
        Splits as those of `folder_splits`; None if the tree has no such folders.

    Raises:
        UserError: the tree has only some of these folders, or one without pictures.

    Example:
        >>> given_splits(tmp_path) is None
        True
        >>> for name in ("train/ant", "train/bee", "val/cat", "test/dog"):
        ...     (tmp_path / name).mkdir(parents=True)
        ...     (tmp_path / name / "1.png").touch()
        >>> {split: open_pictures().class_names for split, (key, open_pictures) in given_splits(tmp_path).items()}
        {'train': ('ant', 'bee'), 'validation': ('cat',), 'test': ('dog',)}
    """
    candidates = {split: [path / name for name in names] for split, names in SPLIT_FOLDERS.items()}
    # A folder called "test" that holds only pictures is a class like any other.
    found = {split: [f for f in folders if _has_subfolders(f)] for split, folders in candidates.items()}
    if not any(found.values()):
        return None
    splits = {}
    for split, folders in found.items():
        if len(folders) != 1:
            wanted = " or ".join(f"{name}/" for name in SPLIT_FOLDERS[split])
            raise UserError(f"{path}: needs one folder {wanted} beside its other splits, or no splits at all")
        splits[split] = class_folders(folders[0])
        if not splits[split]:
            raise UserError(f"{folders[0]}: has no class folders with pictures; {_EXPECTED}")
    return _listed(splits)


def _has_subfolders(folder: Path) -> bool:
    return folder.is_dir() and any(inside.is_dir() for inside in folder.iterdir())


def _listed(splits: dict[str, _Classes], by_fractions: bool = False) -> Splits:
    return {split: (_key(classes), _opener(classes, by_fractions)) for split, classes in splits.items()}


def _key(classes: _Classes) -> str:
    """A hash that changes with the files' paths, sizes and times of change."""
    state = hashlib.sha256()
    for file in itertools.chain.from_iterable(classes.values()):
        try:
            found = checked_stat(file)
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror or error})") from error
        state.update(os.fsencode(f"{os.path.abspath(file)}\0{found.st_size}\0{found.st_mtime_ns}\0"))
    return state.hexdigest()


def _opener(classes: _Classes, by_fractions: bool) -> Callable[[], Pictures]:
    def read() -> Iterator[tuple[int, str, bytes]]:
        for row, file in enumerate(itertools.chain.from_iterable(classes.values())):
            yield row, file, read_file(file)

    return lambda: Pictures(tuple(classes), tuple(map(len, classes.values())), read, by_fractions)
