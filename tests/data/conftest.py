"""Fixtures of the data tests: a cache for each test, small banks, pictures as bytes and in trees, real Omniglot."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tf_mamlpp.data import ImageBank


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_MAMLPP_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("shared_cache")


@pytest.fixture
def numbered_bank():
    """Five classes of 4 to 8 pictures, every pixel of a picture being the picture's row."""
    counts = [4, 5, 6, 7, 8]
    images = np.arange(sum(counts), dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    return ImageBank(images, np.cumsum([0, *counts]), tuple("abcde"), "numbered train")


def _encoded(image, form, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def encoded():
    """A picture of Pillow as the bytes of a file: encoded(image, "JPEG", quality=60)."""
    return _encoded


@pytest.fixture(scope="session")
def png():
    """An array as the bytes of a PNG: png(pixels)."""
    return lambda pixels: _encoded(Image.fromarray(pixels), "PNG")


def _chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@pytest.fixture(scope="session")
def png_chunk():
    """A part of a PNG with its length and checksum: png_chunk(b"tRNS", content)."""
    return _chunk


@pytest.fixture(scope="session")
def raw_png():
    """A PNG that declares a size, bits and kind, whatever its rows are: raw_png(width, height, bits, kind, rows)."""

    def make(width, height, bits, kind, rows, before_rows=b""):
        header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
        pixels = _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + header + before_rows + pixels

    return make


@pytest.fixture
def make_tree(png):
    """Writes random RGB pictures of several sizes: make_tree(root, {class name: count})."""

    def make(root: Path, classes: dict[str, int]) -> Path:
        generator = np.random.default_rng(0)
        for name, count in classes.items():
            (root / name).mkdir(parents=True)
            for number in range(count):
                image = generator.integers(0, 256, (10 + number, 12, 3), dtype=np.uint8)
                (root / name / f"{number:02}.png").write_bytes(png(image))
        return root

    return make


def _real(folder: str, file: str, what: str) -> Path:
    root = Path(os.environ.get("TF_MAMLPP_DATA") or Path(__file__).parents[2] / ".." / "shared" / "data") / folder
    if not any(root.glob(file)):
        pytest.skip(f"needs {what} in {root}")
    return root


@pytest.fixture(scope="session")
def real_omniglot():
    return _real("omniglot", "images_background.zip", "the official Omniglot archives")


@pytest.fixture(scope="session")
def real_mini_imagenet():
    return _real("mini_imagenet", "train*.tar.gz", "the archives of mini-ImageNet")
