"""Dividing classes into train, validation and test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tf_mamlpp.errors import UserError

SPLITS = ("train", "validation", "test")
OMNIGLOT_CLASSES = 1623
_OMNIGLOT_SIZES = (1150, 50)  # the paper's; the other 423 are for testing


def divide_classes(class_names: Sequence[str], split_seed: int, *, source: str) -> dict[str, list[int]]:
    """Shuffles classes by a seed and divides them: 1150/50/423 for Omniglot, else 60/20/20 percent.

    Args:
        class_names: all classes, in an order that does not depend on the machine.
        split_seed: a non-negative number; the same seed always gives the same division.
        source: what to call the data in an error; Omniglot and TFDS sets named after it have sizes of their own.

    Returns:
        Class numbers of "train", "validation" and "test", each in rising order.

    Raises:
        UserError: fewer than three classes.
    """
    total = len(class_names)
    if total < len(SPLITS):
        raise UserError(f"{source}: has {total} classes, but train, validation and test need one each")
    # Raw bits, because NumPy promises their stream for ever and promises nothing for `permutation`.
    order = np.argsort(np.random.Philox(np.random.SeedSequence(split_seed)).random_raw(total), kind="stable")
    known = source == "omniglot" or (source.startswith("tfds:") and "omniglot" in source)
    if known and total == OMNIGLOT_CLASSES:
        train, validation = _OMNIGLOT_SIZES
    else:
        validation = max(1, round(0.2 * total))
        train = total - 2 * validation
    parts = np.split(order, [train, train + validation])
    return {split: sorted(part.tolist()) for split, part in zip(SPLITS, parts, strict=True)}
