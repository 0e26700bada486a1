"""Dividing classes into train, validation and test.  Imports no TensorFlow."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tf_mamlpp.errors import UserError

SPLITS = ("train", "validation", "test")

SPLIT_FOLDERS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
"""The names that each split may have in data of others: of a folder, or of a split of TensorFlow Datasets."""

FRACTIONS = (0.6, 0.2, 0.2)
"""Default shares of the classes that train, validation and test get."""

OMNIGLOT_CLASSES = 1623

_OMNIGLOT_SIZES = (1150, 50)  # the paper's train and validation; the other 423 classes are for testing


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
) -> dict[str, list[int]]:
    """Divides classes into train, validation and test: by the lists of a file, or else at random.

    A random division follows the fractions, except for Omniglot's 1,623 classes: 1150/50/423, as in the paper.

    Args:
        class_names: all classes, in an order that does not depend on the machine.
        split_seed: a non-negative number; the same seed always gives the same division.
        split_file: JSON file {"train": [class names], "validation": [...], "test": [...]}; classes in none of the lists
            are left out. Neither the seed nor the fractions are used then.
        fractions: shares of train, validation and test, which sum to 1; a share above 0 is one class at least. Omniglot
            is divided by them only if they differ from `FRACTIONS`.
        source: what to call the data in an error; also tells Omniglot, and sets of TFDS named after it.

    Returns:
        Class numbers of "train", "validation" and "test", each in rising order.

    Raises:
        UserError: too few classes; or the file is missing or malformed, names a class twice or one unknown.

    Example:
        >>> divide_classes(["ant", "bee", "cat", "dog", "elk"], split_seed=0, source="animals")
        {'train': [0, 1, 3], 'validation': [2], 'test': [4]}
    """
    if split_file is not None:
        return _class_numbers(_read_lists(Path(split_file).expanduser()), class_names, f"{split_file}", source)
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


def _read_lists(file: Path) -> dict[str, list[str]]:
    try:
        lists = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: cannot be read as JSON ({error})") from error
    if not isinstance(lists, dict) or sorted(lists) != sorted(SPLITS):
        raise UserError(f'{file}: must hold {{"train": [class names], "validation": [...], "test": [...]}}')
    for split, names in lists.items():
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise UserError(f"{file}: '{split}' must be a list of one or more class names")
    return lists


def _class_numbers(
    lists: dict[str, list[str]], class_names: Sequence[str], file: str, source: str
) -> dict[str, list[int]]:
    number = {name: n for n, name in enumerate(class_names)}
    seen: set[str] = set()
    for split in SPLITS:
        for name in lists[split]:
            if name not in number:
                raise UserError(f"{file}: {source} has no class {name!r}; it has {', '.join(class_names[:3])}, ...")
            if name in seen:
                raise UserError(f"{file}: names the class {name!r} twice; splits must not share classes")
            seen.add(name)
    return {split: sorted(number[name] for name in lists[split]) for split in SPLITS}
