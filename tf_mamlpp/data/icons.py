"""The sizes of the pictures in a Windows icon, read before any of them is decoded.  Imports no TensorFlow."""

from __future__ import annotations

import struct
from typing import BinaryIO

_PNG = b"\x89PNG\r\n\x1a\n"
_OLD_HEADER = 12  # bytes; its sizes have 16 bits


def icon_sizes(file: BinaryIO) -> list[tuple[int, int]]:
    """Width and height of each picture in an icon; none for a file of another kind.

    The list at the icon's beginning says at most 256 x 256, and Pillow decodes while it opens the file; what counts is
    said by the pictures themselves, each of which is a PNG or a BMP.

    Args:
        file: opened to be read; is put back to its beginning.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> Image.new("L", (40, 30)).save(tmp_path / "a.ico", sizes=[(40, 30), (16, 12)])
        >>> with open(tmp_path / "a.ico", "rb") as file:
        ...     sorted(icon_sizes(file))
        [(16, 12), (40, 30)]
        >>> icon_sizes(io.BytesIO(b"no icon"))
        []
    """
    header = file.read(6)
    sizes = []
    if header[:4] == b"\0\0\1\0" and len(header) == 6:
        entries = file.read(16 * struct.unpack("<H", header[4:])[0])
        for start in range(0, len(entries) - 15, 16):
            file.seek(*struct.unpack("<I", entries[start + 12 : start + 16]))
            sizes.append(_size(file.read(24)))
    file.seek(0)
    return sizes


def _size(content: bytes) -> tuple[int, int]:
    """The size that a PNG's or a BMP's first bytes declare."""
    content = content.ljust(24, b"\0")
    if content.startswith(_PNG):
        width, height = struct.unpack(">II", content[16:24])
        return width, height
    if struct.unpack("<I", content[:4])[0] == _OLD_HEADER:
        width, height = struct.unpack("<HH", content[4:8])
    else:
        width, height = struct.unpack("<ii", content[4:12])
    return abs(width), abs(height) // 2  # the picture and its mask
