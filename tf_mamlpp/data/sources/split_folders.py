"""The folders of a tree that divide its classes into train, validation and test.  Imports no TensorFlow."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tf_mamlpp.data.picture_files import subfolders
from tf_mamlpp.data.sources.splits import SPLIT_FOLDERS, SPLITS
from tf_mamlpp.errors import UserError

_WORDS = {
    **{"train": "train", "training": "train", "trn": "train"},
    **{"val": "validation", "valid": "validation", "validation": "validation", "validate": "validation"},
    **{"test": "test", "testing": "test", "tst": "test"},
}
"""What people call a folder that is a split."""

_RARE = {
    **{"dev": ("validation",), "eval": ("validation", "test"), "evaluation": ("validation", "test")},
    **{"base": ("train",), "novel": ("test",)},
}
"""Names that are splits only where they complete the three."""

_AROUND = r"meta|set|data|dataset|images?|imgs?|pictures?|split|classes"  # as in "meta_train", "TestSet"
_NAME = re.compile(rf"(?:{_AROUND})?({'|'.join(sorted(_WORDS, key=len, reverse=True))})(?:{_AROUND})?")

# As in "omniglot_train" or "val2017": what is around the word is the same for all three.
_LONG_NAME = re.compile(rf"(|.*[\W_\d])({'|'.join([*sorted(_WORDS, key=len, reverse=True), 'dev'])})(|[\W_\d].*)")

_DEEPEST = 9  # folders, one inside the other, in which splits are looked for


def split_folders(path: Path) -> dict[str, Path] | None:
    """The folder of each split: in a tree's root, or below folders that hold nothing but one folder.

    A folder is known by its name: train, training or trn; val, valid, validation or validate; test, testing or tst; in
    any case, with or without "meta", "set", "images" and the like around it, or with the same text around all three
    (`omniglot_train`). Where two are found, dev, eval, evaluation, base and novel complete them. It must hold folders:
    one that holds pictures alone is a class, whatever its name.

    Args:
        path: root of the tree.

    Returns:
        The folders of "train", "validation" and "test"; None if the tree has no splits.

    Raises:
        UserError: some folders look like splits, and there is not one for each.

    Example:
        >>> for name in ("Train/ant", "Train/bee", "Val/cat", "Test/dog"):
        ...     (tmp_path / "pets" / name).mkdir(parents=True)
        >>> {split: folder.name for split, folder in split_folders(tmp_path).items()}
        {'train': 'Train', 'validation': 'Val', 'test': 'Test'}
        >>> (tmp_path / "pets" / "Val").rename(tmp_path / "pets" / "owl").name
        'owl'
        >>> split_folders(tmp_path)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: ...pets: Test/ and Train/ look like splits, but it needs one folder val/ ...
    """
    place = path
    for _ in range(_DEEPEST):
        names = sorted(os.path.basename(folder) for folder in subfolders(place))
        found = _splits_among(place, names)
        if found is not None or len(names) != 1:
            return found
        place = place / names[0]
    return None


def check_pool(path: Path, class_names: Iterable[str]) -> None:
    """Refuses a pool of classes in which one class would be two, because its folders are splits.

    Args:
        path: root of the tree, which has no splits of its own.
        class_names: of the pool: paths below the root.

    Raises:
        UserError: naming such folders.

    Example:
        >>> check_pool(Path("pets"), ["cats/train", "cats/test", "dogs/train", "dogs/test"])
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: pets: cats/test/ and cats/train/ look like splits, but hold no class folders...
    """
    pictures: dict[str, dict[str, str]] = {}  # of each folder, the split folders in it that hold pictures
    classes: dict[str, dict[str, str]] = {}  # and those that hold class folders
    for name in class_names:
        *above, last = name.split("/")
        for depth, folder in enumerate([*above, last]):
            split = split_named(folder)
            if split is not None:
                kind = classes if depth < len(above) else pictures
                kind.setdefault("/".join(above[:depth]), {})[split] = "/".join([*above, last][: depth + 1])
    _refuse_several(path, pictures, "but hold no class folders: each would be a class; put a class's pictures together")
    _refuse_several(path, classes, "but of a part of it; give {} as data.path")


def _refuse_several(path: Path, found: dict[str, dict[str, str]], problem: str) -> None:
    for parent, folders in found.items():
        if len(folders) > 1:
            raise UserError(
                f"{path}: {_listed(sorted(folders.values()))} look like splits, {problem.format(path / parent)}, or "
                "list the classes of each split in data.split_file"
            )


def split_named(name: str) -> str | None:
    """The split that a folder's name stands for by itself.

    Example:
        >>> split_named("Meta-Train"), split_named("valid"), split_named("trains")
        ('train', 'validation', None)
    """
    found = _NAME.fullmatch(re.sub(r"[\W_]", "", name.lower()))
    return _WORDS[found[1]] if found else None


def _splits_among(place: Path, names: Sequence[str]) -> dict[str, Path] | None:
    """The folder of each split among the folders in one place; None if none looks like a split."""
    found: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name in names:
        split = split_named(name)
        if split is not None and _holds_folders(place / name):
            found[split].append(name)
    if any(found.values()):
        missing = [split for split in SPLITS if not found[split]]
        for name in names:
            possible = [split for split in _RARE.get(name.lower(), ()) if split in missing]
            if len(possible) == 1 and _holds_folders(place / name):
                found[possible[0]].append(name)
    else:
        found = _alike(place, names)
    if not any(found.values()):
        return None
    for split, folders in found.items():
        if len(folders) != 1:
            seen = [name for name in names if any(name in group for group in found.values())]
            wanted = " or ".join(f"{name}/" for name in SPLIT_FOLDERS[split])
            raise UserError(
                f"{place}: {_listed(seen)} look like splits, but it needs one folder {wanted} beside its other splits, "
                "or no splits at all: rename folders, give one as data.path to have its classes divided, or list the "
                "classes of each split in data.split_file"
            )
    return {split: place / folders[0] for split, folders in found.items()}


def _alike(place: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Folders such as `omniglot_train` and `omniglot_test`: alike but for two splits at least."""
    groups: dict[tuple[str, str], dict[str, list[str]]] = {}
    for name in names:
        found = _LONG_NAME.fullmatch(name.lower())
        if found and _holds_folders(place / name):
            before, word, after = found.groups()
            split = _WORDS.get(word, "validation")
            key = re.sub(r"[\W_\d]", "", before), re.sub(r"[\W_\d]", "", after)
            groups.setdefault(key, {split: [] for split in SPLITS})[split].append(name)
    several = [group for group in groups.values() if sum(map(bool, group.values())) > 1]
    if several:
        return {split: [name for group in several for name in group[split]] for split in SPLITS}
    rare = {split: [name for name in names if split in _RARE.get(name.lower(), ())] for split in SPLITS}
    return rare if all(len(folders) == 1 and _holds_folders(place / folders[0]) for folders in rare.values()) else {}


def _holds_folders(folder: Path) -> bool:
    return any(True for _ in subfolders(folder))


def _listed(names: Sequence[str]) -> str:
    """As in "a/, b/ and c/"; of many, the first."""
    shown = [f"{name}/" for name in names[:4]]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
