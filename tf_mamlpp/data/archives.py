"""Reading .tar.gz archives in memory, nothing unpacked, with no trust in what they hold."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from tf_mamlpp.errors import UserError

# Pictures are compressed already: an archive that grows much more than this is made to exhaust memory or patience.
_GROWTH = 10
_GRACE = 64 << 20  # bytes, for small archives of small pictures, where headers weigh most
_LARGEST = 64 << 20  # bytes of one file


def members(archive: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Every file of a .tar.gz archive in the order in which it is stored: its path inside and its content.

    Raises:
        UserError: the archive is no such archive, truncated or damaged; or it holds a link, a device, a path that
            leads out of it, or far more than its size lets expect.
    """
    try:
        limit = _GROWTH * archive.stat().st_size + _GRACE
        with gzip.open(archive) as unzipped:
            bounded = _Bounded(archive, unzipped, limit)
            with tarfile.open(fileobj=bounded, mode="r|") as opened:  # type: ignore[call-overload]
                for member in opened:
                    _check(archive, member)
                    if member.isfile():
                        content = opened.extractfile(member)
                        assert content is not None  # it is a file
                        yield PurePosixPath(member.name), content.read()
                    opened.members = []  # would keep every header
            while bounded.read(1 << 20):  # to the end, where gzip's checksum is
                pass
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise UserError(f"{archive}: truncated, damaged, or not a .tar.gz archive ({error}); fetch it again") from error


def _check(archive: Path, member: tarfile.TarInfo) -> None:
    path, problem = PurePosixPath(member.name), None
    if not member.isfile() and not member.isdir():
        problem = "is a link or a device"
    elif path.is_absolute() or ".." in path.parts:
        problem = "leads out of the archive"
    elif member.size > _LARGEST:
        problem = f"unpacks to {member.size >> 20} MB"
    if problem:
        raise UserError(f"{archive}: {member.name[:100]!r} {problem}; no archive of pictures does: fetch it again")


class _Bounded:
    """Reads from a stream, up to a limit."""

    def __init__(self, archive: Path, stream: Any, limit: int) -> None:
        self._archive, self._stream, self._left = archive, stream, limit

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise UserError(f"{self._archive}: unpacks to over {_GROWTH} times its size; no archive of pictures does")
        return content
