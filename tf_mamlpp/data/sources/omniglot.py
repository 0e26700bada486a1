"""Omniglot as its authors publish it: two zip archives, or the two folders unpacked from them.

Imports no TensorFlow.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from tf_mamlpp.data.picture_files import checked_stat, file_state, picture_state, read_file
from tf_mamlpp.data.sources.archives import open_zip, read_zipped
from tf_mamlpp.data.sources.listing import Pictures, Splits, content_or_error
from tf_mamlpp.data.sources.splits import OMNIGLOT_CLASSES, divide_classes
from tf_mamlpp.errors import UserError

_PARTS = ("images_background", "images_evaluation")

_EXPECTED = "expected images_background and images_evaluation, each as a .zip archive or as the unpacked folder"


@dataclass(frozen=True)
class _Drawing:
    archive: Path  # a zip archive or an unpacked folder
    member: str  # path inside it

    @property
    def class_name(self) -> str:
        return "/".join(PurePosixPath(self.member).parts[-3:-1])


def omniglot_splits(path: Path, split_seed: int, split_file: str | os.PathLike[str] | None = None) -> Splits:
    """Lists Omniglot's drawings by split, without decoding any.

    Args:
        path: folder that holds both parts.
        split_seed: seed of the division of all 1,623 characters into 1150/50/423.
        split_file: lists of characters such as "Greek/character01" instead, see `divide_classes`.

    Returns:
        For each split, a key that changes with the source, and a function that lists the pictures.

    Raises:
        UserError: a part is missing, damaged or incomplete; names it.

    Example:
        >>> for part, characters in (("images_background", 964), ("images_evaluation", 659)):
        ...     with zipfile.ZipFile(tmp_path / f"{part}.zip", "w") as archive:
        ...         for number in range(characters):
        ...             archive.writestr(f"{part}/{part[7:]}/character{number:03}/0001_01.png", b"")
        >>> splits = omniglot_splits(tmp_path, split_seed=0)
        >>> {split: len(open_pictures().class_names) for split, (key, open_pictures) in splits.items()}
        {'train': 1150, 'validation': 50, 'test': 423}

    References:
        Lake, Salakhutdinov, Tenenbaum, "Human-level concept learning through probabilistic program induction",
        Science 350 (2015).
    """
    archives = [_find_part(path, part) for part in _PARTS]
    classes: dict[str, list[_Drawing]] = {}
    for archive in archives:
        for member in _members(archive):
            drawing = _Drawing(archive, member)
            classes.setdefault(drawing.class_name, []).append(drawing)
    if len(classes) != OMNIGLOT_CLASSES:
        raise UserError(f"{path}: holds {len(classes)} characters, not Omniglot's {OMNIGLOT_CLASSES}; fetch both again")
    names = sorted(classes)
    key = repr([_state(archive, classes) for archive in archives])
    splits: Splits = {}
    for split, numbers in divide_classes(names, split_seed, split_file, source="omniglot").items():
        chosen = [(names[number], sorted(classes[names[number]], key=lambda d: d.member)) for number in numbers]
        splits[split] = (f"{key} {numbers}", partial(_pictures, chosen))
    return splits


def _find_part(path: Path, part: str) -> Path:
    """The zip archive or folder of one part."""
    for candidate in (path / f"{part}.zip", path / part):
        if candidate.exists():
            return candidate
    what = f"has no {part}.zip and no folder {part}" if path.is_dir() else "no such folder"
    raise UserError(f"{path}: {what}; {_EXPECTED}")


def _members(archive: Path) -> list[str]:
    """Paths of the drawings (.../alphabet/character/drawing.png) inside an archive or folder."""
    if archive.is_dir():
        found = [file.relative_to(archive).as_posix() for file in archive.glob("**/*.png")]
    else:
        with open_zip(archive) as opened:
            found = opened.namelist()
    return [member for member in found if _is_drawing(PurePosixPath(member))]


def _is_drawing(member: PurePosixPath) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in member.parts)
    return member.suffix == ".png" and len(member.parts) >= 3 and not hidden


def _state(archive: Path, classes: dict[str, list[_Drawing]]) -> object:
    """The path and state of an archive, or of each drawing in a folder."""
    if not archive.is_dir():
        return [(str(archive.resolve()), file_state(checked_stat(archive)))]
    files = sorted(archive / d.member for group in classes.values() for d in group if d.archive == archive)
    return [(str(file.resolve()), picture_state(file)) for file in files]


def _pictures(classes: list[tuple[str, list[_Drawing]]]) -> Pictures:
    def read() -> Iterator[tuple[int, str, bytes | UserError]]:
        opened: dict[Path, zipfile.ZipFile] = {}
        try:
            for row, drawing in enumerate(drawing for _, drawings in classes for drawing in drawings):
                yield row, f"{drawing.archive}/{drawing.member}", content_or_error(_read, drawing, opened)
        finally:
            for archive in opened.values():
                archive.close()

    names = tuple(name for name, _ in classes)
    return Pictures(names, tuple(len(drawings) for _, drawings in classes), read)


def _read(drawing: _Drawing, opened: dict[Path, zipfile.ZipFile]) -> bytes:
    if drawing.archive.is_dir():
        return read_file(str(drawing.archive / drawing.member))
    if drawing.archive not in opened:
        opened[drawing.archive] = open_zip(drawing.archive)
    return read_zipped(opened[drawing.archive], drawing.member)
