"""How recordings are read into the cache of banks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tf_mamlpp.data.damaged_pictures import note_damage
from tf_mamlpp.data.example_reader import Chunk
from tf_mamlpp.data.kinds import SOUND, Kind
from tf_mamlpp.data.sound.sound_bank import SCALE, SoundBank
from tf_mamlpp.data.sound.sound_files import read_sound
from tf_mamlpp.data.sound.sound_format import SoundFormat
from tf_mamlpp.data.sources.listing import Pictures
from tf_mamlpp.errors import UserError


@dataclass(frozen=True)
class SoundReader:
    """Reads recordings and brings them to one rate and length.

    Attributes:
        sound: of the model.

    Example:
        >>> import soundfile
        >>> soundfile.write(tmp_path / "a.wav", np.sin(np.arange(5000) / 9), 16000)
        >>> listed = Pictures(("a",), (1,), lambda: zip([0], ["a.wav"], [(tmp_path / "a.wav").read_bytes()]))
        >>> reader = SoundReader(SoundFormat(sample_rate=8000, seconds=0.5))
        >>> [(rows, names, waveforms.shape) for rows, names, waveforms in reader.chunks(listed)]
        [([0], ['a.wav'], (1, 4000))]
    """

    kind: ClassVar[Kind] = SOUND
    file: ClassVar[str] = "waveforms.npy"
    dtype: ClassVar[np.dtype] = np.dtype(np.int16)

    sound: SoundFormat

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.sound.samples,)

    def identity(self) -> list[Any]:
        return [self.sound.sample_rate, self.sound.samples]

    def read(self, content: bytes, name: str) -> np.ndarray:
        """One recording, int16 `[samples]`.

        Args:
            content: of its file.
            name: of the file.

        Raises:
            UserError: see `read_sound`.
        """
        waveform = read_sound(content, self.sound.sample_rate, name)
        return np.asarray(_fit(self.sound)(waveform / SCALE) * SCALE).astype(np.int16)

    def chunks(self, listed: Pictures, damaged: dict[int, str] | None = None) -> Iterator[Chunk]:
        for row, name, content in listed.read():
            try:
                if isinstance(content, UserError):
                    raise content
                assert isinstance(content, bytes)
                waveform = self.read(content, name)
            except UserError as error:
                note_damage(damaged, row, error)
                continue
            yield [row], [name], waveform[np.newaxis]

    def bank(self, *stored: Any, **about: Any) -> SoundBank:
        return SoundBank(*stored, **{**about, "sound": self.sound})


@cache
def _fit(sound: SoundFormat) -> Any:
    """`SoundFormat.fit` for any length, traced once."""
    return tf.function(sound.fit, input_signature=[tf.TensorSpec([None], tf.float32)], autograph=False)
