"""Fixtures of the data tests: a cache of each test's own, small banks, trees of pictures, real Omniglot."""

import io
import os
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


def png(image) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(name="png")
def png_fixture():
    return png


@pytest.fixture
def make_tree():
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
