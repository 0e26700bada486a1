import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.data.sound.sound_format import SoundFormat

SPEECH = SoundFormat(8000, seconds=0.6, window=0.03, hop=0.02, mel_bands=40)


def by_hand(x, sound):
    """The formula in NumPy, spectrum by spectrum and band by band."""
    frame, step = int(sound.window * sound.sample_rate), int(sound.hop * sound.sample_rate)
    size = 1 << (frame - 1).bit_length()
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(frame) / frame)
    frequencies = np.arange(size // 2 + 1) * sound.sample_rate / size
    mels = 1127 * np.log1p(frequencies / 700)
    edges = np.linspace(*(1127 * np.log1p(np.array([20, sound.sample_rate / 2]) / 700)), sound.mel_bands + 2)
    power = []
    for start in range(0, len(x) - frame + 1, step):
        spectrum = np.abs(np.fft.rfft(x[start : start + frame] * hann, size)) ** 2
        bands = []
        for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
            weight = np.clip(np.minimum((mels - low) / (middle - low), (high - mels) / (high - middle)), 0, None)
            weight[0] = 0  # a constant is no sound
            bands.append(np.sum(weight * spectrum))
        power.append(bands)
    power = np.array(power)
    return 1 + np.log10(power / power.max() + 1e-4) / 4


@pytest.mark.parametrize(
    "sound", [SPEECH, SoundFormat(16000, 1.0, 0.025, 0.01, 32), SoundFormat(11025, 0.3, 0.02, 0.015, 13)]
)
def test_the_formula_by_hand(sound):
    times = np.arange(sound.samples) / sound.sample_rate
    rising = np.sin(2 * np.pi * (300 + 2000 * times) * times) * np.exp(-3 * times)
    x = np.float32(rising + 0.01 * np.random.default_rng(0).normal(size=len(times)))
    found = sound.prepare(tf.constant(x[np.newaxis]))[0, ..., 0]
    assert (*found.shape, 1) == sound.shape
    np.testing.assert_allclose(found, by_hand(np.float64(x), sound), rtol=0, atol=2e-4)


def test_a_tone_is_bright_in_its_own_band():
    tone = np.float32(np.sin(2 * np.pi * 1000 * np.arange(SPEECH.samples) / 8000))
    found = SPEECH.prepare(tone[np.newaxis]).numpy()[0, :, :, 0]
    edges = 700 * np.expm1(np.linspace(np.log1p(20 / 700), np.log1p(4000 / 700), 42))
    assert (found.argmax(1) == np.abs(edges[1:-1] - 1000).argmin()).all()
    assert found.max() == pytest.approx(1.0, abs=1e-4) and found.min() == 0.0


def test_loudness_makes_no_difference(sounds):
    quiet = SPEECH.prepare(0.01 * sounds(4, SPEECH.samples))
    np.testing.assert_allclose(quiet, SPEECH.prepare(sounds(4, SPEECH.samples)), rtol=0, atol=1e-5)


def test_silence_is_zeros_and_its_neighbours_are_as_without_it(sounds):
    alone = sounds(2, SPEECH.samples)
    both = tf.concat([alone, tf.zeros((1, SPEECH.samples))], 0)
    found = SPEECH.prepare(both)
    np.testing.assert_array_equal(found[2], np.zeros(SPEECH.shape))
    np.testing.assert_allclose(found[:2], SPEECH.prepare(alone), rtol=0, atol=1e-6)


def test_a_meta_batch_of_tasks(sounds):
    tasks = tf.reshape(sounds(6, SPEECH.samples), (2, 3, -1))
    found = SPEECH.prepare(tasks)
    assert found.shape == (2, 3, *SPEECH.shape)
    np.testing.assert_allclose(found[1], SPEECH.prepare(tasks[1]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("length", [1, 101, 4799])
def test_a_short_recording_has_silence_on_both_sides(length, sounds):
    x = sounds(2, length)
    found = SPEECH.fit(x).numpy()
    first = (SPEECH.samples - length) // 2
    np.testing.assert_array_equal(found[:, first : first + length], x)
    assert np.count_nonzero(found) == np.count_nonzero(x)


@pytest.mark.parametrize("length", [4801, 20_000, 100_001])
@pytest.mark.parametrize("place", [0.0, 0.3, 1.0])
def test_of_a_long_recording_the_event_is_in_the_middle(length, place, sounds):
    event, noise = sounds(1, 800)[0].numpy(), 0.001 * sounds(1, length)[0].numpy()
    start = round(place * (length - 800))
    noise[start : start + 800] += event
    found = np.correlate(SPEECH.fit(noise).numpy(), event).argmax()
    first = np.clip(start + 400 - SPEECH.samples // 2, 0, length - SPEECH.samples)
    assert abs(found - (start - first)) <= 20  # 2.5 ms


def test_one_graph_takes_any_length(sounds):
    anything = tf.function(SPEECH.prepare, input_signature=[tf.TensorSpec([None, None], tf.float32)])
    for length in (100, 10_000):
        x = sounds(3, length)
        assert anything(x).shape == (3, *SPEECH.shape)
        np.testing.assert_allclose(anything(x), SPEECH.prepare(x), rtol=0, atol=1e-5)
        np.testing.assert_allclose(anything(x)[1:2], SPEECH.prepare(x[1:2]), rtol=0, atol=1e-5)


def test_its_description_says_all():
    assert SoundFormat.from_description(SPEECH.describe()) == SPEECH
