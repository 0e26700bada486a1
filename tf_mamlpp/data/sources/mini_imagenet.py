"""Mini-ImageNet by the split of Ravi & Larochelle (ICLR 2017), from archives or from the folders in them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tf_mamlpp.data.kinds import PICTURES
from tf_mamlpp.data.picture_files import file_state
from tf_mamlpp.data.sources.archives import members
from tf_mamlpp.data.sources.image_folder import given_splits
from tf_mamlpp.data.sources.listing import Pictures, Splits
from tf_mamlpp.data.sources.splits import SPLIT_FOLDERS
from tf_mamlpp.errors import UserError

_PREFIXES = {split: names[0] for split, names in SPLIT_FOLDERS.items()}  # of the archives' names

_EXPECTED = (
    "expected archives train*.tar.gz, val*.tar.gz and test*.tar.gz that hold SPLIT/CLASS/PICTURE.jpg, "
    "or the folders train/, val/ and test/ unpacked from them"
)


def mini_imagenet_splits(path: Path) -> Splits:
    """Finds the pictures of each split, without unpacking or decoding any.

    Args:
        path: folder that holds, for each split, one archive or several parts of it; or the folders train/, val/ and
            test/, which hold class folders.

    Returns:
        For each split, a key that changes with the files, and a function that lists the pictures.

    Raises:
        UserError: a split is missing.

    Example:
        >>> import tarfile
        >>> (tmp_path / "1.jpg").touch()
        >>> for split, name in (("train", "ant"), ("val", "bee"), ("test", "cat")):
        ...     with tarfile.open(tmp_path / f"{split}.tar.gz", "w:gz") as archive:
        ...         archive.add(tmp_path / "1.jpg", f"{split}/{name}/1.jpg")
        >>> splits = mini_imagenet_splits(tmp_path)
        >>> {split: open_pictures().class_names for split, (key, open_pictures) in splits.items()}
        {'train': ('ant',), 'validation': ('bee',), 'test': ('cat',)}

    References:
        Ravi, Larochelle, "Optimization as a Model for Few-Shot Learning", ICLR 2017.
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
    return {split: (_key(found), partial(_list_pictures, found, split)) for split, found in archives.items()}


def _key(archives: list[Path]) -> str:
    """Changes with the archives' paths and states."""
    return repr([(str(a.resolve()), file_state(a.stat())) for a in archives])


def _list_pictures(archives: list[Path], split: str) -> Pictures:
    """Lists the archives' pictures in the order of the unpacked folders: class by class, sorted."""
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
            if member.suffix.lower() not in PICTURES.suffixes or member.name.startswith("."):
                continue
            if len(member.parts) < 3 or member.parts[-3] not in SPLIT_FOLDERS[split]:
                raise UserError(f"{archive}: {member} lies in no class folder of {_PREFIXES[split]}/; {_EXPECTED}")
            yield archive, (member.parts[-2], member.parts[-1]), content
