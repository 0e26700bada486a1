"""What a source gives: pictures that are listed but not yet decoded.  Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tf_mamlpp.errors import UserError


@dataclass(frozen=True)
class Pictures:
    """The pictures of one split, listed but not yet decoded.

    Attributes:
        class_names: one name a class.
        counts: how many pictures each class has.
        read: gives (row, name, content) of every picture, in any order. Rows count the pictures class by class; the
            name is for error messages; the content is an encoded file, a decoded uint8 array [H, W] or [H, W, C], or
            the error that says why there is none.
        by_fractions: whether the classes are a fraction of all classes of the source.

    Example:
        >>> greys = [np.full((2, 2), grey, np.uint8) for grey in (10, 20, 30)]
        >>> names = ["a/0.png", "a/1.png", "b/0.png"]
        >>> pictures = Pictures(("a", "b"), (2, 1), lambda: zip(range(3), names, greys))
        >>> [(row, name, int(grey[0, 0])) for row, name, grey in pictures.read()]
        [(0, 'a/0.png', 10), (1, 'a/1.png', 20), (2, 'b/0.png', 30)]
    """

    class_names: tuple[str, ...]
    counts: tuple[int, ...]
    read: Callable[[], Iterator[tuple[int, str, bytes | np.ndarray | UserError]]]
    by_fractions: bool = False


def content_or_error(read: Callable[..., bytes], *arguments: Any) -> bytes | UserError:
    """The content of a picture, or the error that says why it cannot be read: the others are read all the same.

    Example:
        >>> def read(file):
        ...     raise UserError(f"{file}: cannot be read")
        >>> content_or_error(read, "cat.png")
        UserError('cat.png: cannot be read')
    """
    try:
        return read(*arguments)
    except UserError as error:
        return error


Splits = dict[str, tuple[str, Callable[[], Pictures]]]
"""What every source returns: for "train", "validation" and "test", a key and a function that lists the pictures.

The key changes whenever the pictures may have changed; the cache finds a decoded bank by it. The function may take long
(it may read whole archives), and is called only where the cache has no such bank.
"""


def pooled(splits: Splits) -> tuple[str, Callable[[], Pictures]]:
    """All splits of a source as one. A class that is in several of them, such as train/cat and test/cat, is one class.

    Args:
        splits: what a source returned.

    Returns:
        A key that changes with the pictures, and a function that lists them.

    Example:
        >>> def listing(names, counts):
        ...     return lambda: Pictures(names, counts, lambda: ((r, f"{names}{r}", b"") for r in range(sum(counts))))
        >>> key, open_pictures = pooled(
        ...     {"train": ("k1", listing(("ant", "bee"), (2, 1))), "test": ("k2", listing(("bee",), (1,)))}
        ... )
        >>> pictures = open_pictures()
        >>> pictures.class_names, pictures.counts
        (('ant', 'bee'), (2, 2))
        >>> [row for row, name, content in pictures.read()]
        [0, 1, 2, 3]
    """

    def open_pictures() -> Pictures:
        parts = [open_part() for _, open_part in splits.values()]
        counts: dict[str, int] = {}
        for part in parts:
            for name, count in zip(part.class_names, part.counts, strict=True):
                counts[name] = counts.get(name, 0) + count
        following = dict(zip(counts, np.cumsum([0, *counts.values()]).tolist(), strict=False))
        rows: list[list[int]] = []  # where each picture of a part goes
        for part in parts:
            rows.append([])
            for name, count in zip(part.class_names, part.counts, strict=True):
                rows[-1] += range(following[name], following[name] + count)
                following[name] += count

        def read() -> Iterator[tuple[int, str, bytes | np.ndarray | UserError]]:
            for part, places in zip(parts, rows, strict=True):
                for row, name, content in part.read():
                    yield places[row], name, content

        return Pictures(tuple(counts), tuple(counts.values()), read)

    return "\n".join(["pooled", *(key for key, _ in splits.values())]), open_pictures
