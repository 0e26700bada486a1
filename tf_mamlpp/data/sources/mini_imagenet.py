"""Mini-ImageNet by the split of Ravi & Larochelle (ICLR 2017): archives of each split, or the folders unpacked from
them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tf_mamlpp.data.sources.archives import members
from tf_mamlpp.data.sources.image_folder import SPLIT_FOLDERS, SUFFIXES, given_splits
from tf_mamlpp.data.sources.listing import Pictures
from tf_mamlpp.errors import UserError

_PREFIXES = {"train": "train", "validation": "val", "test": "test"}


_EXPECTED = (
    "expected archives train*.tar.gz, val*.tar.gz and test*.tar.gz that hold SPLIT/CLASS/PICTURE.jpg, "
    "or the folders train/, val/ and test/ unpacked from them"
)


def mini_imagenet_splits(path: Path) -> dict[str, tuple[str, Callable[[], Pictures]]]:
    """Finds the pictures of each split, without unpacking or decoding any.

    Args:
        path: folder that holds, for each split, one archive or several (halves, say), of which every one is taken;
            or the folders train/, val/ and test/ of class folders.

    Returns:
        For each split, a key that changes with the files, and what lists the pictures.

    Raises:
        UserError: a split is missing.
    """
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; {_EXPECTED}")
    archives = {split: sorted(path.glob(f"{prefix}*.tar.gz")) for split, prefix in _PREFIXES.items()}
    if not any(archives.values()):
        splits = given_splits(path)
        if splits is None:
            raise UserError(f"{path}: has neither archives nor folders of splits; {_EXPECTED}")
        return splits
    for split, found in archives.items():
        if not found:
            raise UserError(f"{path}: has no archive {_PREFIXES[split]}*.tar.gz beside the others; {_EXPECTED}")
    return {split: (_identity(found), partial(_list_pictures, found, split)) for split, found in archives.items()}


def _identity(archives: list[Path]) -> str:
    return repr([(str(a.resolve()), a.stat().st_size, a.stat().st_mtime_ns) for a in archives])


def _list_pictures(archives: list[Path], split: str) -> Pictures:
    """Lists the archives' pictures, class by class and sorted, as from the unpacked folders."""
    found: dict[tuple[str, str], Path] = {}
    for archive, picture, _ in _pictures(archives, split):
        if picture in found:
            where = f"{found[picture].name} and {archive.name}" if found[picture] != archive else "it twice"
            raise UserError(f"{archive}: {'/'.join(picture)} is in {where}; keep one copy of each picture")
        found[picture] = archive
    if not found:
        raise UserError(f"{archives[0]}: holds no pictures; {_EXPECTED}")
    rows = {picture: row for row, picture in enumerate(sorted(found))}
    sizes = {name: len(list(group)) for name, group in itertools.groupby(rows, key=lambda picture: picture[0])}

    def read() -> Iterator[tuple[int, str, bytes]]:
        for archive, picture, content in _pictures(archives, split):
            yield rows[picture], f"{archive}/{'/'.join(picture)}", content

    return Pictures(tuple(sizes), tuple(sizes.values()), read)


def _pictures(archives: list[Path], split: str) -> Iterator[tuple[Path, tuple[str, str], bytes]]:
    """Every picture of the archives: the archive, (class, file name), content."""
    for archive in archives:
        for member, content in members(archive):
            if member.suffix.lower() not in SUFFIXES or member.name.startswith("."):
                continue
            if len(member.parts) < 3 or member.parts[-3] not in SPLIT_FOLDERS[split]:
                raise UserError(
                    f"{archive}: {member} lies in no class folder of {SPLIT_FOLDERS[split][0]}/; {_EXPECTED}"
                )
            yield archive, (member.parts[-2], member.parts[-1]), content
