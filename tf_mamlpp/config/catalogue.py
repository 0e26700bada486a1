"""The configs that come with the package, by name.  Imports no TensorFlow."""

from __future__ import annotations

import os
from pathlib import Path

from tf_mamlpp.errors import UserError

_PACKAGE = Path(__file__).parents[1]
FOLDER = next(place / "configs" for place in (_PACKAGE, _PACKAGE.parent) if (place / "configs").is_dir())
"""Inside the package where it is installed (setup.py maps it there), beside it in a checkout."""


def names() -> list[str]:
    """The configs that come with the package.

    Example:
        >>> "quickstart" in names()
        True
    """
    return sorted(file.stem for file in FOLDER.glob("*.py"))


def file_of(config: str) -> Path:
    """The file of a config: a path, or the name of one that comes with the package.

    Raises:
        UserError: there is neither.

    Example:
        >>> file_of("quickstart").name
        'quickstart.py'
        >>> file_of("quikstart")
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: config file 'quikstart' not found: give a Python file, or one of ...
    """
    file = FOLDER / f"{config}.py" if config in names() else Path(config)
    if not os.path.isfile(file):  # False also for what cannot be a path
        raise UserError(f"config file '{config}' not found: give a Python file, or one of {', '.join(names())}")
    return file
