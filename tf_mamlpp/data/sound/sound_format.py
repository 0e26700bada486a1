"""Recordings as a model takes them: spectrograms, which are computed in the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tf_mamlpp.data.kinds import SOUND, Kind

_DECADES = 4  # of power below a recording's loudest place that are told apart: 40 dB


@dataclass(frozen=True)
class SoundFormat:
    """The waveforms that a model was trained on, and how it sees them: as mel spectrograms.

    Formula:
        P = mel(|STFT(x)|²); outputs are 1 + log10(P / max P + 10⁻⁴) / 4, the maximum over the recording.

    So the loudest place of a spectrogram is 1, what has 40 dB less or nothing at all is 0, and how loud a recording is
    as a whole makes no difference.

    Attributes:
        sample_rate: samples of a second.
        seconds: the length of a recording.
        window: seconds of one spectrum; a Hann window.
        hop: seconds from one spectrum to the next.
        mel_bands: of each spectrum, from 20 Hz to half the sample rate.

    Example:
        >>> sound = SoundFormat(8000, seconds=0.6, window=0.03, hop=0.02, mel_bands=40)
        >>> sound.samples, sound.shape
        (4800, (29, 40, 1))
        >>> sound.prepare(tf.random.normal((5, 4800))).shape
        TensorShape([5, 29, 40, 1])
        >>> sound.prepare(tf.random.normal((5, 20_000))).shape  # another length, see `fit`
        TensorShape([5, 29, 40, 1])

    References:
        Davis, Mermelstein, "Comparison of Parametric Representations for Monosyllabic Word Recognition", IEEE
        Transactions on Acoustics, Speech, and Signal Processing 28, 1980.
    """

    kind: ClassVar[Kind] = SOUND
    dtype: ClassVar[str] = "float32"

    sample_rate: int = 16000
    seconds: float = 1.0
    window: float = 0.03
    hop: float = 0.02
    mel_bands: int = 40

    @property
    def samples(self) -> int:
        """Of a recording."""
        return round(self.seconds * self.sample_rate)

    @property
    def _frame(self) -> int:
        return round(self.window * self.sample_rate)

    @property
    def _step(self) -> int:
        return round(self.hop * self.sample_rate)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Spectra, bands and 1: a spectrogram is to a model what a grey picture is."""
        return 1 + (self.samples - self._frame) // self._step, self.mel_bands, 1

    def signature(self) -> tf.TensorSpec:
        """An exported model takes waveforms of any length."""
        return tf.TensorSpec([None, None], tf.float32)

    def fit(self, waveforms: tf.Tensor) -> tf.Tensor:
        """Brings recordings to one length: silence on both sides of a short one, the loudest part of a long one.

        What is in the middle of a part counts more than what is at its ends.

        Args:
            waveforms: `[..., n]` floats.

        Returns:
            `[..., samples]`.
        """
        waveforms = tf.convert_to_tensor(waveforms, tf.float32)
        if waveforms.shape[-1] == self.samples:
            return waveforms
        missing = tf.maximum(self.samples - tf.shape(waveforms)[-1], 0)
        sides = [[0, 0]] * (waveforms.shape.rank - 1) + [[missing // 2, missing - missing // 2]]
        waveforms = tf.pad(waveforms, sides)
        half = self.samples // 2
        # Sums of sums weigh the energy by a triangle. A sum of 10 minutes of samples needs double precision.
        energy = _sums(_sums(tf.square(tf.cast(waveforms, tf.float64)), half), self.samples - half + 1)
        first = tf.argmax(energy, -1, tf.int32)
        places = first[..., tf.newaxis] + tf.range(self.samples)
        return tf.gather(waveforms, places, axis=-1, batch_dims=waveforms.shape.rank - 1)

    def prepare(self, waveforms: tf.Tensor) -> tf.Tensor:
        """The spectrograms of recordings.

        Args:
            waveforms: `[..., n]` float32, -1..1.

        Returns:
            `[..., spectra, bands, 1]` float32, 0..1; of silence, zeros.
        """
        spectra = tf.signal.stft(self.fit(waveforms), self._frame, self._step)
        with tf.init_scope():  # once, and not in the graph
            rate = self.sample_rate
            mel = tf.signal.linear_to_mel_weight_matrix(self.mel_bands, spectra.shape[-1], rate, 20.0, rate / 2).numpy()
        power = tf.tensordot(tf.square(tf.abs(spectra)), mel, 1)
        share = tf.math.divide_no_nan(power, tf.reduce_max(power, [-2, -1], keepdims=True))
        decades = tf.math.log(share + 10.0**-_DECADES) / tf.math.log(10.0)
        return tf.maximum(1.0 + decades[..., tf.newaxis] / _DECADES, 0.0)

    def pictures(self, waveforms: np.ndarray) -> np.ndarray:
        """Spectrograms to look at, uint8 `[n, bands, spectra, 1]`: time goes to the right, frequencies rise."""
        grey = np.rint(255 * self.prepare(waveforms).numpy()).astype(np.uint8)
        return grey.transpose(0, 2, 1, 3)[:, ::-1]

    def describe(self) -> dict[str, Any]:
        """The entry `sound` of metadata.json."""
        return {
            "range": [-1, 1],
            "sample_rate": self.sample_rate,
            "seconds": self.seconds,
            "window": self.window,
            "hop": self.hop,
            "mel_bands": self.mel_bands,
        }

    @classmethod
    def from_description(cls, described: Mapping[str, Any]) -> SoundFormat:
        """The format that `describe` described."""
        whole = (int(described[name]) for name in ("sample_rate", "mel_bands"))
        rate, bands = whole
        seconds, window, hop = (float(described[name]) for name in ("seconds", "window", "hop"))
        return cls(rate, seconds, window, hop, bands)


def _sums(values: tf.Tensor, count: int) -> tf.Tensor:
    """The sums of `count` neighbours on the last axis, `[..., n - count + 1]`."""
    sides = [[0, 0]] * (values.shape.rank - 1) + [[1, 0]]
    totals = tf.pad(tf.cumsum(values, -1), sides)
    return totals[..., count:] - totals[..., :-count]
