"""Files of arrays: `.npz`, and folders of `.npy`, which are memory-mapped.  Imports no TensorFlow."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tf_mamlpp.data.sources.split_folders import split_named
from tf_mamlpp.data.sources.splits import SPLITS
from tf_mamlpp.errors import UserError, reason

EXPECTED = (
    "expected a .npz file, or a folder of .npy files, with the arrays inputs and labels or an array for each class"
)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file, or of a folder of `.npy` files, memory-mapped, by their names and sorted by them.

    Args:
        path: of the file or folder.

    Raises:
        UserError: there is none, it has no arrays, or one cannot be read; arrays of Python objects are never read.

    Example:
        >>> np.savez(tmp_path / "data.npz", ant=np.zeros((2, 3)), bee=np.ones((4, 3)))
        >>> {name: array.shape for name, array in read_arrays(tmp_path / "data.npz").items()}
        {'ant': (2, 3), 'bee': (4, 3)}
    """
    if path.is_dir():
        files = sorted(path.glob("*.npy"))
        found = {file.stem: read_array(file) for file in files}
    elif path.is_file():
        found = _unpacked(path)
    else:
        raise UserError(f"{path}: no such file or folder; {EXPECTED}")
    if not found:
        raise UserError(f"{path}: has no arrays; {EXPECTED}")
    return dict(sorted(found.items()))


def read_array(file: Path) -> np.ndarray:
    """The array of a `.npy` file, memory-mapped.

    Raises:
        UserError: it cannot be read; an array of Python objects is never read.

    Example:
        >>> np.save(tmp_path / "labels.npy", [3, 4])
        >>> read_array(tmp_path / "labels.npy").tolist()
        [3, 4]
        >>> np.save(tmp_path / "things.npy", [{}, None])
        >>> read_array(tmp_path / "things.npy")
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: ...things.npy: cannot be read (it holds Python objects, which are never read: ...
    """
    try:
        # Unlike `np.load`, it takes no pickle at all.  A plain view: np.memmap slows every gather.
        return np.asarray(np.lib.format.open_memmap(file, mode="r"))
    except Exception as error:  # a damaged file raises nearly anything
        raise UserError(_unreadable(f"{file}", error)) from error


def _unpacked(file: Path) -> dict[str, np.ndarray]:
    if file.suffix == ".npy":
        raise UserError(f"{file}: is one array; {EXPECTED}")
    name = ""
    try:
        with np.load(file, allow_pickle=False) as opened:
            if not isinstance(opened, np.lib.npyio.NpzFile):
                raise ValueError("it is no .npz file")
            arrays = {}
            for name in opened.files:
                arrays[name] = opened[name]
                if not isinstance(arrays[name], np.ndarray):
                    raise ValueError("it is no array")
            return arrays
    except MemoryError as error:
        advice = "unpack it to a folder of .npy files, which are memory-mapped"
        raise UserError(f"{file}: {name} does not fit into memory: {advice}") from error
    except Exception as error:  # a damaged archive raises nearly anything
        raise UserError(_unreadable(f"{file}: {name}" if name else f"{file}", error)) from error


def _unreadable(what: str, error: Exception) -> str:
    text = reason(error)
    if "pickle" in text.lower() or "python objects" in text.lower():
        text = "it holds Python objects, which are never read: save numbers, such as np.stack(rows)"
    return f"{what}: cannot be read ({text})"


def split_paths(path: Path) -> dict[str, Path] | None:
    """The files or folders of each split in a folder, such as `train.npz`, `val.npz`, `test.npz`; None without any.

    Args:
        path: of a source.

    Raises:
        UserError: some look like splits, and there is not one for each.

    Example:
        >>> for name in ("train", "val", "test"):
        ...     (tmp_path / f"{name}.npz").touch()
        >>> {split: file.name for split, file in split_paths(tmp_path).items()}
        {'train': 'train.npz', 'validation': 'val.npz', 'test': 'test.npz'}
    """
    if not path.is_dir():
        return None
    found: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for entry in sorted(path.iterdir()):
        split = split_named(entry.stem)
        if split and (entry.suffix == ".npz" or entry.is_dir()):
            found[split].append(entry)
    if not any(found.values()):
        return None
    if any(len(entries) != 1 for entries in found.values()):
        seen = ", ".join(entry.name for entries in found.values() for entry in entries)
        raise UserError(f"{path}: {seen} look like splits, but it needs one of each: train, val and test")
    return {split: entries[0] for split, entries in found.items()}
