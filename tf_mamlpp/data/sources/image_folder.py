"""Trees of class folders, the way most people keep pictures."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tf_mamlpp.data.images import checked_stat
from tf_mamlpp.data.sources.listing import Pictures
from tf_mamlpp.data.sources.splits import FRACTIONS, SPLITS, divide_classes
from tf_mamlpp.errors import UserError

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"),
    *(".avif", ".heic", ".jp2", ".tga", ".ico", ".pcx"),  # where Pillow cannot read one, it is named
)


SPLIT_FOLDERS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}


_EXPECTED = "expected a folder of pictures for each class, or train/, val/ and test/ with such folders"


_MOST_PATHS = 1000  # to one folder


_Place = tuple[int, int]  # device and inode


_Classes = dict[str, list[str]]  # the files of each class; strings: many paths cost less so


_Splits = dict[str, tuple[str, Callable[[], Pictures]]]


def folder_splits(
    path: Path,
    split_seed: int,
    split_file: str | os.PathLike[str] | None = None,
    split_fractions: Sequence[float] = FRACTIONS,
) -> _Splits:
    """Lists the pictures of a tree of class folders by split, without decoding any.

    A class is any folder, at any depth, that holds pictures itself; its name is its path below the root.
    With a `split_file`, or without train/, val/ and test/ (also: valid/, validation/), all classes are one pool.

    Args:
        path: root of the tree.
        split_seed: seed of the pool's division.
        split_file: lists of classes that divide the pool instead, see `divide_classes`.
        split_fractions: shares of the pool, see `divide_classes`.

    Returns:
        For each split, a key that changes with the files, and what lists the pictures.

    Raises:
        UserError: no such folder, no pictures, too few classes, or only some of the split folders.
    """
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; {_EXPECTED}")
    given = given_splits(path) if split_file is None else None
    if given is not None:
        return given
    classes = _scan(path)
    if not classes:
        raise UserError(f"{path}: has no class folders with pictures; {_EXPECTED}")
    names = list(classes)
    divided = divide_classes(names, split_seed, split_file, split_fractions, source=f"{path}")
    splits = {split: {names[n]: classes[names[n]] for n in divided[split]} for split in SPLITS}
    return _listed(splits, by_fractions=split_file is None)


def class_folders(root: Path) -> dict[str, list[Path]]:
    """The class folders below `root` and their pictures, sorted; folders without pictures are no classes."""
    return {name: [Path(file) for file in files] for name, files in _scan(root).items()}


def _scan(root: Path) -> _Classes:
    classes: _Classes = {}
    for folder, files in walk(root):
        if files and folder != str(root):
            name = os.path.relpath(folder, root).replace(os.sep, "/")
            classes[name] = [os.path.join(folder, file) for file in files]
    return dict(sorted(classes.items()))


def walk(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Every folder of a tree with the names of the pictures that lie in it, sorted.

    Links are followed, but for those that lead back up; hidden folders and what macOS adds to archives are left out.

    Raises:
        UserError: a folder that cannot be read, or one that so many links lead to that a walk would not end.
    """
    # Not `os.walk`: it recurses, passes over what it may not read, and goes around in links that lead sideways.
    waiting = [(str(root), _places_above(str(root)))]
    paths = Counter[_Place]()
    while waiting:
        folder, above = waiting.pop()
        try:
            files, subfolders = _content(folder)
            yield folder, files
            for inside, is_link in reversed(subfolders):
                place = _place(inside)
                if place in above:
                    continue
                paths[place] += 1
                if paths[place] > _MOST_PATHS:
                    raise UserError(f"{inside}: links make over {_MOST_PATHS} paths to this folder; remove some")
                waiting.append((inside, above | (_places_above(inside) if is_link else {place})))
        except OSError as error:
            raise UserError(f"{error.filename or folder}: cannot be read ({error.strerror})") from error


def _content(folder: str) -> tuple[list[str], list[tuple[str, bool]]]:
    """The names of a folder's pictures; the paths of its subfolders, and whether they are links; both sorted."""
    files, subfolders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            is_link = entry.is_symlink()
            if os.path.isdir(entry.path) if is_link else entry.is_dir():
                subfolders.append((entry.path, is_link))
            elif entry.name.lower().endswith(SUFFIXES):
                files.append(entry.name)
    return sorted(files), sorted(subfolders)


def _place(folder: str | Path) -> _Place:
    """What tells a folder from all others, whatever path leads to it."""
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _places_above(folder: str) -> frozenset[_Place]:
    """Of a folder itself and all that it lies in."""
    real = Path(os.path.realpath(folder))
    return frozenset(_place(above) for above in (real, *real.parents))


def given_splits(path: Path) -> _Splits | None:
    """The splits as `folder_splits` gives them, by their folders; None if the tree has no such folders."""
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
        splits[split] = _scan(folders[0])
        if not splits[split]:
            raise UserError(f"{folders[0]}: has no class folders with pictures; {_EXPECTED}")
    return _listed(splits)


def _has_subfolders(folder: Path) -> bool:
    return folder.is_dir() and any(inside.is_dir() for inside in folder.iterdir())


def _listed(splits: dict[str, _Classes], by_fractions: bool = False) -> _Splits:
    return {split: (_identity(classes), _opener(classes, by_fractions)) for split, classes in splits.items()}


def _identity(classes: _Classes) -> str:
    """What tells one state of the files from another: paths, sizes and times of change."""
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


def read_file(file: str) -> bytes:
    """A picture's file; a UserError names one that cannot be read."""
    try:
        checked_stat(file)
        return Path(file).read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from error
