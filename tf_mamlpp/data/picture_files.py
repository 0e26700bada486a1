"""Files of examples on disk: which of a tree are pictures or recordings, and reading them.  Imports no TensorFlow."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tf_mamlpp.data.kinds import PICTURES, Kind
from tf_mamlpp.errors import UserError

_MOST_BYTES = 1 << 30  # of one picture's file

_MOST_PATHS = 1000  # to one folder

_Identity = tuple[int, int]  # device and inode, which tell a folder from all others whatever path leads to it


def checked_stat(file: str | os.PathLike[str]) -> os.stat_result:
    """The state of a picture's file, if it is one that can be read safely.

    Raises:
        OSError: the file is missing, is over 1 GiB, or is a folder, a pipe or a device (reading one may never end).

    Example:
        >>> (tmp_path / "cat.png").write_bytes(b"12345")
        5
        >>> checked_stat(tmp_path / "cat.png").st_size
        5
        >>> checked_stat(tmp_path)
        Traceback (most recent call last):
        OSError: it is a folder, a pipe or a device
    """
    found = os.stat(file)
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is a folder, a pipe or a device")
    if found.st_size > _MOST_BYTES:
        raise OSError(f"it has {found.st_size >> 20} MB")
    return found


def file_state(found: os.stat_result) -> tuple[int, int, int]:
    """What changes when a file's content does: its size, and the times of change of content and of file.

    A copy that keeps the time of the content (`cp -p`, `rsync -a`) or a renamed file sets the time of the file, which
    no program can set otherwise.

    Example:
        >>> (tmp_path / "cat.png").write_bytes(b"12345")
        5
        >>> before = file_state(os.stat(tmp_path / "cat.png"))
        >>> os.utime(tmp_path / "cat.png", ns=(0, before[1]))
        >>> after = file_state(os.stat(tmp_path / "cat.png"))
        >>> after[:2] == before[:2], after == before
        (True, False)
    """
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def picture_state(file: str | os.PathLike[str]) -> tuple[int, int, int] | None:
    """The state of a picture's file, see `file_state`; None if it cannot be read, which is told when it is read.

    Example:
        >>> picture_state(tmp_path / "nowhere.png") is None
        True
    """
    try:
        return file_state(checked_stat(file))
    except OSError:
        return None


def read_file(file: str) -> bytes:
    """The content of a picture's file.

    Raises:
        UserError: the file cannot be read; names it.

    Example:
        >>> (tmp_path / "cat.png").write_bytes(b"pixels")
        6
        >>> read_file(str(tmp_path / "cat.png"))
        b'pixels'
    """
    try:
        checked_stat(file)
        return Path(file).read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from error


def class_folders(root: Path, kind: Kind = PICTURES) -> dict[str, list[str]]:
    """The class folders below a folder.

    A class is any folder, at any depth, that holds examples itself.

    Args:
        root: the folder to search; examples that lie in itself are of no class.
        kind: of the examples, whose files are known by the endings of their names.

    Returns:
        For each class, by its path below `root`, the paths of its examples; both sorted. Paths are strings, which take
        less memory than `Path` objects.

    Raises:
        UserError: see `walk`.

    Example:
        >>> for name in ("dogs/large/1.jpg", "cats/2.png", "cats/1.png", "cats/notes.txt"):
        ...     (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        ...     (tmp_path / name).touch()
        >>> {name: [os.path.basename(file) for file in files] for name, files in class_folders(tmp_path).items()}
        {'cats': ['1.png', '2.png'], 'dogs/large': ['1.jpg']}
    """
    classes = {}
    for folder, files in walk(root, kind):
        if files and folder != str(root):
            name = os.path.relpath(folder, root).replace(os.sep, "/")
            classes[name] = [os.path.join(folder, file) for file in files]
    return dict(sorted(classes.items()))


def subfolders(folder: Path) -> list[str]:
    """The paths of a folder's subfolders, sorted, links followed and hidden ones left out.

    Raises:
        UserError: the folder cannot be read.

    Example:
        >>> for name in ("cats", ".git"):
        ...     (tmp_path / name).mkdir()
        >>> [os.path.basename(found) for found in subfolders(tmp_path)]
        ['cats']
    """
    try:
        return [path for path, _ in _content(str(folder), ())[1]]
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be read ({error.strerror})") from error


def walk(root: Path, kind: Kind = PICTURES) -> Iterator[tuple[str, list[str]]]:
    """Every folder of a tree, with the names of the examples that lie in it.

    Links are followed, except for those that lead back up. Hidden files and folders are left out, and so is what macOS
    adds to archives.

    Args:
        root: where the tree begins.
        kind: of the examples.

    Yields:
        The path of a folder and the sorted names of its examples; `root` comes first.

    Raises:
        UserError: a folder cannot be read, or so many links lead to one that the walk would not end.

    Example:
        >>> (tmp_path / "cats").mkdir()
        >>> for name in ("1.png", ".hidden.png", "notes.txt"):
        ...     (tmp_path / "cats" / name).touch()
        >>> [(os.path.basename(folder), names) for folder, names in walk(tmp_path)][1:]
        [('cats', ['1.png'])]
    """
    # Not `os.walk`: it recurses, passes over what it may not read, and never ends where links lead in circles.
    waiting = [(str(root), _identities_above(str(root)))]
    paths = Counter[_Identity]()
    while waiting:
        folder, above = waiting.pop()
        try:
            files, subfolders = _content(folder, kind.suffixes)
            yield folder, files
            for subfolder, is_link in reversed(subfolders):
                identity = _identity(subfolder)
                if identity in above:
                    continue
                paths[identity] += 1
                if paths[identity] > _MOST_PATHS:
                    raise UserError(f"{subfolder}: links make over {_MOST_PATHS} paths to this folder; remove some")
                waiting.append((subfolder, above | (_identities_above(subfolder) if is_link else {identity})))
        except OSError as error:
            raise UserError(f"{error.filename or folder}: cannot be read ({error.strerror})") from error


def _content(folder: str, suffixes: tuple[str, ...]) -> tuple[list[str], list[tuple[str, bool]]]:
    """The names of a folder's examples; the paths of its subfolders, and whether they are links; both sorted."""
    files, subfolders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            is_link = entry.is_symlink()
            if os.path.isdir(entry.path) if is_link else entry.is_dir():
                subfolders.append((entry.path, is_link))
            elif entry.name.lower().endswith(suffixes):
                files.append(entry.name)
    return sorted(files), sorted(subfolders)


def _identity(folder: str | Path) -> _Identity:
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _identities_above(folder: str) -> frozenset[_Identity]:
    """Of a folder itself and of all folders that it lies in, its links resolved."""
    resolved = Path(os.path.realpath(folder))
    return frozenset(_identity(above) for above in (resolved, *resolved.parents))
