"""The classes of standard sets as the field divides them; they come with the package.  Imports no TensorFlow."""

from __future__ import annotations

import os
from pathlib import Path

from tf_mamlpp.errors import UserError

PREFIX = "standard:"
"""What the name of such a division begins with, where a split file of the user's may stand too."""

_FOLDER = Path(__file__).parents[1] / "class_lists"  # its README.md names the sources


def standard_lists() -> list[str]:
    """The names of all divisions.

    Example:
        >>> standard_lists()[:3]
        ['standard:aircraft', 'standard:cifar_fs', 'standard:cub']
    """
    return sorted(PREFIX + file.stem for file in _FOLDER.glob("*.json"))


def standard_file(split_file: str | os.PathLike[str]) -> Path | None:
    """The file of a division that comes with the package; None for any other file.

    Raises:
        UserError: there is no such division.

    Example:
        >>> standard_file("standard:cub").name, standard_file("lists.json")
        ('cub.json', None)
        >>> standard_file("standard:cup")
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: split_file is one of standard:aircraft, ..., not 'standard:cup'
    """
    name = os.fspath(split_file)
    if not name.startswith(PREFIX):
        return None
    if name not in standard_lists():
        raise UserError(f"split_file is one of {', '.join(standard_lists())}, or a file, not '{name}'")
    return _FOLDER / f"{name.removeprefix(PREFIX)}.json"
