"""The models that come with the package, by name.  Imports no TensorFlow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tf_mamlpp.errors import UserError

FOLDER = Path(__file__).parents[1] / "pretrained"
"""A folder for each model."""

ABOUT = "about.json"


def names() -> list[str]:
    """The models that come with the package.

    Example:
        >>> all((FOLDER / name / ABOUT).is_file() for name in names())
        True
    """
    return sorted(file.parent.name for file in FOLDER.glob(f"*/{ABOUT}"))


def about(name: str) -> dict[str, Any]:
    """What is known of a model: its `config`, the `test` of the exported functions, `data`, `limits`, `commit`.

    Raises:
        UserError: there is no such model.

    Example:
        >>> about("no such model")
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: there is no pretrained model 'no such model': there are ...
    """
    if name not in names():
        raise UserError(f"there is no pretrained model '{name}': there are {', '.join(names()) or 'none'}")
    return json.loads((FOLDER / name / ABOUT).read_text())


def check_model(model: str) -> None:
    """Refuses what is neither a folder nor the name of a model.

    Args:
        model: what a command was given.

    Raises:
        UserError: naming it.

    Example:
        >>> check_model("omniglot")
        >>> check_model("no such model")
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: model 'no such model' is no folder: give that of a SavedModel, ...
    """
    if not Path(model).is_dir() and model not in names():
        raise UserError(
            f"model '{model}' is no folder: give that of a SavedModel, which tf-mamlpp export writes, or the name of a "
            f"pretrained model: {', '.join(names()) or 'none'}"
        )
