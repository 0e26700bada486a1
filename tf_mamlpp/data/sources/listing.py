"""What a source gives: pictures that are listed but not yet decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pictures:
    """Pictures that are listed but not yet decoded.

    Attributes:
        class_names: one name a class.
        counts: how many pictures each class has.
        read: gives (row, the picture's name for errors, content) of every picture, in any order; rows count the
            pictures class by class; the content is an encoded file, or a decoded uint8 array [H, W] or [H, W, C].
        by_fractions: see `ImageBank`.
    """

    class_names: tuple[str, ...]
    counts: tuple[int, ...]
    read: Callable[[], Iterator[tuple[int, str, bytes | np.ndarray]]]
    by_fractions: bool = False
