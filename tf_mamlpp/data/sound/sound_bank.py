"""A bank of recordings: all recordings of one split as one int16 array, class by class."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tf_mamlpp.data.cached_bank import CachedBank
from tf_mamlpp.data.input_format import InputFormat
from tf_mamlpp.data.sound.sound_format import SoundFormat

SCALE = np.float32(32768)
"""What 16 bits are divided by, so that waveforms are from -1 to 1."""


@dataclass(frozen=True)
class SoundBank(CachedBank):
    """The recordings of one split.

    Attributes:
        waveforms: int16 [recordings, samples], class by class.
        offsets: int64 [classes + 1]; class c's recordings are rows offsets[c] to offsets[c + 1] - 1.
        class_names: one name a class.
        name: source and split, for example "audio_folder train".
        folder: where the bank lies in the cache; None for one that was made in memory.
        by_fractions: whether `split_fractions` divided the classes. An error about too few classes then says so.
        damaged: what is wrong with each recording that was left out because it cannot be read.
        sound: how a model sees them.

    Example:
        >>> waveforms = np.full((2, 4000), 16384, np.int16)
        >>> sound = SoundFormat(sample_rate=8000, seconds=0.5)
        >>> bank = SoundBank(waveforms, np.array([0, 1, 2]), ("yes", "no"), "words train", sound=sound)
        >>> bank.take(np.array([0]))[0, :2], bank.inputs.shape
        (array([0.5, 0.5], dtype=float32), (24, 40, 1))
    """

    waveforms: np.ndarray
    offsets: np.ndarray
    class_names: tuple[str, ...]
    name: str
    folder: Path | None = None
    by_fractions: bool = False
    damaged: tuple[str, ...] = ()
    sound: SoundFormat = SoundFormat()

    @property
    def inputs(self) -> SoundFormat:
        return self.sound

    @property
    def stored(self) -> np.ndarray:
        return self.waveforms

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float32)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Copies recordings out of the bank, float32 `[*rows.shape, samples]`, -1..1."""
        return super().take(rows) / SCALE

    def with_inputs(self, inputs: InputFormat) -> SoundBank:
        assert isinstance(inputs, SoundFormat)
        return dataclasses.replace(self, sound=inputs)
