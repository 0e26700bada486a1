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
        baselines: what results call the nearest example, and the nearest mean of a class.
        suffixes: endings of the names of files of examples, in lower case.
        settings: of a config's section `data`, those that not every kind takes.
        is_shown: whether examples can be looked at as pictures.
        is_regression: whether tasks are curves to fit, and not classes to tell apart.
        from_config: whether a config alone tells what the model takes; else the data do, and a run keeps it.

    Example:
        >>> kind_of("tfds:omniglot").name, kind_of("arrays").examples, kind_of("sinusoid").is_regression
        ('pictures', 'examples', True)
    """

    name: str
    examples: str
    baselines: tuple[str, str] = ("nearest_example", "nearest_example_mean")
    suffixes: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    is_shown: bool = False
    is_regression: bool = False
    from_config: bool = True

    @property
    def example(self) -> str:
        """What one of its examples is called."""
        return self.examples.removesuffix("s")

    @property
    def is_pictures(self) -> bool:
        """Whether examples are pictures, which can be resized, turned and augmented."""
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
    ("nearest_pixel", "nearest_class_mean"),
    (
        *(".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"),
        # Pillow may be unable to read these. Then the user is told which file it is: none is left out in silence.
        *(".avif", ".heic", ".jp2", ".tga", ".ico", ".pcx"),
    ),
    ("image_size", "channels", "resize", "mean", "std", "rotations", "skip_damaged", "cache_dir"),
    is_shown=True,
)
SOUND = Kind(
    "sound",
    "recordings",
    ("nearest_spectrogram", "nearest_mean_spectrogram"),
    (
        *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64"),
        *(".m4a", ".aac", ".wma", ".amr"),  # libsndfile cannot read these
    ),
    ("sample_rate", "seconds", "window", "hop", "mel_bands", "skip_damaged", "cache_dir"),
    is_shown=True,
)
ARRAYS = Kind("arrays", "examples", settings=("normalise",), from_config=False)
CURVES = Kind("curves", "points", is_regression=True)

_KINDS = (PICTURES, SOUND, ARRAYS, CURVES)

_BY_SOURCE = {"audio_folder": SOUND, "arrays": ARRAYS, "sinusoid": CURVES}


def kind_of(source: str) -> Kind:
    """The kind of a source's data.

    Args:
        source: `data.name`; one that is not known to be of another kind has pictures.

    Example:
        >>> kind_of("glyphs").is_pictures
        True
    """
    return _BY_SOURCE.get(source, PICTURES)
