"""Files written whole or not at all, and folders that one process works in.  Imports no TensorFlow."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tf_mamlpp.errors import UserError, reason


@contextlib.contextmanager
def claimed(workdir: Path, busy: str) -> Iterator[None]:
    """Makes the folder if it is missing, and keeps every other process out of it.

    Args:
        workdir: the folder.
        busy: what to say if another process has it.

    Raises:
        UserError: another process has the folder, or it cannot be written.

    Example:
        >>> folder = tmp_path
        >>> with claimed(folder, "in use"):
        ...     with claimed(folder, "in use"):
        ...         pass
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: in use
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = open(workdir / ".lock", "w")
    except OSError as error:
        raise UserError(f"workdir '{workdir}' cannot be written: {error.strerror}; choose another") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(busy) from None
        yield


def expanded(path: str | os.PathLike[str], mend: str = "give a path without '~'") -> Path:
    """A path, with the home folder in place of a leading `~` or `~user`.

    Args:
        path: as the user gave it.
        mend: what to do where there is no home folder.

    Raises:
        UserError: there is none: neither HOME nor an entry of the user, as in some containers.

    Example:
        >>> expanded("~/pictures") == Path.home() / "pictures"
        True
        >>> expanded("~no-such-user/pictures")
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: '~no-such-user/pictures': no home folder is known for it; give a path without '~'
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"'{path}': no home folder is known for it; {mend}") from error


@contextlib.contextmanager
def plain_path(folder: Path) -> Iterator[str]:
    """A path to a folder that TensorFlow takes as it is.

    TensorFlow reads the path of a checkpoint or of a SavedModel as a pattern, in which `*`, `?`, `[` and a backslash
    mean something else, and it takes no path that is not UTF-8.  A folder whose path is of this kind gets a temporary
    link; any other keeps its own path.

    Args:
        folder: that exists.

    Yields:
        The path to give to TensorFlow; a link lasts as long as the context.

    Raises:
        UserError: the link cannot be made.

    Example:
        >>> folder = tmp_path / "run [1]"
        >>> folder.mkdir()
        >>> with plain_path(folder) as path:
        ...     "[" in path, os.path.samefile(path, folder)
        (False, True)
    """
    problem = pattern_problem(folder)
    if not problem:
        yield str(folder)
        return
    places = [place for place in (tempfile.gettempdir(), "/tmp", "/var/tmp") if not pattern_problem(Path(place))]
    try:
        # Not `TemporaryDirectory`: what cannot be deleted of it would replace the error under way.
        place = tempfile.mkdtemp(prefix="tf_mamlpp-", dir=places[0] if places else None)
        link = os.path.join(place, "link")
        os.symlink(folder.absolute(), link, target_is_directory=True)
    except OSError as error:
        raise UserError(
            f"'{folder}' {problem}, and no link to it can be made ({reason(error)}): rename it, or set TMPDIR to a "
            "folder that can be written"
        ) from error
    try:
        yield link
    finally:
        with contextlib.suppress(OSError):
            os.unlink(link)
            os.rmdir(place)


def pattern_problem(path: Path) -> str | None:
    """What keeps TensorFlow from taking a path as it is; None if nothing does.

    Example:
        >>> pattern_problem(Path("runs/what?"))
        "has '?' in its path, which TensorFlow takes for a pattern"
    """
    text = str(path.absolute())
    for character in "*?[\\":
        if character in text:
            return f"has '{character}' in its path, which TensorFlow takes for a pattern"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "has bytes in its path that are not UTF-8, which TensorFlow does not take"
    return None


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to; what was written takes the name `path` at the end, whole, or is deleted after an error.

    Args:
        path: the file to make or replace; its folder exists.

    Yields:
        The temporary path beside it.

    Raises:
        OSError: it cannot be written.

    Example:
        >>> file = tmp_path / "numbers.txt"
        >>> with whole_file(file) as part:
        ...     _ = part.write_text("1 2 3")
        >>> file.read_text()
        '1 2 3'
    """
    if not path.name:  # such as "."
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    part = path.with_name(f".{path.name}-{os.getpid()}.part")
    try:
        yield part
        with open(part, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):  # the error under way says more
            part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all.

    Example:
        >>> file = tmp_path / "report.md"
        >>> write_text(file, "# Report")
        >>> file.read_text()
        '# Report'
    """
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes JSON whole or not at all.

    Example:
        >>> file = tmp_path / "results.json"
        >>> write_json(file, {"accuracy": 0.5})
        >>> json.loads(file.read_text())
        {'accuracy': 0.5}
    """
    write_text(path, json.dumps(value, indent=2) + "\n")


@contextlib.contextmanager
def temporary_folder_beside(folder: Path) -> Iterator[Path]:
    """A new folder on the same disk as `folder`, to be renamed to it; deleted at the end if it is still there.

    Raises:
        OSError: it cannot be made.

    Example:
        >>> wanted = tmp_path / "cache"
        >>> with temporary_folder_beside(wanted) as building:
        ...     os.replace(building, wanted)
        >>> wanted.is_dir()
        True
    """
    # Not mkdtemp, whose folders are private: who may read it is the umask's to say.
    building = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    building.mkdir(parents=True)
    try:
        yield building
    finally:
        shutil.rmtree(building, ignore_errors=True)


def check_new(path: Path, empty_folder: bool = False) -> None:
    """Refuses an output that is there already.

    Args:
        path: of the output, a file or a folder.
        empty_folder: whether it may be an empty folder.

    Raises:
        UserError: naming the path.

    Example:
        >>> check_new(tmp_path, empty_folder=True)
        >>> check_new(tmp_path)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: '...' exists already: choose another output, or remove it
    """
    is_empty_folder = path.is_dir() and not path.is_symlink() and not any(path.iterdir())
    if (path.exists() or path.is_symlink()) and not (empty_folder and is_empty_folder):
        raise UserError(f"'{path}' exists already: choose another output, or remove it")


@contextlib.contextmanager
def new_folder(folder: str | os.PathLike[str], *kinds: type[Exception]) -> Iterator[Path]:
    """A folder to fill, that takes its name when it is complete; nothing is left of one that is not.

    Args:
        folder: must not exist, or be empty.
        kinds: errors that mean that it cannot be written, beside OSError.

    Yields:
        The temporary folder to fill.

    Raises:
        UserError: the folder is taken, or cannot be written.

    Example:
        >>> wanted = tmp_path / "model"
        >>> with new_folder(wanted) as building:
        ...     _ = (building / "weights").write_text("...")
        >>> [file.name for file in wanted.iterdir()]
        ['weights']
    """
    folder = Path(folder)
    failures: tuple[type[Exception], ...] = (OSError, *kinds)
    check_new(folder, empty_folder=True)
    try:
        with temporary_folder_beside(folder) as building:
            yield building
            os.replace(building, folder)
    except failures as error:
        why = getattr(error, "strerror", None) or reason(error)
        raise UserError(f"'{folder}' cannot be written: {why}; choose another output") from error
