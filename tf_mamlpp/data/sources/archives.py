"""Reading .tar.gz and .zip archives in memory, nothing unpacked, with no trust in what they hold."""

from __future__ import annotations

import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from tf_mamlpp.errors import UserError

# Pictures are compressed already: an archive that unpacks to far more than its size is made to exhaust memory.
_MOST_GROWTH = 10  # unpacked bytes a packed byte, beside these:
_GRACE = 64 << 20  # bytes, because in small archives of small pictures the headers are most of the content
_MOST_BYTES = 64 << 20  # of one file

# What Python's readers raise on a damaged archive.
_DAMAGED = (
    *(OSError, EOFError, ValueError, ArithmeticError, RuntimeError, LookupError, struct.error),
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)


def members(archive: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Every file of a .tar.gz archive, in the order in which they are stored; nothing is unpacked to disk.

    Args:
        archive: path of the archive.

    Yields:
        A file's path inside the archive and its content.

    Raises:
        UserError: the archive is no .tar.gz archive, or is truncated or damaged; or it holds a link, a device, a sparse
            file or a path that leads out of it, or unpacks to far more than its size.

    Example:
        >>> (tmp_path / "cat.jpg").write_bytes(b"pixels")
        6
        >>> with tarfile.open(tmp_path / "train.tar.gz", "w:gz") as archive:
        ...     archive.add(tmp_path / "cat.jpg", "train/cats/cat.jpg")
        >>> [(str(name), content) for name, content in members(tmp_path / "train.tar.gz")]
        [('train/cats/cat.jpg', b'pixels')]
    """
    _check_file(archive)
    try:
        limit = _limit(archive)
        with gzip.open(archive) as unzipped:
            bounded = _Bounded(archive, unzipped, limit)
            with tarfile.open(fileobj=bounded, mode="r|") as opened:  # type: ignore[call-overload]
                for member in opened:
                    # A sparse file unpacks to bytes that the archive does not hold, and `_Bounded` does not see.
                    plain = member.isdir() or (member.isfile() and not member.issparse())
                    _check_member(archive, member.name, plain, member.size)
                    if member.isfile():
                        content = opened.extractfile(member)
                        assert content is not None  # it is a file
                        yield PurePosixPath(member.name), content.read()
                    opened.members = []  # else it keeps every header in memory
            while bounded.read(1 << 20):  # up to the end, because gzip's checksum is there
                pass
    except UserError:
        raise
    except _DAMAGED as error:
        raise UserError(f"{archive}: truncated, damaged, or not a .tar.gz archive ({error}); fetch it again") from error


def open_zip(archive: Path) -> zipfile.ZipFile:
    """Opens a .zip archive.

    Args:
        archive: path of the archive.

    Returns:
        The archive, to be closed by the caller.

    Raises:
        UserError: it is truncated or no .zip archive, holds what `members` refuses too, or holds two files of one name.

    Example:
        >>> with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        ...     archive.writestr("greek/alpha/1.png", b"pixels")
        >>> with open_zip(tmp_path / "images.zip") as opened:
        ...     opened.namelist()
        ['greek/alpha/1.png']
    """
    _check_file(archive)
    try:
        opened = zipfile.ZipFile(archive)
    except _DAMAGED as error:
        raise UserError(f"{archive}: truncated, or not a zip archive ({error}); fetch it again") from error
    total, names = 0, set[str]()
    try:
        for info in opened.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 in archives that were not made on Unix
            _check_member(archive, info.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR), info.file_size)
            total += info.file_size
            if info.filename in names:
                raise UserError(f"{archive}: holds {info.filename[:100]!r} twice; fetch it again")
            names.add(info.filename)
        if total > _limit(archive):
            raise _grows(archive)
    except UserError:
        opened.close()
        raise
    return opened


def read_zipped(opened: zipfile.ZipFile, member: str) -> bytes:
    """The content of a file of an opened .zip archive.

    Args:
        opened: what `open_zip` returns.
        member: path of the file inside the archive.

    Raises:
        UserError: the file is damaged; names it.

    Example:
        >>> with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        ...     archive.writestr("greek/alpha/1.png", b"pixels")
        >>> with open_zip(tmp_path / "images.zip") as opened:
        ...     read_zipped(opened, "greek/alpha/1.png")
        b'pixels'
    """
    try:
        return opened.read(member)
    except _DAMAGED as error:
        raise UserError(f"{opened.filename}/{member}: damaged ({error}); fetch the archive again") from error


def _check_file(archive: Path) -> None:
    """Refuses a folder, and a pipe or a device, whose reading may never end."""
    if not archive.is_file():
        raise UserError(f"{archive}: is no file; fetch it again")


def _limit(archive: Path) -> int:
    """Bytes that an archive may unpack to."""
    return _MOST_GROWTH * archive.stat().st_size + _GRACE


def _grows(archive: Path) -> UserError:
    return UserError(f"{archive}: unpacks to over {_MOST_GROWTH} times its size; no archive of pictures does")


def _check_member(archive: Path, name: str, plain: bool, size: int) -> None:
    """Refuses a member that is no plain file or folder, leads out of the archive or is too large."""
    path, problem = PurePosixPath(name), None
    if not plain:
        problem = "is a link, a device or a sparse file"
    elif path.is_absolute() or ".." in path.parts:
        problem = "leads out of the archive"
    elif size > _MOST_BYTES:
        problem = f"unpacks to {size >> 20} MB"
    if problem:
        raise UserError(f"{archive}: {name[:100]!r} {problem}; no archive of pictures does: fetch it again")


class _Bounded:
    """Reads from a stream, up to a limit of bytes."""

    def __init__(self, archive: Path, stream: Any, limit: int) -> None:
        self._archive, self._stream, self._left = archive, stream, limit

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise _grows(self._archive)
        return content
