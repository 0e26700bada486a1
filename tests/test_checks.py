"""Settings of the wrong type, range or choice are named; NumPy's numbers count as Python's."""

import dataclasses

import numpy as np
import pytest

from tf_mamlpp.checks import check_choice, check_fields, check_range, check_type
from tf_mamlpp.errors import UserError


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (np.int64(3), int, 3),
        (np.float32(0.5), float, 0.5),
        (np.bool_(True), bool, True),
        (2, float, 2.0),
        ([1, 2], tuple[float, ...], (1.0, 2.0)),
        (None, float | None, None),
        (np.float64(1.5), float | None, 1.5),
    ],
)
def test_values_of_the_type(value, hint, expected):
    found = check_type("x", value, hint)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint"),
    [("3", int), (True, int), (1.5, int), (1, bool), ((1, 2, 3), tuple[int, int]), (None, int), (10**400, float)],
)
def test_values_of_another_type(value, hint):
    with pytest.raises(UserError, match="^x is of type "):
        check_type("x", value, hint)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 2**31, (1, -1), "a\0b"])
def test_out_of_range(value):
    with pytest.raises(UserError, match="^x is "):
        check_range("x", value)


def test_in_range():
    check_range("x", 0, zero=True)
    check_range("x", (-1.0, 0.0), negative=True)
    check_range("x", ("text", True, None, 1))


def test_choices():
    check_choice("x", "a", ("a", "b"))
    with pytest.raises(UserError, match="^x is one of a, b, not 'c'"):
        check_choice("x", "c", ("a", "b"))


def test_fields_take_the_checked_values():
    @dataclasses.dataclass(frozen=True)
    class Section:
        steps: int = 1
        rates: tuple[float, ...] = (0.1,)

        def __post_init__(self):
            check_fields(self, negative=("rates",))

    section = Section(np.int32(2), [1, -2])
    assert (section.steps, section.rates) == (2, (1.0, -2.0))
    with pytest.raises(UserError, match="^steps is 0: it must be positive"):
        Section(0)
