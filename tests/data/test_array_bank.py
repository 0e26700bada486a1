"""Arrays where they lie, as one row of examples."""

import numpy as np
import pytest

from tf_mamlpp.data import array_bank
from tf_mamlpp.data.array_bank import ArrayBank, Examples
from tf_mamlpp.data.array_format import ArrayFormat


@pytest.fixture
def arrays():
    generator = np.random.default_rng(0)
    return tuple(generator.normal(size=(count, 2, 3)) for count in (4, 0, 1, 6))


@pytest.fixture
def examples(arrays):
    return Examples(arrays, ("a", "b", "c", "d"), np.dtype(np.float32))


def test_rows_count_through_all_arrays(arrays, examples):
    together, rows = np.concatenate(arrays).astype(np.float32), np.array([[10, 0], [4, 3], [5, 10]])
    np.testing.assert_array_equal(examples.take(rows), together[rows])
    assert len(examples) == 11 and examples.take(rows[:0]).shape == (0, 2, 2, 3)


def test_each_row_comes_from_somewhere(arrays, examples):
    for row in range(len(examples)):
        name, place = examples.origin(row).rstrip("]").split("[")
        expected = arrays["abcd".index(name)][int(place)]
        np.testing.assert_array_equal(examples.take(np.array(row), raw=True), expected)


def test_chunks_are_all_rows_in_order(examples, monkeypatch):
    rows = np.array([3, 9, 1, 1, 7])
    monkeypatch.setattr(array_bank, "_CHUNK", 2 * 6 * 4)
    parts = list(examples.chunks(rows))
    assert [len(part) for part, _ in parts] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), examples.take(rows))


def test_large_mapped_arrays_give_their_memory_back(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.arange(12.0).reshape(6, 2))
    mapped = np.asarray(np.lib.format.open_memmap(tmp_path / "a.npy", mode="r"))
    released = []
    monkeypatch.setattr(array_bank, "release_pages", released.append)
    examples = Examples((mapped,), ("a",), np.dtype(np.float32))
    examples.take(np.array([1]))
    assert not released
    monkeypatch.setattr(array_bank, "RESIDENT", 8)
    assert examples.take(np.array([1])).tolist() == [[2.0, 3.0]] and released[0] is mapped


def test_a_bank_has_some_of_the_rows(examples):
    rows, offsets = np.array([9, 2, 10]), np.array([0, 2, 3])
    inputs, hashes = ArrayFormat((2, 3), "float32"), np.arange(11, dtype=np.uint64)
    bank = ArrayBank(examples, rows, offsets, ("x", "y"), "arrays train", inputs, hashes)
    np.testing.assert_array_equal(bank.take(np.array([[2, 0]])), examples.take(np.array([[10, 9]])))
    assert bank.digests().tolist() == [9, 2, 10] and bank.origins([1, 0]) == ["a[2]", "d[4]"] and len(bank) == 3
    scaled = ArrayFormat((2, 3), "float32", (0.0,) * 3, (1.0,) * 3)
    assert bank.with_inputs(scaled).inputs is scaled and bank.inputs is inputs
