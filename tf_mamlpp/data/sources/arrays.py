"""Arrays of numbers with labels, as NumPy keeps them: the source `arrays`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tf_mamlpp.data.array_bank import ArrayBank, Examples
from tf_mamlpp.data.array_format import ArrayFormat
from tf_mamlpp.data.bank import digest
from tf_mamlpp.data.sources.array_files import EXPECTED, read_array, read_arrays, split_paths
from tf_mamlpp.data.sources.splits import FRACTIONS, SPLITS, divide_classes
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import expanded

_INPUTS, _LABELS = "inputs", "labels"

_Classes = dict[str, np.ndarray]  # the rows of each class


def load_arrays(
    path: str | os.PathLike[str],
    *,
    normalise: bool = True,
    split_seed: int = 0,
    split_file: str | os.PathLike[str] | None = None,
    split_fractions: Sequence[float] = FRACTIONS,
) -> dict[str, ArrayBank]:
    """Loads arrays of any shape, divided by their classes.

    Args:
        path: an `.npz` file, or a folder of `.npy` files, which are memory-mapped: the arrays `inputs`
            `[examples, ...]` and `labels` `[examples]` (whole numbers or texts), or an array for each class under the
            class's name. A folder of `train.npz`, `val.npz` and `test.npz`, or of such folders, is divided already.
        normalise: bring each feature, which is a place on the last axis, to mean 0 and deviation 1 over the training
            classes. Whole numbers stay as they are.
        split_seed, split_file, split_fractions: see `divide_classes`.

    Returns:
        Banks "train", "validation" and "test", of float32 or, from whole numbers, of int32.

    Raises:
        UserError: the arrays are missing, damaged, not finite, do not fit each other, or have too few classes.

    Example:
        >>> inputs = np.arange(20.0).reshape(10, 2)
        >>> np.savez(tmp_path / "data.npz", inputs=inputs, labels=np.repeat([3, 4, 5, 6, 7], 2))
        >>> banks = load_arrays(tmp_path / "data.npz")
        >>> {split: bank.class_names for split, bank in banks.items()}
        {'train': ('3', '4', '6'), 'validation': ('5',), 'test': ('7',)}
        >>> banks["test"].take(np.array([0])).tolist(), [round(mean, 2) for mean in banks["test"].inputs.mean]
        ([[16.0, 17.0]], [6.33, 7.33])
    """
    folder = expanded(path)
    examples, groups = _open(folder)
    by_fractions = split_file is None and len(groups) == 1
    if split_file is not None or by_fractions:
        classes = _pool(groups)
        names = list(classes)
        divided = divide_classes(names, split_seed, split_file, split_fractions, source=f"{path}")
        groups = {split: {names[n]: classes[names[n]] for n in divided[split]} for split in SPLITS}
    hashes = _scan(examples, path)
    banks = {split: _bank(examples, groups[split], f"arrays {split}", hashes, by_fractions) for split in SPLITS}
    inputs = _scaled(banks["train"]) if normalise else banks["train"].inputs
    return {split: bank.with_inputs(inputs) for split, bank in banks.items()}


def load_array_pool(path: str | os.PathLike[str], *, split_file: str | os.PathLike[str] | None = None) -> ArrayBank:
    """Loads all classes of a file or folder as one bank, however it divides them; see `load_arrays`.

    Args:
        path: of the arrays.
        split_file: takes only the classes that it lists.

    Returns:
        The bank "all", whose inputs stay as they are.

    Raises:
        UserError: as `load_arrays`.

    Example:
        >>> np.savez(tmp_path / "data.npz", ant=np.zeros((2, 3)), bee=np.ones((1, 3)))
        >>> bank = load_array_pool(tmp_path / "data.npz")
        >>> bank.name, bank.class_names, bank.offsets.tolist()
        ('arrays all', ('ant', 'bee'), [0, 2, 3])
    """
    examples, groups = _open(expanded(path))
    classes = _pool(groups)
    if split_file is not None:
        divided, names = divide_classes(list(classes), 0, split_file, source=f"{path}"), list(classes)
        classes = {names[n]: classes[names[n]] for split in SPLITS for n in divided[split]}
    return _bank(examples, classes, "arrays all", _scan(examples, path))


def load_queries(path: Path) -> tuple[Examples, list[str] | None]:
    """Loads arrays whose classes need not be known.

    Args:
        path: as for `load_arrays`, or without `labels`; or one `.npy` file.

    Returns:
        The examples in their order, and the class of each; None where no labels tell it.

    Raises:
        UserError: as `load_arrays`.

    Example:
        >>> np.savez(tmp_path / "data.npz", inputs=np.zeros((2, 3)), labels=["bee", "ant"])
        >>> load_queries(tmp_path / "data.npz")[1]
        ['bee', 'ant']
    """
    path = expanded(path)
    arrays = {_INPUTS: read_array(path)} if path.suffix == ".npy" and path.is_file() else {}
    if not arrays and split_paths(path) is None:
        arrays = read_arrays(path)
    if list(arrays) == [_INPUTS]:
        examples = Examples((arrays[_INPUTS],), (_INPUTS,), _common_dtype(_checked(arrays, path), path))
        _scan(examples, path)
        return examples, None
    examples, groups = _open(path)
    _scan(examples, path)
    truths = [""] * len(examples)
    for name, rows in _pool(groups).items():
        for row in rows:
            truths[row] = name
    return examples, truths


def _open(path: Path) -> tuple[Examples, dict[str, _Classes]]:
    """All examples, and the rows of each class: in a group for each split that the data have, or in one group."""
    files = split_paths(path) or {"": path}
    arrays, groups, before = dict[str, np.ndarray](), dict[str, _Classes](), 0
    for split, file in files.items():
        found, labels = _examples_and_labels(read_arrays(file), file)
        arrays |= {f"{file.name} {name}" if split else name: array for name, array in found.items()}
        groups[split] = _rows_by_name(found, before) if labels is None else _rows_by_label(labels, before)
        before += sum(map(len, found.values()))
    return Examples(tuple(arrays.values()), tuple(arrays), _common_dtype(arrays, path)), groups


def _examples_and_labels(arrays: dict[str, np.ndarray], path: Path) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """The arrays that hold examples, and the labels of their rows; None where each array is a class."""
    if not arrays.keys() & {_INPUTS, _LABELS}:
        return _checked(arrays, path), None
    unknown = sorted(arrays.keys() - {_INPUTS, _LABELS})
    if unknown or len(arrays) != 2:
        has = f"an array '{unknown[0]}' beside {_INPUTS} or {_LABELS}" if unknown else f"only the array {min(arrays)}"
        raise UserError(f"{path}: has {has}; {EXPECTED}")
    inputs, labels = arrays[_INPUTS], arrays[_LABELS]
    if labels.ndim != 1:
        raise UserError(f"{path}: labels has the shape {labels.shape}: give a vector, one class for each example")
    if labels.dtype.kind not in "iuU":
        raise UserError(f"{path}: labels is of {labels.dtype}: give whole numbers or texts, such as labels.astype(int)")
    checked = _checked({_INPUTS: inputs}, path)
    if len(inputs) != len(labels):
        raise UserError(f"{path}: has {len(inputs)} inputs and {len(labels)} labels: give each example one")
    return checked, labels


def _checked(arrays: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """The arrays, if each holds numbers for each example."""
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise UserError(f"{path}: {name} is of {array.dtype}: give numbers, such as {name}.astype('float32')")
        if array.ndim < 2 or not all(array.shape[1:]):
            raise UserError(f"{path}: {name} has the shape {array.shape}, no numbers for each example; {EXPECTED}")
    if not any(map(len, arrays.values())):
        raise UserError(f"{path}: has no examples: its arrays are empty")
    return arrays


def _rows_by_name(arrays: Mapping[str, np.ndarray], before: int) -> _Classes:
    """The rows of each array, which is a class; the first is `before`."""
    ends = np.cumsum([before, *map(len, arrays.values())])
    return {name: np.arange(*ends[i : i + 2]) for i, name in enumerate(arrays)}


def _rows_by_label(labels: np.ndarray, before: int) -> _Classes:
    """The rows of each class in their order; the first is `before`."""
    names, numbers = np.unique(labels, return_inverse=True)
    rows = np.split(np.argsort(numbers, kind="stable") + before, np.cumsum(np.bincount(numbers))[:-1])
    return {str(name): part for name, part in zip(names, rows, strict=True)}


def _common_dtype(arrays: Mapping[str, np.ndarray], path: Path) -> np.dtype:
    """What examples are read as: float32, or int32 where all are whole numbers."""
    first, *others = arrays
    kinds = {name: (array.dtype.kind == "f", array.shape[1:]) for name, array in arrays.items()}
    for name in others:
        if kinds[name] != kinds[first]:
            both = (f"{n} has {arrays[n].dtype} {arrays[n].shape[1:]}" for n in (first, name))
            raise UserError(f"{path}: {', '.join(both)}: give all examples one shape, and whole numbers or others")
    return np.dtype(np.float32 if kinds[first][0] else np.int32)


def _pool(groups: Mapping[str, _Classes]) -> _Classes:
    """All classes; one that is in several splits is one class."""
    pool: dict[str, list[np.ndarray]] = {}
    for classes in groups.values():
        for name, rows in classes.items():
            pool.setdefault(name, []).append(rows)
    return {name: np.concatenate(rows) for name, rows in pool.items()}


def _scan(examples: Examples, path: str | os.PathLike[str]) -> np.ndarray:
    """Checks every example, and gives its hash."""
    hashes = np.zeros(len(examples), np.uint64)
    for rows, raw in examples.chunks(np.arange(len(examples)), raw=True):
        with np.errstate(over="ignore"):
            part = raw.astype(examples.dtype)
        same = part == raw if examples.dtype.kind == "i" else np.isfinite(part)
        good = same.all(axis=tuple(range(1, part.ndim)))
        if not good.all():
            problem = "has whole numbers beyond int32" if examples.dtype.kind == "i" else "has NaN or infinite numbers"
            raise UserError(f"{path}: {examples.origin(int(rows[good.argmin()]))} {problem}: mend or remove it")
        hashes[rows] = [digest(example) for example in part]
    return hashes


def _bank(
    examples: Examples, classes: _Classes, name: str, hashes: np.ndarray, by_fractions: bool = False
) -> ArrayBank:
    rows = np.concatenate([np.zeros(0, np.int64), *classes.values()])
    offsets = np.cumsum([0, *map(len, classes.values())])
    inputs = ArrayFormat(examples.shape, examples.dtype.name)
    return ArrayBank(examples, rows, offsets, tuple(classes), name, inputs, hashes, by_fractions)


def _scaled(bank: ArrayBank) -> ArrayFormat:
    """The format of a bank that brings its features to mean 0 and deviation 1; whole numbers stay."""
    if bank.dtype.kind == "i":
        return bank.inputs
    count, mean, squares = 0, np.zeros(bank.shape[-1]), np.zeros(bank.shape[-1])
    for _, part in bank.examples.chunks(bank.rows):
        flat = part.reshape(-1, bank.shape[-1]).astype(np.float64)
        # Sums of squares around each part's own mean, joined: no digits are lost to a mean far from 0.
        shift, total = flat.mean(0) - mean, count + len(flat)
        squares += ((flat - flat.mean(0)) ** 2).sum(0) + shift**2 * count * len(flat) / total
        mean, count = mean + shift * len(flat) / total, total
    std = np.sqrt(squares / max(count, 1))
    std[std <= 1e-6 * np.abs(mean)] = 1.0  # a feature that is always the same, but for rounding
    std[std == 0] = 1.0
    means, deviations = (tuple(map(float, values.astype(np.float32))) for values in (mean, std))
    return dataclasses.replace(bank.inputs, mean=means, std=deviations)
