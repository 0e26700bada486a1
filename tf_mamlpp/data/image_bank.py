"""Banks of pictures: uint8, class by class, decoded once and memory-mapped from a cache ever after.

A bank's folder in the cache holds `images.npy` (the pixels), `digests.npy` (a hash of each picture),
`index.json` (classes) and `pictures.json` (where each picture came from).
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_mamlpp.data.images import decode_file, to_channels
from tf_mamlpp.data.images import resize as resize_pictures
from tf_mamlpp.data.progress import Progress
from tf_mamlpp.data.sources.listing import Pictures
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import temporary_folder_beside

_FORMAT = 2  # raise when the cache's layout, or how pictures are decoded or resized, changes


_CHUNK = 8 << 20  # bytes of pictures resized at once


_RESIDENT = 24 << 20  # bytes of a bank that may stay in memory


_IMAGES, _DIGESTS, _INDEX, _PICTURES = "images.npy", "digests.npy", "index.json", "pictures.json"


@dataclass(frozen=True)
class ImageBank:
    """The pictures of one split.

    Attributes:
        images: uint8 [pictures, H, W, C], class by class.
        offsets: int64 [classes + 1]; class c's pictures are rows offsets[c] to offsets[c + 1] - 1.
        class_names: one name a class.
        name: source and split, for example "omniglot train".
        folder: where the bank lies in the cache; None for one that was made in memory.
        by_fractions: whether its classes are a fraction of all classes of the source.
    """

    images: np.ndarray
    offsets: np.ndarray
    class_names: tuple[str, ...]
    name: str
    folder: Path | None = None
    by_fractions: bool = False

    @property
    def source(self) -> str:
        """The source part of the name, for example "omniglot"."""
        return self.name.rpartition(" ")[0]

    def take(self, rows: np.ndarray) -> np.ndarray:
        """A copy of the pictures of these rows: uint8 [*rows.shape, H, W, C].

        A large cached bank's pages are given back after every part of `rows`, so that memory does not grow with the
        pictures seen.
        """
        if self.images.nbytes <= _RESIDENT:
            return self.images[rows]
        images = np.empty((*rows.shape, *self.images.shape[1:]), np.uint8)
        for place, part in enumerate(rows):
            images[place] = self.images[part]
            _release(self.images)
        return images


def _release(images: np.ndarray) -> None:
    """Unmaps a memory-mapped array's resident pages; the system's file cache keeps them, so they come back fast."""
    owner: object = images
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


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
    resize: str = "stretch",
    cache_dir: str | os.PathLike[str] | None = None,
) -> ImageBank:
    """Loads a bank from the cache; decodes it into the cache first where it is missing or damaged.

    Args:
        key: identifies the pictures' content; any change of the source must change it.
        open_pictures: lists the pictures; called only when they must be decoded.
        name: source and split, for example "omniglot train".
        image_size: height and width in pixels.
        channels: 1 for grey, 3 for RGB.
        resize: "stretch" or "crop", see `tf_mamlpp.data.resize`.
        cache_dir: the cache folder; see `cache_root`.

    Returns:
        The bank, its images memory-mapped read-only. One without classes is made in memory.

    Raises:
        UserError: a picture is corrupt, or the cache folder cannot be written.
    """
    identity = json.dumps([_FORMAT, key, name, list(image_size), channels, resize])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:20]
    folder = cache_root(cache_dir) / f"{name.replace(' ', '-').replace(':', '-').replace('/', '-')}-{digest}"
    shape = *image_size, channels
    bank = _load(folder, name, shape)
    if bank is None:
        try:
            pictures = open_pictures()
            if not pictures.class_names:  # an empty array cannot be mapped
                images, offsets = np.zeros((0, *shape), np.uint8), np.zeros(1, np.int64)
                return ImageBank(images, offsets, (), name, by_fractions=pictures.by_fractions)
            _build(folder, pictures, name, image_size, channels, resize)
        except OSError as error:
            advice = "free some space or set TF_MAMLPP_CACHE to another folder"
            raise UserError(f"{folder.parent}: cannot write the picture cache ({error}); {advice}") from error
        bank = _load(folder, name, shape)
    if bank is None:
        raise UserError(f"{folder}: the cache is unreadable just after it was written; check the disk")
    return bank


def _load(folder: Path, name: str, shape: tuple[int, ...]) -> ImageBank | None:
    """The cached bank of pictures `[H, W, C]`, or None if it is missing or damaged in any way but in its pixels."""
    try:
        images = np.lib.format.open_memmap(folder / _IMAGES, mode="r")  # unlike `np.load`, it takes no pickle at all
        digests = np.lib.format.open_memmap(folder / _DIGESTS, mode="r")
        index, origins = (json.loads((folder / file).read_text()) for file in (_INDEX, _PICTURES))
        names, offsets = tuple(index["class_names"]), np.array(index["offsets"])
        good = (
            (folder / _IMAGES).stat().st_size == images.offset + images.nbytes
            and (images.dtype, images.shape, images.flags.c_contiguous) == (np.uint8, (len(images), *shape), True)
            and (digests.dtype, digests.shape) == (np.uint64, images.shape[:1])
            and (offsets.dtype, offsets.shape) == (np.int64, (len(names) + 1,))
            and offsets[0] == 0
            and (np.diff(offsets) > 0).all()
            and offsets[-1] == len(images) == len(origins)
            and all(isinstance(text, str) for text in (*names, *origins))
        )
        by_fractions = bool(index.get("by_fractions"))
    except Exception:  # damage makes the readers raise nearly anything
        return None
    # A plain view: np.memmap slows every gather.
    return ImageBank(np.asarray(images), offsets, names, name, folder, by_fractions) if good else None


def _build(
    folder: Path, pictures: Pictures, name: str, image_size: tuple[int, int], channels: int, resize: str
) -> None:
    """Decodes into a temporary folder and renames it to `folder`, so that nobody ever sees half a cache."""
    with temporary_folder_beside(folder) as building:
        offsets = np.concatenate([[0], np.cumsum(pictures.counts, dtype=np.int64)])
        total = int(offsets[-1])
        images = np.lib.format.open_memmap(
            building / _IMAGES, mode="w+", dtype=np.uint8, shape=(total, *image_size, channels)
        )
        _reserve(building / _IMAGES)
        digests, origins, done = np.zeros(total, np.uint64), [""] * total, 0
        sized = _resizer(image_size, channels, resize)
        with Progress(f"decoding {name}", total) as progress:
            for rows, names, decoded in _decoded_chunks(pictures, channels):
                images[rows] = pixels = sized(decoded)
                digests[rows] = [_digest(picture) for picture in pixels]
                for row, origin in zip(rows, names, strict=True):
                    origins[row] = origin
                done += len(rows)
                _release(images)
                progress.add(len(rows))
        if done != total:
            raise UserError(f"{name}: only {done} of its {total} pictures could be read; did they change meanwhile?")
        images.flush()
        np.save(building / _DIGESTS, digests)
        (building / _PICTURES).write_text(json.dumps(origins))
        index = {
            "class_names": pictures.class_names,
            "offsets": offsets.tolist(),
            "by_fractions": pictures.by_fractions,
        }
        (building / _INDEX).write_text(json.dumps(index))
        _publish(building, folder, name, images.shape[1:])


def _reserve(file: Path) -> None:
    """Claims a mapped file's space on the disk: on one that is full, writing to its pages would kill the process."""
    if hasattr(os, "posix_fallocate"):
        with open(file, "r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)


def _resizer(image_size: tuple[int, int], channels: int, policy: str) -> Callable[[np.ndarray], np.ndarray]:
    """Resizes uint8 pictures [n, H, W, C] into uint8 pictures of one size."""

    # A graph, because pictures of many sizes come one by one, and take a third of the time that they take eagerly.
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, channels], tf.uint8)])
    def sized(images: tf.Tensor) -> tf.Tensor:
        with tf.device("/cpu:0"):
            return tf.cast(resize_pictures(images, image_size, policy), tf.uint8)

    return lambda images: sized(images).numpy()


def _decoded_chunks(pictures: Pictures, channels: int) -> Iterator[tuple[list[int], list[str], np.ndarray]]:
    """Pictures of one shape, stacked, with the rows of the bank they belong to and their names."""
    waiting: dict[tuple[int, ...], list[tuple[int, str, np.ndarray]]] = {}
    size = 0
    for row, name, content in pictures.read():
        if isinstance(content, bytes):
            image = decode_file(content, channels, name)
        else:
            image = to_channels(content, channels)
        if waiting and size + image.nbytes > _CHUNK:
            yield from map(_stacked, waiting.values())
            waiting, size = {}, 0
        waiting.setdefault(image.shape, []).append((row, name, image))
        size += image.nbytes
    yield from map(_stacked, waiting.values())


def _stacked(run: list[tuple[int, str, np.ndarray]]) -> tuple[list[int], list[str], np.ndarray]:
    rows, names, images = zip(*run, strict=True)
    return list(rows), list(names), np.stack(images)


def _digest(image: np.ndarray) -> int:
    """64 bits of a picture's pixels."""
    return int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest(), "little")


def shared_pictures(one: ImageBank, other: ImageBank) -> list[tuple[str, str]]:
    """Pictures that are the same in both banks, pixel by pixel: where each came from, in the first bank's order.

    Of several copies one is named. Nothing is known, and so nothing returned, of banks outside the cache.
    """
    if one.folder is None or other.folder is None:
        return []
    digests = [np.load(bank.folder / _DIGESTS, allow_pickle=False) for bank in (one, other)]  # type: ignore[operator]
    _, rows, other_rows = np.intersect1d(*digests, return_indices=True)
    if not len(rows):
        return []
    names = [json.loads((bank.folder / _PICTURES).read_text()) for bank in (one, other)]  # type: ignore[operator]
    order = np.argsort(rows)
    return [(names[0][row], names[1][other_row]) for row, other_row in zip(rows[order], other_rows[order], strict=True)]


def _publish(building: Path, folder: Path, name: str, shape: tuple[int, ...]) -> None:
    """Renames `building` to `folder`; a whole cache that another process put there meanwhile is as good."""
    while True:
        try:
            os.replace(building, folder)
            return
        except OSError:
            if not folder.exists():
                raise
            if _load(folder, name, shape) is not None:
                return
            shutil.rmtree(folder)
