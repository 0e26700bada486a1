"""Dividing classes into train, validation and test.  Imports no TensorFlow."""

from __future__ import annotations

import json
import math
import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tf_mamlpp.data.sources.standard_lists import standard_file
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import expanded

SPLITS = ("train", "validation", "test")

SPLIT_FOLDERS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
"""The names that each split may have in data of others: of a folder, or of a split of TensorFlow Datasets."""

FRACTIONS = (0.6, 0.2, 0.2)
"""Default shares of the classes that train, validation and test get."""

OMNIGLOT_CLASSES = 1623

_OMNIGLOT_SIZES = (1150, 50)  # the paper's train and validation; the other 423 classes are for testing


@dataclass(frozen=True)
class SplitFile:
    """Lists of the classes of each split, read from a file.

    Attributes:
        lists: class names of "train", "validation" and "test".
        pictures: what a run wrote beside them about its pictures; None in a file that a user wrote. The lists of a run
            keep their order, because its tasks depend on it.
        others: other names of a class, by its name in the lists. A whole number is the class's number in data whose
            classes have no names.

    Example:
        >>> (tmp_path / "lists.json").write_text('{"train": ["ant", "bee"], "validation": ["cat"], "test": ["dog"]}')
        65
        >>> SplitFile.read(tmp_path / "lists.json").lists["train"]
        ['ant', 'bee']
        >>> SplitFile.read("standard:cub").others["001.Black_footed_Albatross"]
        (0,)
    """

    lists: dict[str, list[str]]
    pictures: dict[str, dict[str, Any]] | None = None
    others: dict[str, tuple[str | int, ...]] = field(default_factory=dict)

    @classmethod
    def read(cls, file: str | os.PathLike[str]) -> SplitFile:
        """Reads the file, or a division that comes with the package, see `standard_lists`.

        Raises:
            UserError: it is missing or malformed.
        """
        standard = standard_file(file)
        try:
            lists = json.loads((standard or expanded(file)).read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{file}: cannot be read as JSON ({error})") from error
        pictures = lists.pop("pictures", None) if isinstance(lists, dict) else None
        if not isinstance(lists, dict) or sorted(lists) != sorted(SPLITS):
            raise UserError(f'{file}: must hold {{"train": [class names], "validation": [...], "test": [...]}}')
        if pictures is not None and not (
            isinstance(pictures, dict) and all(isinstance(pictures.get(split), dict) for split in SPLITS)
        ):
            raise UserError(f"{file}: 'pictures' is not what a run writes: remove it, and the lists alone count")
        others: dict[str, tuple[str | int, ...]] = {}
        for split, entries in lists.items():
            # A run's split may be empty, since its shares of the classes may be 0, and so may that of a standard set.
            of_classes = isinstance(entries, list) and all(map(_is_class, entries))
            if not of_classes or not (entries or standard or pictures is not None):
                raise UserError(f"{file}: '{split}' must be a list of one or more class names")
            others |= {entry[0]: tuple(entry[1:]) for entry in entries if isinstance(entry, list)}
            lists[split] = [entry[0] if isinstance(entry, list) else entry for entry in entries]
        return cls(lists, pictures, others)


def _is_class(entry: Any) -> bool:
    """Whether this is how a list names a class: a name, or a list of a name and others."""
    if not isinstance(entry, list):
        return isinstance(entry, str)
    return bool(entry) and isinstance(entry[0], str) and all(type(other) in (str, int) for other in entry)


def same_name(name: str) -> str:
    """A class name for comparison: a letter and its accent are one character, however a file system keeps them.

    Example:
        >>> same_name("caf" + "e\N{COMBINING ACUTE ACCENT}") == "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
        True
    """
    return unicodedata.normalize("NFC", name)


def check_fractions(name: str, fractions: Sequence[float]) -> None:
    """Checks that these are shares of train, validation and test.

    Args:
        name: what to call the setting in an error.
        fractions: three shares that sum to 1.

    Raises:
        UserError: they are not.

    Example:
        >>> check_fractions("data.split_fractions", (0.8, 0.1, 0.1))
        >>> check_fractions("data.split_fractions", (0.8, 0.1))
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: data.split_fractions is (0.8, 0.1): it must be three numbers, ...
    """
    good = len(fractions) == 3 and all(part >= 0 for part in fractions) and fractions[0] > 0
    if not good or not abs(math.fsum(fractions) - 1) <= 1e-6:
        raise UserError(
            f"{name} is {tuple(fractions)}: it must be three numbers, of train, validation and test, that are not "
            "negative and sum to 1, the first above 0"
        )


def divide_classes(
    class_names: Sequence[str],
    split_seed: int,
    split_file: str | os.PathLike[str] | None = None,
    fractions: Sequence[float] = FRACTIONS,
    *,
    source: str,
    short_names: Sequence[str] = (),
) -> dict[str, list[int]]:
    """Divides classes into train, validation and test: by the lists of a file, or else at random.

    A random division follows the fractions, except for Omniglot's 1,623 classes: 1150/50/423, as in the paper.

    Args:
        class_names: all classes, in an order that does not depend on the machine.
        split_seed: a non-negative number; the same seed always gives the same division.
        split_file: JSON file {"train": [class names], "validation": [...], "test": [...]}, or the name of one of
            `standard_lists`; classes in none of the lists are left out. Neither the seed nor the fractions are used
            then. In place of a name may be a list of names, of which the first that the data have counts; a whole
            number in it is the class of that number, if the data have no names but 0, 1, 2, ... for as many classes
            as the file lists.
        fractions: shares of train, validation and test, which sum to 1; a share above 0 is one class at least. Omniglot
            is divided by them only if they differ from `FRACTIONS`.
        source: what to call the data in an error; also tells Omniglot, and sets of TFDS named after it.
        short_names: another name for each class that the file may use.

    Returns:
        Class numbers of "train", "validation" and "test", each in rising order, or in the order of a run's own file.

    Raises:
        UserError: too few classes; or the file is missing or malformed, names a class twice or one unknown.

    Example:
        >>> divide_classes(["ant", "bee", "cat", "dog", "elk"], split_seed=0, source="animals")
        {'train': [0, 1, 3], 'validation': [2], 'test': [4]}
    """
    if split_file is not None:
        return _class_numbers(SplitFile.read(split_file), class_names, short_names, f"{split_file}", source)
    total = len(class_names)
    validation, test = (max(1, round(part * total)) if part else 0 for part in fractions[1:])
    if validation + test >= total:
        raise UserError(
            f"{source}: has {total} classes, too few to divide: {validation} for validation and {test} for test leave "
            "none for train; add classes or change data.split_fractions"
        )
    # Raw bits, because NumPy promises their stream for ever and promises nothing for `permutation`.
    order = np.argsort(np.random.Philox(np.random.SeedSequence(split_seed)).random_raw(total), kind="stable")
    is_omniglot = source == "omniglot" or (source.startswith("tfds:") and "omniglot" in source)
    train = total - validation - test
    if is_omniglot and total == OMNIGLOT_CLASSES and tuple(fractions) == FRACTIONS:
        train, validation = _OMNIGLOT_SIZES
    parts = np.split(order, [train, train + validation])
    return {split: sorted(part.tolist()) for split, part in zip(SPLITS, parts, strict=True)}


def _class_numbers(
    given: SplitFile, class_names: Sequence[str], short_names: Sequence[str], file: str, source: str
) -> dict[str, list[int]]:
    find = _finder(class_names, short_names, complete=len(class_names) == sum(map(len, given.lists.values())))
    seen: set[int] = set()
    divided: dict[str, list[int]] = {}
    for split in SPLITS:
        divided[split] = []
        for name in given.lists[split]:
            found = next(filter(None, map(find, (name, *given.others.get(name, ())))), [])
            if not found:
                raise UserError(f"{file}: {source} has no class {name!r}; it has {', '.join(class_names[:3])}, ...")
            if len(found) > 1:
                both = " and ".join(repr(class_names[n]) for n in found[:2])
                raise UserError(f"{file}: {name!r} may be {both} of {source}: write its whole name")
            if found[0] in seen:
                raise UserError(f"{file}: names the class {name!r} twice; splits must not share classes")
            seen.add(found[0])
            divided[split].append(found[0])
    return divided if given.pictures is not None else {split: sorted(numbers) for split, numbers in divided.items()}


def _finder(
    class_names: Sequence[str], short_names: Sequence[str], complete: bool
) -> Callable[[str | int], Sequence[int]]:
    """A function that finds the classes that a file may mean by a name or a number.

    Args:
        class_names: of the data.
        short_names: others of the same classes.
        complete: the file lists as many classes as there are. A number in another file is of other data.
    """
    exact = {name: [n] for n, name in enumerate(class_names)}
    # Where no name is the very same: names in another form of Unicode, then short ones.
    forms: tuple[Mapping[str, list[int]], ...] = (_numbers(class_names), _numbers(short_names))
    nameless = complete and exact.keys() == {str(n) for n in range(len(class_names))}

    def find(name: str | int) -> Sequence[int]:
        if isinstance(name, int):
            return exact.get(str(name), []) if nameless else []
        return exact.get(name) or next((form[key] for form in forms if (key := same_name(name)) in form), [])

    return find


def _numbers(names: Sequence[str]) -> dict[str, list[int]]:
    """The numbers of the classes that have a name, whatever its form of Unicode."""
    found: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        found.setdefault(same_name(name), []).append(number)
    return found
