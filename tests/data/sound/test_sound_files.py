import builtins
import struct

import numpy as np
import pytest
from hypothesis import strategies as st

from tf_mamlpp.data.sound.sound_files import read_sound
from tf_mamlpp.errors import UserError

TONE = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)  # a second


@pytest.mark.parametrize("form", ["WAV", "FLAC", "AIFF"])
def test_sixteen_bits_come_out_as_they_went_in(wav, form):
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, 500).astype(np.int16)
    np.testing.assert_array_equal(read_sound(wav(samples, 8000, form), 8000, "a"), samples)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_other_widths(wav, subtype):
    found = read_sound(wav(0.5 * TONE, 8000, subtype=subtype), 8000, "a")
    np.testing.assert_allclose(found / 32768, 0.5 * TONE, rtol=0, atol=0.02)


@pytest.mark.parametrize("rate", [4000, 11025, 16000, 44100, 96000])
def test_any_rate_becomes_the_wanted_one(wav, rate):
    """The same tone, recorded at another rate."""
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    found = read_sound(wav(0.5 * tone, rate), 8000, "a") / 32768
    assert len(found) == 8000
    np.testing.assert_allclose(found[400:-400], 0.5 * TONE[400:-400], rtol=0, atol=0.01)


def test_channels_become_their_mean(wav):
    found = read_sound(wav(np.stack([TONE, 0 * TONE, -0.5 * TONE], 1), 8000), 8000, "a")
    np.testing.assert_allclose(found / 32768, TONE / 6, rtol=0, atol=1e-4)


def test_too_loud_floats_are_cut(wav):
    found = read_sound(wav(4 * TONE, 8000, subtype="FLOAT"), 8000, "a")
    assert (found.min(), found.max()) == (-32768, 32767)


def with_rate(content, rate):
    """The content of a WAV file whose header gives another sample rate."""
    at = content.index(b"fmt ") + 12
    return content[:at] + struct.pack("<I", rate) + content[at + 4 :]


NO_RATE = "cannot be read as sound (its header gives no possible sample rate)"


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda wav: b"", "cannot be read as sound (Format not recognised)"),
        (lambda wav: b"hello", "cannot be read as sound (Format not recognised)"),
        (lambda wav: wav(TONE, 8000)[:30], "cannot be read as sound (Error in WAV file. No 'data' chunk marker)"),
        (lambda wav: wav(TONE, 8000, "FLAC")[:500], "cannot be read as sound (Error : flac decoder lost sync)"),
        (
            lambda wav: with_rate(wav(TONE, 8000), 0),
            "cannot be read as sound (its header gives no possible sample rate)",
        ),
        (lambda wav: with_rate(wav(TONE, 8000), 1), "has 8000 samples, which are too many"),
        (lambda wav: wav(0 * TONE, 8000), "is silence, all of its 8000 samples are the same"),
        (lambda wav: wav(0 * TONE + 0.1, 44100), "is silence, all of its 8000 samples are the same"),
        (lambda wav: wav(TONE[:0], 8000), "is silence, all of its 0 samples are the same"),
        (lambda wav: wav(TONE / 0, 8000, subtype="FLOAT"), "has samples that are no finite numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_what_cannot_be_read_is_one_line(wav, damage, message):
    with pytest.raises(UserError) as caught:
        read_sound(damage(wav), 400_000, "words/yes/1.wav")
    assert str(caught.value) == f"words/yes/1.wav: {message}; replace or remove it"


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG"])
def test_flipped_bits_are_read_or_refused(wav, form, fuzz, flips, no_hang):
    whole = wav(TONE[:2000], 8000, form)

    def check(damages):
        content = whole
        for damage in damages:
            content = damage(content)
        try:
            assert read_sound(content, 8000, "a").dtype == np.int16
        except UserError as error:
            assert str(error).startswith("a: ") and "\n" not in str(error)

    fuzz(check, 25, damages=st.lists(flips, min_size=1, max_size=4))


@pytest.mark.parametrize("missing", ["soundfile", "soxr"])
def test_a_missing_library_names_the_extra(wav, missing, monkeypatch):
    content, plain = wav(TONE, 8000), builtins.__import__

    def refuse(name, *arguments, **settings):
        if name == missing:
            raise ImportError(f"No module named '{missing}'")
        return plain(name, *arguments, **settings)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match=rf"'{missing}'\): pip install 'tf_mamlpp\[audio\]'"):
        read_sound(content, 8000, "a")
