"""The cache of banks: pictures and recordings are decoded once, and memory-mapped from then on.

A bank's folder in the cache holds `images.npy` (the pixels) or `waveforms.npy`, `digests.npy` (a hash of each example),
`index.json` (classes) and `pictures.json` (where each example came from).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tf_mamlpp.data.bank import digest
from tf_mamlpp.data.cached_bank import DIGESTS, ORIGINS, CachedBank, release_pages
from tf_mamlpp.data.damaged_pictures import DamagedPictures
from tf_mamlpp.data.example_reader import ExampleReader
from tf_mamlpp.data.image_bank import ImageBank
from tf_mamlpp.data.picture_reader import PictureReader
from tf_mamlpp.data.sources.listing import Pictures
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import expanded, temporary_folder_beside

_FORMAT = 2  # raise when the cache's layout, or how pictures are decoded or resized, changes

_INDEX = "index.json"


def cache_root(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """The cache folder: the argument, else the environment's TF_MAMLPP_CACHE, else ~/.cache/tf_mamlpp.

    Example:
        >>> cache_root("/tmp/pictures").as_posix()
        '/tmp/pictures'
    """
    chosen = cache_dir or os.environ.get("TF_MAMLPP_CACHE") or "~/.cache/tf_mamlpp"
    return expanded(chosen, "set TF_MAMLPP_CACHE or data.cache_dir to a folder for the picture cache")


def build_or_load(
    key: str,
    open_pictures: Callable[[], Pictures],
    *,
    name: str,
    image_size: tuple[int, int],
    channels: int,
    resize: str = "stretch",
    skip_damaged: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> ImageBank:
    """Loads a bank of pictures from the cache; decodes it into the cache first where it is missing or damaged.

    Args:
        key: identifies the pictures' content; any change of the source must change it.
        open_pictures: lists the pictures; called only when they must be decoded.
        name: source and split, for example "omniglot train".
        image_size: height and width in pixels.
        channels: 1 for grey, 3 for RGB.
        resize: "stretch" or "crop", see `tf_mamlpp.data.resize`.
        skip_damaged: leave out pictures that cannot be read; the bank lists them as `damaged`.
        cache_dir: the cache folder; see `cache_root`.

    Returns:
        The bank, its images memory-mapped read-only. A bank without classes is in memory alone.

    Raises:
        DamagedPictures: pictures cannot be read; names them.
        UserError: the cache folder cannot be written.

    Example:
        >>> def open_pictures():
        ...     greys = [np.full((6, 6), grey, np.uint8) for grey in (10, 20, 30)]
        ...     return Pictures(("ant", "bee"), (2, 1), lambda: zip(range(3), ("a0", "a1", "b0"), greys))
        >>> settings = {"name": "insects train", "image_size": (4, 4), "channels": 1, "cache_dir": tmp_path}
        >>> bank = build_or_load("version 1", open_pictures, **settings)
        >>> bank.images.shape, bank.offsets.tolist(), bank.class_names
        ((3, 4, 4, 1), [0, 2, 3], ('ant', 'bee'))
        >>> build_or_load("version 1", None, **settings).images[2, 0, 0]  # from the cache: nothing is decoded
        array([30], dtype=uint8)
    """
    reader = PictureReader((image_size[0], image_size[1]), channels, resize)
    bank = cached_bank(key, open_pictures, reader, name=name, skip_damaged=skip_damaged, cache_dir=cache_dir)
    assert isinstance(bank, ImageBank)
    return bank


def cached_bank(
    key: str,
    open_listed: Callable[[], Pictures],
    reader: ExampleReader,
    *,
    name: str,
    skip_damaged: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> CachedBank:
    """`build_or_load` of examples of any kind.

    Args:
        reader: reads them.
        key, open_listed, name, skip_damaged, cache_dir: as for `build_or_load`.

    Example:
        >>> def open_pictures():
        ...     return Pictures(("ant",), (1,), lambda: zip([0], ["a0"], [np.full((6, 6), 9, np.uint8)]))
        >>> reader = PictureReader((4, 4), channels=1)
        >>> cached_bank("version 1", open_pictures, reader, name="ants train", cache_dir=tmp_path).shape
        (4, 4, 1)
    """
    identity = json.dumps([_FORMAT, key, name, *reader.identity(), *["skip damaged"] * skip_damaged])
    place = hashlib.sha256(identity.encode()).hexdigest()[:20]
    folder = cache_root(cache_dir) / f"{name.replace(' ', '-').replace(':', '-').replace('/', '-')}-{place}"
    bank = _load(folder, name, reader)
    if bank is None:
        try:
            with _reading(name, reader):
                listed = open_listed()
            if not listed.class_names:  # an empty array cannot be mapped
                nothing, offsets = np.zeros((0, *reader.shape), reader.dtype), np.zeros(1, np.int64)
                return reader.bank(nothing, offsets, (), name, by_fractions=listed.by_fractions)
            _build(folder, listed, name, reader, skip_damaged)
        except OSError as error:
            advice = "free some space or set TF_MAMLPP_CACHE to another folder"
            raise UserError(f"{folder.parent}: cannot write the picture cache ({error}); {advice}") from error
        bank = _load(folder, name, reader)
    if bank is None:
        raise UserError(f"{folder}: the cache is unreadable just after it was written; check the disk")
    return bank


@contextlib.contextmanager
def _reading(name: str, reader: ExampleReader) -> Iterator[None]:
    """Makes an error of the source of an error of the system, so that none is taken for one of the cache's disk."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{name}: its {reader.kind.examples} cannot be read ({error})") from error


def _load(folder: Path, name: str, reader: ExampleReader) -> CachedBank | None:
    """The cached bank; None if it is missing, or anything but the content of its examples is damaged."""
    try:
        # Unlike `np.load`, it takes no pickle at all.
        stored = np.lib.format.open_memmap(folder / reader.file, mode="r")
        digests = np.lib.format.open_memmap(folder / DIGESTS, mode="r")
        index, origins = (json.loads((folder / file).read_text()) for file in (_INDEX, ORIGINS))
        names, offsets = tuple(index["class_names"]), np.array(index["offsets"])
        good = (
            (folder / reader.file).stat().st_size == stored.offset + stored.nbytes
            and (stored.dtype, stored.shape) == (reader.dtype, (len(stored), *reader.shape))
            and stored.flags.c_contiguous
            and (digests.dtype, digests.shape) == (np.uint64, stored.shape[:1])
            and (offsets.dtype, offsets.shape) == (np.int64, (len(names) + 1,))
            and offsets[0] == 0
            and (np.diff(offsets) > 0).all()
            and offsets[-1] == len(stored) == len(origins)
            and all(isinstance(text, str) for text in (*names, *origins))
        )
        by_fractions, damaged = bool(index.get("by_fractions")), tuple(map(str, index.get("damaged", ())))
    except Exception:  # damage makes the readers raise nearly anything
        return None
    # A plain view: np.memmap slows every gather.
    return reader.bank(np.asarray(stored), offsets, names, name, folder, by_fractions, damaged) if good else None


def _build(folder: Path, listed: Pictures, name: str, reader: ExampleReader, skip_damaged: bool) -> None:
    """Decodes into a temporary folder and renames it to `folder`, so that nobody ever sees half a cache."""
    with temporary_folder_beside(folder) as building:
        stored = _new_array(building / reader.file, reader, sum(listed.counts))
        damaged: dict[int, str] = {}
        digests, origins = _read_into(stored, listed, name, reader, damaged)
        stored.flush()
        names, counts = listed.class_names, listed.counts
        if damaged:
            if not skip_damaged or len(damaged) == len(stored):
                raise DamagedPictures.of(list(damaged.values()), reader.kind)
            good = np.delete(np.arange(len(stored)), list(damaged))
            _keep_rows(building, stored, good, reader)
            digests, origins = digests[good], [origins[row] for row in good]
            left = np.bincount(np.repeat(np.arange(len(counts)), counts)[good], minlength=len(counts)).tolist()
            names, counts = zip(*((n, count) for n, count in zip(names, left, strict=True) if count), strict=True)
        np.save(building / DIGESTS, digests)
        (building / ORIGINS).write_text(json.dumps(origins))
        index = {
            "class_names": names,
            "offsets": np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).tolist(),
            "by_fractions": listed.by_fractions,
            "damaged": list(damaged.values()),
        }
        (building / _INDEX).write_text(json.dumps(index))
        _publish(building, folder, name, reader)


def _new_array(file: Path, reader: ExampleReader, count: int) -> np.memmap:
    stored = np.lib.format.open_memmap(file, mode="w+", dtype=reader.dtype, shape=(count, *reader.shape))
    _reserve(file)
    return stored


def _keep_rows(building: Path, stored: np.ndarray, rows: np.ndarray, reader: ExampleReader) -> None:
    """Leaves only some examples in the file that holds `stored`."""
    kept = _new_array(building / "kept.npy", reader, len(rows))
    for part in np.array_split(np.arange(len(rows)), 1 + len(rows) // 1000):
        kept[part] = stored[rows[part]]
        release_pages(kept)
        release_pages(stored)
    kept.flush()
    os.replace(building / "kept.npy", building / reader.file)


def _reserve(file: Path) -> None:
    """Claims a mapped file's space on the disk: on one that is full, writing to its pages would kill the process."""
    if hasattr(os, "posix_fallocate"):
        with open(file, "r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)


def _read_into(
    stored: np.ndarray, listed: Pictures, name: str, reader: ExampleReader, damaged: dict[int, str]
) -> tuple[np.ndarray, list[str]]:
    """Reads examples into an array [examples, *shape]; `damaged` gets those that cannot be read.

    Shows progress on stderr: a live bar on a terminal; elsewhere (a log file) one line at the end.

    Returns:
        For each example, a hash of its numbers, and where it came from.
    """
    total, done, started = len(stored), 0, time.monotonic()
    digests, origins = np.zeros(total, np.uint64), [""] * total
    with _progress_bar(f"decoding {name}", total) as bar:
        chunks = reader.chunks(listed, damaged)
        while True:
            with _reading(name, reader):
                chunk = next(chunks, None)
            if chunk is None:
                break
            rows, names, examples = chunk
            stored[rows] = examples
            digests[rows] = [digest(example) for example in examples]
            for row, origin in zip(rows, names, strict=True):
                origins[row] = origin
            release_pages(stored)
            done += len(rows)
            bar.update(len(rows))
    if not sys.stderr.isatty():
        print(f"decoding {name}: {done} in {time.monotonic() - started:.1f} s", file=sys.stderr)
    if done + len(damaged) != total:
        raise UserError(
            f"{name}: only {done} of its {total} {reader.kind.examples} could be read; did they change meanwhile?"
        )
    return digests, origins


def _progress_bar(label: str, total: int) -> tqdm:
    """A bar on stderr if that is a terminal; else one that shows nothing."""
    # tqdm shows no bar on a terminal that does not tell its size; here it gets 80 columns and 24 lines.
    columns, lines = shutil.get_terminal_size()
    return tqdm(desc=label, total=total, unit="", ncols=columns, nrows=lines, disable=not sys.stderr.isatty())


def _publish(building: Path, folder: Path, name: str, reader: ExampleReader) -> None:
    """Renames `building` to `folder`; a whole cache that another process put there meanwhile is as good."""
    while True:
        try:
            os.replace(building, folder)
            return
        except OSError:
            if not folder.exists():
                raise
            if _load(folder, name, reader) is not None:
                return
            shutil.rmtree(folder)
