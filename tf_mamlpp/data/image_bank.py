"""Banks of pictures: uint8, class by class, decoded once and memory-mapped from a cache ever after."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_mamlpp.data.images import decode_file, resize, to_channels
from tf_mamlpp.data.progress import Progress
from tf_mamlpp.errors import UserError

_FORMAT = 1  # raise when the cache's layout, or how pictures are decoded or resized, changes
_CHUNK = 256  # pictures resized at once
_IMAGES, _INDEX = "images.npy", "index.json"


@dataclass(frozen=True)
class ImageBank:
    """The pictures of one split.

    Attributes:
        images: uint8 [pictures, H, W, C], class by class.
        offsets: int64 [classes + 1]; class c's pictures are rows offsets[c] to offsets[c + 1] - 1.
        class_names: one name a class.
        name: source and split, for example "omniglot train".
    """

    images: np.ndarray
    offsets: np.ndarray
    class_names: tuple[str, ...]
    name: str

    @property
    def source(self) -> str:
        """The source part of the name, for example "omniglot"."""
        return self.name.rpartition(" ")[0]


@dataclass(frozen=True)
class Pictures:
    """Pictures that are listed but not yet decoded.

    Attributes:
        class_names: one name a class.
        counts: how many pictures each class has.
        read: gives (class number, the picture's name for errors, content) of every picture, in any order of
            classes; the content is an encoded file, or a decoded uint8 array [H, W] or [H, W, C].
    """

    class_names: tuple[str, ...]
    counts: tuple[int, ...]
    read: Callable[[], Iterator[tuple[int, str, bytes | np.ndarray]]]


def cache_root(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The cache folder: the argument, else the environment's TF_MAMLPP_CACHE, else ~/.cache/tf_mamlpp."""
    return Path(cache_dir or os.environ.get("TF_MAMLPP_CACHE") or "~/.cache/tf_mamlpp").expanduser()


def build_or_load(
    key: str,
    open_pictures: Callable[[], Pictures],
    *,
    name: str,
    image_size: tuple[int, int],
    channels: int,
    cache_dir: str | os.PathLike[str] | None = None,
) -> ImageBank:
    """Loads a bank from the cache; decodes it into the cache first where it is missing or damaged.

    Args:
        key: identifies the pictures' content; any change of the source must change it.
        open_pictures: lists the pictures; called only when they must be decoded.
        name: source and split, for example "omniglot train".
        image_size: height and width in pixels.
        channels: 1 for grey, 3 for RGB.
        cache_dir: the cache folder; see `cache_root`.

    Returns:
        The bank, its images memory-mapped read-only.

    Raises:
        UserError: a picture is corrupt, or the cache folder cannot be written.
    """
    identity = json.dumps([_FORMAT, key, name, list(image_size), channels])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:20]
    folder = cache_root(cache_dir) / f"{name.replace(' ', '-').replace(':', '-').replace('/', '-')}-{digest}"
    bank = _load(folder, name)
    if bank is None:
        try:
            _build(folder, open_pictures(), name, image_size, channels)
        except OSError as error:
            advice = "free some space or set TF_MAMLPP_CACHE to another folder"
            raise UserError(f"{folder.parent}: cannot write the picture cache ({error}); {advice}") from error
        bank = _load(folder, name)
    if bank is None:
        raise UserError(f"{folder}: the cache is unreadable just after it was written; check the disk")
    return bank


def _load(folder: Path, name: str) -> ImageBank | None:
    """The cached bank, or None if it is missing or damaged in any way that its length or index shows."""
    try:
        index = json.loads((folder / _INDEX).read_text())
        offsets = np.asarray(index["offsets"], np.int64)
        images = np.lib.format.open_memmap(folder / _IMAGES, mode="r")
        names = tuple(index["class_names"])
        whole = (folder / _IMAGES).stat().st_size == images.offset + images.nbytes
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    if not whole or images.dtype != np.uint8 or len(offsets) != len(names) + 1 or offsets[-1] != len(images):
        return None
    return ImageBank(np.asarray(images), offsets, names, name)  # a plain view: np.memmap slows every gather


def _build(folder: Path, pictures: Pictures, name: str, image_size: tuple[int, int], channels: int) -> None:
    """Decodes into a temporary folder and renames it to `folder`, so that nobody ever sees half a cache."""
    building = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    building.mkdir(parents=True)
    try:
        offsets = np.concatenate([[0], np.cumsum(pictures.counts, dtype=np.int64)])
        images = np.lib.format.open_memmap(
            building / _IMAGES, mode="w+", dtype=np.uint8, shape=(int(offsets[-1]), *image_size, channels)
        )
        with Progress(f"decoding {name}", len(images)) as progress:
            for rows, decoded in _decoded_chunks(pictures, offsets, channels):
                with tf.device("/cpu:0"):
                    images[rows] = tf.cast(resize(decoded, image_size), tf.uint8).numpy()
                progress.add(len(rows))
        images.flush()
        index = {"class_names": pictures.class_names, "offsets": offsets.tolist()}
        (building / _INDEX).write_text(json.dumps(index))
        _publish(building, folder, name)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _decoded_chunks(pictures: Pictures, offsets: np.ndarray, channels: int) -> Iterator[tuple[list[int], np.ndarray]]:
    """Runs of pictures of one shape, stacked, with the rows of the bank they belong to."""
    free = offsets[:-1].copy()
    rows: list[int] = []
    run: list[np.ndarray] = []
    for class_number, name, content in pictures.read():
        if isinstance(content, bytes):
            image = decode_file(content, channels, name)
        else:
            image = to_channels(content, channels)
        if run and (len(run) == _CHUNK or image.shape != run[0].shape):
            yield rows, np.stack(run)
            rows, run = [], []
        rows.append(int(free[class_number]))
        run.append(image)
        free[class_number] += 1
    if run:
        yield rows, np.stack(run)


def _publish(building: Path, folder: Path, name: str) -> None:
    """Renames `building` to `folder`; a whole cache that another process put there meanwhile is as good."""
    while True:
        try:
            os.replace(building, folder)
            return
        except OSError:
            if not folder.exists():
                raise
            if _load(folder, name) is not None:
                return
            shutil.rmtree(folder)
