"""Examples to classify, whatever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Queries(NamedTuple):
    """Examples to classify, which are read one by one.

    Attributes:
        names: of all, as the table of predictions has them.
        read: gives the name of each example that can be read, the example as the deployed model takes it, and a small
            picture of it; None where it cannot be shown.
        truths: the true class of each by its name; None where it is not known.

    Example:
        >>> queries = Queries(["row 0"], lambda: iter([("row 0", np.zeros(3), None)]), {"row 0": "cat"})
        >>> [(name, example.shape) for name, example, _ in queries.read()]
        [('row 0', (3,))]
    """

    names: Sequence[str]
    read: Callable[[], Iterator[tuple[str, np.ndarray, np.ndarray | None]]]
    truths: Mapping[str, str] | None = None
