"""Trees of class folders, the way most people keep pictures and recordings.  Imports no TensorFlow."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tf_mamlpp.data.kinds import PICTURES, Kind
from tf_mamlpp.data.picture_files import class_folders, picture_state, read_file
from tf_mamlpp.data.sources.listing import Pictures, Splits, content_or_error
from tf_mamlpp.data.sources.split_folders import check_pool, split_folders
from tf_mamlpp.data.sources.splits import FRACTIONS, SPLITS, SplitFile, divide_classes
from tf_mamlpp.errors import UserError

_EXPECTED = "expected a folder of {} for each class, or train/, val/ and test/ with such folders"

_Classes = dict[str, list[str]]  # the files of each class


def folder_splits(
    path: Path,
    split_seed: int,
    split_file: str | os.PathLike[str] | None = None,
    split_fractions: Sequence[float] = FRACTIONS,
    kind: Kind = PICTURES,
) -> Splits:
    """Lists the examples of a tree of class folders by split, without decoding any.

    A class is any folder, at any depth, that holds examples itself; its name is its path below the root.
    With a `split_file`, or without folders of splits (see `split_folders`), all classes are one pool.

    Args:
        path: root of the tree.
        split_seed: seed of the pool's division.
        split_file: lists of classes that divide the pool instead, see `divide_classes`.
        split_fractions: shares of the pool, see `divide_classes`.
        kind: of the examples.

    Returns:
        For each split, a key that changes with the files, and a function that lists the examples.

    Raises:
        UserError: no such folder, no examples, too few classes, or only some of the split folders.

    Example:
        >>> for name in ("ant", "bee", "cat", "dog"):
        ...     (tmp_path / name).mkdir()
        ...     (tmp_path / name / "1.png").touch()
        >>> splits = folder_splits(tmp_path, split_seed=0)
        >>> {split: open_pictures().class_names for split, (key, open_pictures) in splits.items()}
        {'train': ('ant', 'dog'), 'validation': ('bee',), 'test': ('cat',)}
    """
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; {_EXPECTED.format(kind.examples)}")
    given = given_splits(path, kind) if split_file is None else None
    if given is not None:
        return given
    classes = _class_folders(path, kind)
    names = list(classes)
    if split_file is not None:
        return _listed(_divided_by_file(path, classes, split_file))
    check_pool(path, names)
    divided = divide_classes(names, split_seed, fractions=split_fractions, source=f"{path}")
    splits = {split: {names[n]: classes[names[n]] for n in divided[split]} for split in SPLITS}
    return _listed(splits, by_fractions=True)


def _class_folders(path: Path, kind: Kind) -> _Classes:
    classes = class_folders(path, kind)
    if not classes:
        raise UserError(f"{path}: has no class folders with {kind.examples}; {_EXPECTED.format(kind.examples)}")
    return classes


def _divided_by_file(path: Path, classes: _Classes, split_file: str | os.PathLike[str]) -> dict[str, _Classes]:
    """The classes that a file lists; their names may leave out the folder of a split, as in a run's own file."""
    names, below = list(classes), list[str]()
    with contextlib.suppress(UserError):  # with a file, a tree may have any folders
        below = [f"{folder.relative_to(path).as_posix()}/" for folder in (split_folders(path) or {}).values()]
    short = [next((name[len(prefix) :] for prefix in below if name.startswith(prefix)), name) for name in names]
    divided = divide_classes(names, 0, split_file, source=f"{path}", short_names=short)
    given = SplitFile.read(split_file)
    # A run's classes are called as it called them, so that it finds them to be the same.
    called = {s: [names[n] for n in divided[s]] if given.pictures is None else given.lists[s] for s in SPLITS}
    return {s: {name: classes[names[n]] for name, n in zip(called[s], divided[s], strict=True)} for s in SPLITS}


def given_splits(path: Path, kind: Kind = PICTURES) -> Splits | None:
    """The splits that a tree's own folders make, such as train/, val/ and test/; see `split_folders`.

    Args:
        path: root of the tree.
        kind: of the examples.

    Returns:
        Splits as those of `folder_splits`; None if the tree has no such folders.

    Raises:
        UserError: the tree has only some of these folders, or one without examples.

    Example:
        >>> given_splits(tmp_path) is None
        True
        >>> for name in ("train/ant", "train/bee", "val/cat", "test/dog"):
        ...     (tmp_path / name).mkdir(parents=True)
        ...     (tmp_path / name / "1.png").touch()
        >>> {split: open_pictures().class_names for split, (key, open_pictures) in given_splits(tmp_path).items()}
        {'train': ('ant', 'bee'), 'validation': ('cat',), 'test': ('dog',)}
    """
    folders = split_folders(path)
    if folders is None:
        return None
    return _listed({split: _class_folders(folder, kind) for split, folder in folders.items()})


def _listed(splits: dict[str, _Classes], by_fractions: bool = False) -> Splits:
    return {split: (_key(classes), _opener(classes, by_fractions)) for split, classes in splits.items()}


def _key(classes: _Classes) -> str:
    """A hash that changes with the classes' names and the files' paths and states."""
    state = hashlib.sha256(repr([(name, len(files)) for name, files in classes.items()]).encode(errors="replace"))
    for file in itertools.chain.from_iterable(classes.values()):
        state.update(os.fsencode(f"{os.path.abspath(file)}\0{picture_state(file)}\0"))
    return state.hexdigest()


def _opener(classes: _Classes, by_fractions: bool) -> Callable[[], Pictures]:
    def read() -> Iterator[tuple[int, str, bytes | UserError]]:
        for row, file in enumerate(itertools.chain.from_iterable(classes.values())):
            yield row, file, content_or_error(read_file, file)

    return lambda: Pictures(tuple(classes), tuple(map(len, classes.values())), read, by_fractions)
