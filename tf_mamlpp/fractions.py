"""Which share of a source's classes each split gets.  Imports no TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tf_mamlpp.errors import UserError

FRACTIONS = (0.6, 0.2, 0.2)
"""Of train, validation and test, unless told otherwise."""


def check_fractions(name: str, fractions: Sequence[float]) -> None:
    """Raises a UserError, which calls the setting `name`, unless these are shares of train, validation and test."""
    good = len(fractions) == 3 and all(part >= 0 for part in fractions) and fractions[0] > 0
    if not good or not abs(math.fsum(fractions) - 1) <= 1e-6:
        raise UserError(
            f"{name} is {tuple(fractions)}: it must be three numbers, of train, validation and test, that are not "
            "negative and sum to 1, the first above 0"
        )
