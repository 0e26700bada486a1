"""Loading the sources of pictures by name, through the cache of decoded pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import cast

from tf_mamlpp.data.image_bank import ImageBank
from tf_mamlpp.data.listed_banks import listed_banks, listed_pool
from tf_mamlpp.data.picture_reader import PictureReader
from tf_mamlpp.data.pixel_defaults import pixel_format
from tf_mamlpp.data.sources.glyphs import glyph_splits
from tf_mamlpp.data.sources.image_folder import folder_splits
from tf_mamlpp.data.sources.listing import Splits
from tf_mamlpp.data.sources.mini_imagenet import mini_imagenet_splits
from tf_mamlpp.data.sources.omniglot import omniglot_splits
from tf_mamlpp.data.sources.splits import FRACTIONS
from tf_mamlpp.data.sources.tfds import tfds_splits
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import expanded

NAMES = ("glyphs", "omniglot", "mini_imagenet", "image_folder", "tfds:<name>")


def load_pictures(
    name: str,
    path: str | os.PathLike[str] | None,
    *,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    resize: str = "stretch",
    split_seed: int = 0,
    split_fractions: Sequence[float] = FRACTIONS,
    split_file: str | os.PathLike[str] | None = None,
    skip_damaged: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> dict[str, ImageBank]:
    """Loads a source of pictures, decoding them into the cache the first time; see `load_banks`.

    Example:
        >>> banks = load_pictures("glyphs", None)
        >>> banks["train"].shape, banks["train"].inputs.mean
        ((28, 28, 1), (1.0,))
    """
    reader = _reader(name, image_size, channels, resize)
    splits = _open_source(name, path, split_seed, split_fractions, split_file)
    banks = listed_banks(splits, reader, name=name, skip_damaged=skip_damaged, cache_dir=cache_dir)
    return cast(dict[str, ImageBank], banks)


def load_picture_pool(
    name: str,
    path: str | os.PathLike[str] | None,
    *,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    resize: str = "stretch",
    split_file: str | os.PathLike[str] | None = None,
    skip_damaged: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> ImageBank:
    """Loads all pictures of a source as one bank; see `load_pool`.

    Example:
        >>> load_picture_pool("glyphs", None).name
        'glyphs all'
    """
    reader = _reader(name, image_size, channels, resize)
    has_own = name in ("glyphs", "omniglot", "mini_imagenet") or split_file is not None
    fractions = FRACTIONS if has_own else (1.0, 0.0, 0.0)  # else too few classes could not be divided
    splits = _open_source(name, path, 0, fractions, split_file)
    return cast(ImageBank, listed_pool(splits, reader, name=name, skip_damaged=skip_damaged, cache_dir=cache_dir))


def _reader(name: str, image_size: tuple[int, int] | None, channels: int | None, resize: str) -> PictureReader:
    """For the size and channels, or the source's usual ones where none are given."""
    usual_size, usual_channels = pixel_format(name)
    channels = channels or usual_channels
    if channels not in (1, 3):
        raise UserError(f"channels={channels}: must be 1 (grey) or 3 (RGB)")
    return PictureReader(image_size or usual_size, channels, resize)


def _open_source(
    name: str,
    path: str | os.PathLike[str] | None,
    split_seed: int,
    split_fractions: Sequence[float],
    split_file: str | os.PathLike[str] | None,
) -> Splits:
    if split_file is not None and name in ("glyphs", "mini_imagenet"):
        raise UserError(f"data source {name!r} has splits of its own: it takes no split file")
    if tuple(split_fractions) != FRACTIONS:
        if name in ("glyphs", "omniglot", "mini_imagenet"):
            raise UserError(f"data source {name!r} has splits of its own: it takes no split fractions")
        if split_file is not None:
            raise UserError("split fractions and a split file contradict: choose one")
    if name == "glyphs":
        return glyph_splits()
    try:
        return _open_files(name, path, split_seed, split_fractions, split_file)
    except OSError as error:
        raise UserError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from error


def _open_files(
    name: str,
    path: str | os.PathLike[str] | None,
    split_seed: int,
    split_fractions: Sequence[float],
    split_file: str | os.PathLike[str] | None,
) -> Splits:
    if name.startswith("tfds:"):
        return tfds_splits(name, path, split_seed, split_file, split_fractions)
    if name not in NAMES:
        raise UserError(f"unknown data source {name!r}; known are {', '.join(NAMES)}")
    if path is None:
        raise UserError(f"data source {name!r} needs a path: the folder that holds its pictures")
    folder = expanded(path)
    if name == "mini_imagenet":
        return mini_imagenet_splits(folder)
    if name == "omniglot":
        return omniglot_splits(folder, split_seed, split_file)
    return folder_splits(folder, split_seed, split_file, split_fractions)
