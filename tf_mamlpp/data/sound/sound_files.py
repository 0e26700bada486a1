"""Files of sound, read by libraries: WAV, FLAC and whatever else libsndfile knows.  Imports no TensorFlow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from tf_mamlpp.data.damaged_pictures import MEND
from tf_mamlpp.errors import UserError

_MOST_SAMPLES = 1 << 28  # of one file, all channels: an hour and a half of stereo at 22 kHz

_STEP = 1 / 32768  # of 16 bits


def libraries() -> tuple[Any, Any]:
    """soundfile and soxr, which the extra `audio` installs.

    Raises:
        UserError: they are not installed.

    Example:
        >>> [library.__name__ for library in libraries()]
        ['soundfile', 'soxr']
    """
    try:
        import soundfile
        import soxr
    except (ImportError, OSError) as error:  # OSError: soundfile without its libsndfile
        raise UserError(f"sound needs soundfile and soxr ({error}): pip install 'tf_mamlpp[audio]'") from error
    return soundfile, soxr


def read_sound(content: bytes, sample_rate: int, name: str) -> np.ndarray:
    """Reads a recording: its channels become one, their mean, and its rate becomes the wanted one.

    Args:
        content: of a file.
        sample_rate: that is wanted.
        name: of the file, for the error.

    Returns:
        int16 `[samples]`.

    Raises:
        UserError: the file cannot be read, has nothing in it but silence, or is longer than memory may hold.

    Example:
        >>> soundfile, _ = libraries()
        >>> stereo = np.stack([np.sin(np.arange(16000) / 9), np.zeros(16000)], 1)
        >>> soundfile.write(tmp_path / "a.wav", stereo, 16000)
        >>> waveform = read_sound((tmp_path / "a.wav").read_bytes(), 8000, "a.wav")
        >>> waveform.dtype, waveform.shape, int(waveform[2000:6000].max())  # half of 32768
        (dtype('int16'), (8000,), 16384)
    """
    soundfile, soxr = libraries()
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            rate, most = file.samplerate, max(1.0, sample_rate / file.samplerate) * file.frames * file.channels
            if most > _MOST_SAMPLES:
                raise UserError(f"{name}: has {file.frames} samples, which are too many{MEND}")
            waveform = file.read(dtype="float32", always_2d=True).mean(axis=1)
    except soundfile.SoundFileError as error:
        raise UserError(f"{name}: cannot be read as sound ({_reason(error)}){MEND}") from error
    if not np.isfinite(waveform).all():
        raise UserError(f"{name}: has samples that are no finite numbers{MEND}")
    if not len(waveform) or np.ptp(waveform) < _STEP:
        raise UserError(f"{name}: is silence, all of its {len(waveform)} samples are the same{MEND}")
    if rate != sample_rate:
        waveform = soxr.resample(waveform, rate, sample_rate)
    return np.clip(np.rint(waveform / _STEP), -32768, 32767).astype(np.int16)


def _reason(error: Any) -> str:
    """What libsndfile says, in one line."""
    text = " ".join(str(getattr(error, "error_string", error)).split())
    return "its header gives no possible sample rate" if "SF_INFO" in text else text.rstrip(".")
