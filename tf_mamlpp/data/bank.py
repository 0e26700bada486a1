"""A bank: the examples of one split, class by class, whatever they are."""

from __future__ import annotations

import abc
import hashlib
import itertools
from collections.abc import Sequence

import numpy as np

from tf_mamlpp.data.input_format import InputFormat


class Bank(abc.ABC):
    """The examples of one split.  A subclass says what they are and how they are read; it is a frozen dataclass.

    Attributes:
        offsets: int64 [classes + 1]; class c's examples are rows offsets[c] to offsets[c + 1] - 1.
        class_names: one name a class.
        name: source and split, for example "omniglot train".
        by_fractions: whether `split_fractions` divided the classes. An error about too few classes then says so.
        damaged: what is wrong with each example that was left out because it cannot be read.

    Example: see `ImageBank` and `ArrayBank`.
        >>> from tf_mamlpp.data import ImageBank
        >>> bank = ImageBank(np.zeros((5, 28, 28, 1), np.uint8), np.array([0, 2, 5]), ("ant", "bee"), "insects train")
        >>> len(bank), bank.source, bank.shape, bank.inputs.kind.examples
        (5, 'insects', (28, 28, 1), 'pictures')
    """

    offsets: np.ndarray
    class_names: tuple[str, ...]
    name: str
    by_fractions: bool
    damaged: tuple[str, ...] = ()

    @property
    @abc.abstractmethod
    def inputs(self) -> InputFormat:
        """What one example is to a model."""

    @abc.abstractmethod
    def with_inputs(self, inputs: InputFormat) -> Bank:
        """The same examples, prepared otherwise, such as on the scale that a run was trained on."""

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of one example, as `take` gives it."""

    @property
    @abc.abstractmethod
    def dtype(self) -> np.dtype:
        """Of an example, as `take` gives it."""

    @abc.abstractmethod
    def take(self, rows: np.ndarray) -> np.ndarray:
        """Copies examples out of the bank.

        Args:
            rows: their numbers, an integer array of any shape.

        Returns:
            `[*rows.shape, *shape]`.
        """

    @abc.abstractmethod
    def digests(self) -> np.ndarray:
        """For each example 64 bits of a hash of it, uint64 [examples]."""

    @abc.abstractmethod
    def origins(self, rows: Sequence[int]) -> list[str] | None:
        """Where examples came from, for a message; None of a bank that does not know."""

    def __len__(self) -> int:
        return int(self.offsets[-1])

    @property
    def source(self) -> str:
        """The source part of the name, for example "omniglot"."""
        return self.name.rpartition(" ")[0]


def digest(example: np.ndarray) -> int:
    """64 bits of a hash of an example.

    Example:
        >>> digest(np.zeros(3, np.uint8)) == digest(np.zeros(3, np.uint8)), digest(np.zeros(3)) < 2**64
        (True, True)
    """
    return int.from_bytes(hashlib.blake2b(example.tobytes(), digest_size=8).digest(), "little")


def class_hashes(bank: Bank) -> list[str]:
    """For each class of a bank, a hash that changes with its examples and their order.

    Example:
        >>> from tf_mamlpp.data import ImageBank
        >>> bank = ImageBank(np.zeros((3, 4, 4, 1), np.uint8), np.array([0, 2, 3]), ("ant", "bee"), "insects train")
        >>> [len(found) for found in class_hashes(bank)], len(set(class_hashes(bank)))
        ([16, 16], 2)
    """
    digests = bank.digests()
    return [
        hashlib.blake2b(digests[first:last].astype("<u8").tobytes(), digest_size=8).hexdigest()
        for first, last in itertools.pairwise(bank.offsets.tolist())
    ]


def shared_examples(one: Bank, other: Bank) -> list[tuple[str, str]]:
    """Examples that are the same in two banks.

    Args:
        one: a bank that knows where its examples came from; of another nothing is found.
        other: likewise.

    Returns:
        For each such example, where it came from in `one` and in `other`, in the order of `one`. Of several copies in
        a bank, one is named.

    Example:
        >>> from tf_mamlpp.data.sources.arrays import load_arrays
        >>> twins = np.array([[1.0], [2.0], [3.0], [2.0]])
        >>> np.savez(tmp_path / "data.npz", inputs=twins, labels=["ant", "bee", "cat", "dog"])
        >>> banks = load_arrays(tmp_path / "data.npz", split_fractions=(0.5, 0.25, 0.25))
        >>> [shared_examples(banks["train"], banks[split]) for split in ("validation", "test")]
        [[('inputs[3]', 'inputs[1]')], []]
    """
    if one.origins([]) is None or other.origins([]) is None:
        return []
    _, rows, copies = np.intersect1d(one.digests(), other.digests(), return_indices=True)
    order = np.argsort(rows)
    found, twins = one.origins(rows[order].tolist()), other.origins(copies[order].tolist())
    return list(zip(found or (), twins or (), strict=True))
