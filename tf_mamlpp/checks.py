"""Checks of settings by their name, type and range.  Imports no TensorFlow."""

from __future__ import annotations

import dataclasses
import math
import sys
import types
import typing
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from tf_mamlpp.errors import UserError

_LARGEST = 2**31 - 1


def check_type(name: str, value: Any, hint: Any) -> Any:
    """The value as the type of its setting: lists become tuples, whole numbers become floats where those are wanted.

    Args:
        name: of the setting, for the error.
        value: NumPy's numbers count as Python's.
        hint: the type, such as `int`, `float | None` or `tuple[float, ...]`.

    Returns:
        The value.

    Raises:
        UserError: it is of another type.

    Example:
        >>> check_type("inner_rate", 1, float)
        1.0
        >>> check_type("inner_steps", "5", int)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: inner_steps is of type int, and '5' is not
    """
    value = value.item() if isinstance(value, np.generic) else value
    for option in typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,):
        if typing.get_origin(option) is tuple and isinstance(value, list | tuple):
            items = typing.get_args(option)
            if items[-1] is ... or len(items) == len(value):
                return tuple(check_type(name, item, items[0]) for item in value)
        if option is float and type(value) is int and abs(value) <= sys.float_info.max:
            return float(value)
        if isinstance(option, type) and type(value) is option:
            return value
        if typing.get_origin(option) is Callable and callable(value):
            return value
    kind = hint.__name__ if isinstance(hint, type) else str(hint).replace("collections.abc.", "")
    raise UserError(f"{name} is of type {kind}, and {value!r} is not")


def check_range(name: str, value: Any, *, zero: bool = False, negative: bool = False) -> None:
    """Refuses a number that is out of range, and a text that cannot name a file; looks into tuples.

    Args:
        name: of the setting, for the error.
        value: of any type; what is no number and no text passes.
        zero: whether 0 is allowed.
        negative: whether any sign is allowed.

    Raises:
        UserError: a number that is not finite, too large, or not positive.

    Example:
        >>> check_range("way", 0)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: way is 0: it must be positive
    """
    for part in value if isinstance(value, tuple) else (value,):
        if isinstance(part, str) and "\0" in part:
            raise UserError(f"{name} is {part!r}: it has a NUL character")
        if isinstance(part, bool) or not isinstance(part, int | float):
            continue
        if not (-_LARGEST <= part <= _LARGEST if isinstance(part, int) else math.isfinite(part)):
            raise UserError(f"{name} is {str(part)[:40]}: it must be finite, and at most {_LARGEST} if it is whole")
        if not negative and not (part > 0 or (part == 0 and zero)):
            raise UserError(f"{name} is {part}: it must be positive")


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Refuses a value that is none of the choices.

    Raises:
        UserError: naming the choices.

    Example:
        >>> check_choice("resize", "pad", ("stretch", "crop"))
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: resize is one of stretch, crop, not 'pad'
    """
    if value not in choices:
        raise UserError(f"{name} is one of {', '.join(map(str, choices))}, not '{value}'")


def check_fields(section: Any, *, zero: Collection[str] = (), negative: Collection[str] = ()) -> None:
    """Checks every field of a frozen dataclass against its annotation, and its range; for a `__post_init__`.

    Args:
        section: the dataclass; its values are replaced by those of `check_type`.
        zero: names of the fields that may be 0.
        negative: names of the fields that may have any sign.

    Raises:
        UserError: naming the field.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Shape:
        ...     shot: int = 1
        ...     def __post_init__(self):
        ...         check_fields(self)
        >>> Shape(shot=-1)
        Traceback (most recent call last):
        tf_mamlpp.errors.UserError: shot is -1: it must be positive
    """
    hints = typing.get_type_hints(type(section))
    for field in dataclasses.fields(section):
        value = check_type(field.name, getattr(section, field.name), hints[field.name])
        object.__setattr__(section, field.name, value)
        check_range(field.name, value, zero=field.name in zero, negative=field.name in negative)
