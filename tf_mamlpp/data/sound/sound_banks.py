"""Folders of recordings: the source `audio_folder`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import cast

from tf_mamlpp.data.kinds import SOUND
from tf_mamlpp.data.listed_banks import listed_banks, listed_pool
from tf_mamlpp.data.sound.sound_bank import SoundBank
from tf_mamlpp.data.sound.sound_files import libraries
from tf_mamlpp.data.sound.sound_format import SoundFormat
from tf_mamlpp.data.sound.sound_reader import SoundReader
from tf_mamlpp.data.sources.image_folder import folder_splits
from tf_mamlpp.data.sources.listing import Splits
from tf_mamlpp.data.sources.splits import FRACTIONS
from tf_mamlpp.errors import UserError
from tf_mamlpp.files import expanded

_NAME = "audio_folder"


def load_recordings(
    path: str | os.PathLike[str],
    *,
    split_seed: int = 0,
    split_fractions: Sequence[float] = FRACTIONS,
    split_file: str | os.PathLike[str] | None = None,
    skip_damaged: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    **sound: float | None,
) -> dict[str, SoundBank]:
    """Loads class folders of recordings, decoding them into the cache the first time; see `load_banks`.

    Args:
        path: a tree of class folders of WAV, FLAC or other files of sound, with or without train/, val/ and test/ above
            them.
        split_seed, split_fractions, split_file, skip_damaged, cache_dir: as for `load_banks`.
        **sound: of `SoundFormat`; None, or left out, for its default.

    Raises:
        UserError: the extra `audio` is not installed, or recordings are missing, damaged, or have too few classes.

    Example:
        >>> import numpy as np, soundfile
        >>> for number, name in enumerate(("yes", "no", "up", "down", "left")):
        ...     (tmp_path / "words" / name).mkdir(parents=True)
        ...     soundfile.write(tmp_path / "words" / name / "1.wav", np.sin(np.arange(9000) / (9 + number)), 22050)
        >>> banks = load_recordings(tmp_path / "words", sample_rate=8000, seconds=0.5, cache_dir=tmp_path / "cache")
        >>> banks["train"].class_names, banks["train"].waveforms.shape, banks["train"].inputs.shape
        (('down', 'left', 'up'), (3, 4000), (24, 40, 1))
    """
    splits = _splits(path, split_seed, split_file, split_fractions)
    banks = listed_banks(splits, _reader(sound), name=_NAME, skip_damaged=skip_damaged, cache_dir=cache_dir)
    return cast(dict[str, SoundBank], banks)


def load_recording_pool(
    path: str | os.PathLike[str],
    *,
    split_file: str | os.PathLike[str] | None = None,
    skip_damaged: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    **sound: float | None,
) -> SoundBank:
    """Loads all recordings of a tree as one bank; see `load_pool`.

    Example:
        >>> import numpy as np, soundfile
        >>> (tmp_path / "words" / "yes").mkdir(parents=True)
        >>> soundfile.write(tmp_path / "words" / "yes" / "1.flac", np.sin(np.arange(9000) / 9), 22050)
        >>> load_recording_pool(tmp_path / "words", cache_dir=tmp_path / "cache").waveforms.shape
        (1, 16000)
    """
    # Without a file all classes are the first split's: too few could not be divided.
    splits = _splits(path, 0, split_file, FRACTIONS if split_file is not None else (1.0, 0.0, 0.0))
    bank = listed_pool(splits, _reader(sound), name=_NAME, skip_damaged=skip_damaged, cache_dir=cache_dir)
    return cast(SoundBank, bank)


def _splits(
    path: str | os.PathLike[str],
    split_seed: int,
    split_file: str | os.PathLike[str] | None,
    split_fractions: Sequence[float],
) -> Splits:
    libraries()  # before anything is looked for
    try:
        return folder_splits(expanded(path), split_seed, split_file, split_fractions, SOUND)
    except OSError as error:
        raise UserError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from error


def _reader(sound: dict[str, float | None]) -> SoundReader:
    given = {name: value for name, value in sound.items() if value is not None}
    return SoundReader(SoundFormat(**given))  # type: ignore[arg-type]
