"""A file that is replaced by one of the same size and time is decoded anew, in every source."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tf_mamlpp.data import load_banks
from tf_mamlpp.data.picture_files import file_state
from tf_mamlpp.data.sources import tfds
from tf_mamlpp.data.sources.mini_imagenet import mini_imagenet_splits
from tf_mamlpp.data.sources.omniglot import _state


def copied(new, file):
    """As `cp -p` does."""
    shutil.copy2(new, file)


def synchronised(new, file):
    """As `rsync -a` does: a new file of the old one's name."""
    part = file.with_name(".part")
    shutil.copy2(new, part)
    os.replace(part, file)


def renamed(new, file):
    """As `mv` does."""
    os.replace(new, file)


WAYS = pytest.mark.parametrize("replace", [copied, synchronised, renamed])


def same_but_content(file, new, content):
    """A file of other content, but of the same size and time."""
    new.write_bytes(content)
    found = file.stat()
    os.utime(new, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert new.stat().st_size == found.st_size
    return new


@WAYS
def test_pictures_of_a_folder(tmp_path, replace):
    for number, name in enumerate("abcde"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(tmp_path / "tree" / name / "0.bmp")
    load_banks("image_folder", tmp_path / "tree", image_size=(8, 8))
    file = tmp_path / "tree" / "a" / "0.bmp"
    Image.fromarray(np.full((8, 8), 77, np.uint8)).save(tmp_path / "other.bmp")
    new = same_but_content(file, tmp_path / "new.bmp", (tmp_path / "other.bmp").read_bytes())
    mtime = file.stat().st_mtime_ns
    replace(new, file)
    assert file.stat().st_mtime_ns == mtime
    banks = load_banks("image_folder", tmp_path / "tree", image_size=(8, 8))
    assert sum(int((bank.images == 77).all(axis=(1, 2, 3)).sum()) for bank in banks.values()) == 1


@WAYS
def test_archives(tmp_path, replace):
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.tar.gz").write_bytes(b"one")
    (tmp_path / "images_background.zip").write_bytes(b"one")
    for file, key in (
        (tmp_path / "val.tar.gz", lambda: mini_imagenet_splits(tmp_path)["validation"][0]),
        (tmp_path / "images_background.zip", lambda: _state(tmp_path / "images_background.zip", {})),
    ):
        before = key()
        assert key() == before
        replace(same_but_content(file, tmp_path / "new", b"two"), file)
        assert key() != before


@WAYS
def test_files_of_tensorflow_datasets(tmp_path, replace):
    file = tmp_path / "pets-train.tfrecord-00000-of-00001"
    file.write_bytes(b"one")

    class Split:
        num_examples, num_bytes, filepaths = 1, 3, [file]

    class Builder:
        data_dir = tmp_path

        class info:
            full_name, splits = "pets/1.0.0", {"train": Split}

    before = tfds._identity(Builder)
    assert tfds._identity(Builder) == before
    replace(same_but_content(file, tmp_path / "new", b"two"), file)
    assert tfds._identity(Builder) != before


def test_what_does_not_change_a_file_keeps_its_state(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"one")
    before = file_state(os.stat(file))
    file.read_bytes()
    os.rename(tmp_path / "a.png", tmp_path / "a.png")
    assert file_state(os.stat(file)) == before
