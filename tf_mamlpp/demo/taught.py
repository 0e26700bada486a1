"""Pictures, classes and answers, as a visitor of the page has them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from PIL import Image


@dataclass(frozen=True, eq=False)
class Example:
    """A picture as the model sees it.

    Attributes:
        pixels: uint8 `[height, width, C]`.

    Example:
        >>> Example(np.zeros((2, 2, 1), np.uint8)).url[:22]
        'data:image/png;base64,'
    """

    pixels: np.ndarray

    @cached_property
    def url(self) -> str:
        """The picture itself as an address, so that no file is needed to show it."""
        file = io.BytesIO()
        Image.fromarray(self.pixels[..., 0] if self.pixels.shape[-1] == 1 else self.pixels).save(file, "PNG")
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


@dataclass(eq=False)
class TaughtClass:
    """A class of a visitor's.

    Attributes:
        name: as the visitor calls it.
        examples: its support pictures; without any it takes no part.

    Example:
        >>> TaughtClass("A").examples
        []
    """

    name: str
    examples: list[Example] = field(default_factory=list)


@dataclass(frozen=True)
class Answer:
    """What the model says of a picture.

    Attributes:
        probabilities: by the names of the classes.
        known: in 0..1 whether it is of any of them; None of a model that does not tell.
        is_known: False for "none of these".

    Example:
        >>> Answer({"A": 0.2, "B": 0.8}, known=0.9, is_known=True).best
        'B'
    """

    probabilities: dict[str, float]
    known: float | None
    is_known: bool

    @property
    def best(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=self.probabilities.__getitem__)
