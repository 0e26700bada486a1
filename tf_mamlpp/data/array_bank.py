"""A bank of arrays of numbers, of any shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tf_mamlpp.data.array_format import ArrayFormat
from tf_mamlpp.data.bank import Bank
from tf_mamlpp.data.cached_bank import RESIDENT, release_pages
from tf_mamlpp.data.input_format import InputFormat

_CHUNK = 16 << 20  # bytes that are read at once


@dataclass(frozen=True)
class Examples:
    """Arrays of examples one after the other, in memory or memory-mapped; rows count through all of them.

    Attributes:
        arrays: each `[examples, *shape]`.
        names: of the arrays, for messages.
        dtype: that examples are read as.

    Example:
        >>> examples = Examples((np.zeros((2, 3)), np.ones((1, 3))), ("ant", "bee"), np.dtype(np.float32))
        >>> examples.take(np.array([[2, 0]])).tolist(), len(examples), examples.origin(2)
        ([[[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]], 3, 'bee[0]')
    """

    arrays: tuple[np.ndarray, ...]
    names: tuple[str, ...]
    dtype: np.dtype

    @cached_property
    def starts(self) -> np.ndarray:
        """The row of each array's first example, and behind them the number of all, `[arrays + 1]`."""
        return np.cumsum([0, *map(len, self.arrays)])

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return self.arrays[0].shape[1:]

    def __len__(self) -> int:
        return int(self.starts[-1])

    def take(self, rows: np.ndarray, raw: bool = False) -> np.ndarray:
        """Copies of examples, `[*rows.shape, *shape]`; `raw` leaves their own dtype.

        What was mapped of a large array for them is released.
        """
        dtype = np.result_type(*self.arrays) if raw else self.dtype
        taken = np.empty((*rows.shape, *self.shape), dtype)
        owners = np.searchsorted(self.starts, rows, side="right") - 1
        for owner in np.unique(owners):
            here = owners == owner
            taken[here] = self.arrays[owner][rows[here] - self.starts[owner]]
            if self.arrays[owner].nbytes > RESIDENT:
                release_pages(self.arrays[owner])
        return taken

    def origin(self, row: int) -> str:
        """Where an example came from."""
        owner = int(np.searchsorted(self.starts, row, side="right") - 1)
        return f"{self.names[owner]}[{row - self.starts[owner]}]"

    def chunks(self, rows: np.ndarray, raw: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """A few rows at a time, and their examples."""
        each = max(1, _CHUNK // max(1, int(np.prod(self.shape)) * self.dtype.itemsize))
        for first in range(0, len(rows), each):
            part = rows[first : first + each]
            yield part, self.take(part, raw)


@dataclass(frozen=True)
class ArrayBank(Bank):
    """The arrays of one split.

    Attributes:
        examples: of all splits, where they lie.
        rows: of the examples of this split, int64 [examples], class by class.
        offsets: int64 [classes + 1]; class c's examples are rows[offsets[c]] to rows[offsets[c + 1] - 1].
        class_names: one name a class.
        name: source and split, for example "arrays train".
        arrays: the scale on which the model takes them.
        hashes: of all examples, uint64.
        by_fractions: whether `split_fractions` divided the classes. An error about too few classes then says so.

    Example:
        >>> examples = Examples((np.eye(3),), ("inputs",), np.dtype(np.float32))
        >>> rows, offsets, inputs = np.array([2, 0]), np.array([0, 1, 2]), ArrayFormat((3,), "float32")
        >>> bank = ArrayBank(examples, rows, offsets, ("ant", "bee"), "arrays test", inputs, np.arange(3))
        >>> bank.take(np.array([0])).tolist(), bank.origins([0])
        ([[0.0, 0.0, 1.0]], ['inputs[2]'])
    """

    examples: Examples
    rows: np.ndarray
    offsets: np.ndarray
    class_names: tuple[str, ...]
    name: str
    arrays: ArrayFormat
    hashes: np.ndarray
    by_fractions: bool = False

    @property
    def inputs(self) -> ArrayFormat:
        return self.arrays

    def with_inputs(self, inputs: InputFormat) -> ArrayBank:
        assert isinstance(inputs, ArrayFormat)
        return dataclasses.replace(self, arrays=inputs)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.examples.shape

    @property
    def dtype(self) -> np.dtype:
        return self.examples.dtype

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self.examples.take(self.rows[rows])

    def digests(self) -> np.ndarray:
        return self.hashes[self.rows]

    def origins(self, rows: Sequence[int]) -> list[str] | None:
        return [self.examples.origin(row) for row in self.rows[list(rows)]]
