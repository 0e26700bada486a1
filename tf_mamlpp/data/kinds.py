"""What the examples of a source are: whatever differs between kinds of data is asked here.  Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tf_mamlpp.errors import UserError


@dataclass(frozen=True)
class Kind:
    """A kind of data.

    Attributes:
        name: of the kind.
        examples: what its examples are called.
        settings: of a config's section `data`, those that not every kind takes.
        is_regression: whether tasks are curves to fit, and not classes to tell apart.
        from_config: whether a config alone tells what the model takes; else the data do, and a run keeps it.

    Example:
        >>> kind_of("tfds:omniglot").name, kind_of("arrays").examples, kind_of("sinusoid").is_regression
        ('pictures', 'examples', True)
    """

    name: str
    examples: str
    settings: tuple[str, ...] = ()
    is_regression: bool = False
    from_config: bool = True

    @property
    def example(self) -> str:
        """What one of its examples is called."""
        return self.examples.removesuffix("s")

    @property
    def is_pictures(self) -> bool:
        """Whether examples are pictures, which can be resized, turned, augmented and shown."""
        return self is PICTURES

    def check_settings(self, source: str, given: Mapping[str, Any], usual: Mapping[str, Any]) -> None:
        """Refuses settings that other kinds alone take.

        Args:
            source: name of the data.
            given: settings by their names.
            usual: their values where nobody has chosen any.

        Raises:
            UserError: naming one that was chosen.

        Example:
            >>> kind_of("arrays").check_settings("arrays", {"channels": 3}, {"channels": 1})
            Traceback (most recent call last):
            tf_mamlpp.errors.UserError: channels has no use with data.name=arrays: it is for pictures
        """
        for name, value in given.items():
            owners = [kind.name for kind in _KINDS if name in kind.settings]
            if owners and self.name not in owners and value != usual[name]:
                raise UserError(f"{name} has no use with data.name={source}: it is for {' and '.join(owners)}")


PICTURES = Kind(
    "pictures",
    "pictures",
    ("image_size", "channels", "resize", "mean", "std", "rotations", "skip_damaged", "cache_dir"),
)
ARRAYS = Kind("arrays", "examples", ("normalise",), from_config=False)
CURVES = Kind("curves", "points", is_regression=True)

_KINDS = (PICTURES, ARRAYS, CURVES)

_BY_SOURCE = {"arrays": ARRAYS, "sinusoid": CURVES}


def kind_of(source: str) -> Kind:
    """The kind of a source's data.

    Args:
        source: `data.name`; one that is not known to be of another kind has pictures.

    Example:
        >>> kind_of("glyphs").is_pictures
        True
    """
    return _BY_SOURCE.get(source, PICTURES)
