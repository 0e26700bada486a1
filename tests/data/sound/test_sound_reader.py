import errno

import numpy as np
import pytest

from tf_mamlpp.data.sound.sound_format import SoundFormat
from tf_mamlpp.data.sound.sound_reader import SoundReader
from tf_mamlpp.data.sources.listing import Pictures
from tf_mamlpp.errors import UserError

READER = SoundReader(SoundFormat(sample_rate=8000, seconds=0.1))
SAMPLES = np.random.default_rng(0).integers(-20_000, 20_000, 2000).astype(np.int16)


def test_a_recording_of_the_right_length_is_kept_to_the_bit(wav):
    np.testing.assert_array_equal(READER.read(wav(SAMPLES[:800], 8000), "a"), SAMPLES[:800])


def test_a_short_one_is_padded_and_of_a_long_one_a_part_is_taken(wav):
    padded = READER.read(wav(SAMPLES[:300], 8000), "a")
    np.testing.assert_array_equal(padded, np.pad(SAMPLES[:300], 250))
    part = READER.read(wav(SAMPLES, 8000), "a")
    assert any(np.array_equal(part, SAMPLES[first : first + 800]) for first in range(1201))


def listed(*contents):
    names = [f"{row}.wav" for row in range(len(contents))]
    return Pictures(("a",), (len(contents),), lambda: zip(range(len(contents)), names, contents, strict=True))


def test_damage_is_noted_and_the_others_are_read(wav):
    damaged = {}
    found = list(READER.chunks(listed(b"", wav(SAMPLES, 8000), wav(0 * SAMPLES, 8000)), damaged))
    assert [(rows, names, waveforms.shape) for rows, names, waveforms in found] == [([1], ["1.wav"], (1, 800))]
    assert damaged == {
        0: "0.wav: cannot be read as sound (Format not recognised)",
        2: "2.wav: is silence, all of its 2000 samples are the same",
    }


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
def test_what_the_system_cannot_read_for_now_is_no_damage(number):
    error = UserError("0.wav: cannot be read")
    error.__cause__ = OSError(number, "for now")
    with pytest.raises(UserError, match="0.wav: cannot be read"):
        list(READER.chunks(listed(error), damaged := {}))
    assert damaged == {}
