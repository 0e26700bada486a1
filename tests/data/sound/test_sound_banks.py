import numpy as np
import pytest

from tf_mamlpp.config import Data
from tf_mamlpp.data import episodes, load_banks, load_pool, nearest_pixel_accuracy
from tf_mamlpp.data.sound.sound_format import SoundFormat
from tf_mamlpp.data.sound.sound_reader import SoundReader
from tf_mamlpp.errors import UserError

SOUND = {"sample_rate": 8000, "seconds": 0.1}
WORDS = ("yes", "no", "up", "down", "left", "right")


@pytest.fixture
def words(tmp_path, wav):
    """Six words of four recordings each: every word is a tone of its own."""
    for number, name in enumerate(WORDS):
        (tmp_path / "words" / name).mkdir(parents=True)
        for take in range(4):
            tone = np.sin(2 * np.pi * (300 + 400 * number) * np.arange(1000 + 100 * take) / 16000)
            noise = 0.01 * np.random.default_rng(10 * number + take).normal(size=len(tone))
            form = ("WAV", "FLAC")[take % 2]
            content = wav(tone / 2 + noise, 16000, form)
            (tmp_path / "words" / name / f"{take}.{form.lower()}").write_bytes(content)
    return tmp_path / "words"


@pytest.fixture
def load(words, tmp_path):
    usual = {**SOUND, "cache_dir": tmp_path / "cache"}
    return lambda **settings: load_banks("audio_folder", words, **{**usual, **settings})


def test_banks_hold_what_the_files_hold(load, words):
    banks = load(split_seed=1)
    assert sorted(name for bank in banks.values() for name in bank.class_names) == sorted(WORDS)
    bank, reader = banks["train"], SoundReader(SoundFormat(8000, 0.1))
    files = [words / name / file for name in bank.class_names for file in ("0.wav", "1.flac", "2.wav", "3.flac")]
    expected = np.stack([reader.read(file.read_bytes(), "a") for file in files])
    np.testing.assert_array_equal(bank.waveforms, expected)
    np.testing.assert_array_equal(bank.take(np.array([[3, 1]])), expected[[[3, 1]]] / np.float32(32768))
    assert bank.origins([1]) == [str(files[1])] and bank.inputs.kind.examples == "recordings"


def test_the_cache_is_of_one_rate_and_length_whatever_the_spectrogram(load, tmp_path, capfd):
    first = load()["train"].waveforms
    capfd.readouterr()
    banks = load(mel_bands=13, hop=0.01)
    assert "decoding" not in capfd.readouterr().err
    np.testing.assert_array_equal(banks["train"].waveforms, first)
    assert banks["train"].inputs == SoundFormat(8000, 0.1, hop=0.01, mel_bands=13)
    assert load(sample_rate=4000)["train"].shape == (400,)
    assert "decoding audio_folder train" in capfd.readouterr().err


def test_tasks_are_spectrograms(load):
    batch = next(iter(episodes(load(), way=2, shot=1, query_shot=2, tasks=3, count=1)))
    assert batch["support_images"].shape == (3, 2, *SoundFormat(8000, 0.1).shape)
    assert batch["query_images"].shape[:2] == (3, 4) and float(batch["query_images"].numpy().max()) > 0.99


def test_the_nearest_spectrogram_knows_a_tone_by_its_pitch(load):
    bank = load(split_fractions=(1.0, 0.0, 0.0))["train"]
    accuracy, _ = nearest_pixel_accuracy(bank, way=6, shot=1, query_shot=3, tasks=5, seed=0, split="test")
    assert accuracy == 1.0


def test_a_pool_has_all_classes(words, tmp_path):
    bank = load_pool("audio_folder", words, **SOUND, cache_dir=tmp_path / "cache")
    assert (bank.name, bank.class_names, len(bank)) == ("audio_folder all", tuple(sorted(WORDS)), 24)


def test_files_that_cannot_be_read_are_one_line_or_left_out(load, words, wav):
    (words / "yes" / "0.wav").write_bytes(b"no sound")
    (words / "up" / "2.wav").write_bytes(wav(np.zeros(2000), 8000))
    with pytest.raises(UserError, match="^2 recordings cannot be read: ") as caught:
        load()
    for text in ("yes/0.wav: cannot be read as sound (Format not", "up/2.wav: is silence", "data.skip_damaged=true"):
        assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.warns(UserWarning, match="audio_folder: left out 2 damaged recordings, such as .*"):
        banks = load(skip_damaged=True)
    assert sum(map(len, banks.values())) == 22 and sum(len(bank.damaged) for bank in banks.values()) == 2


def test_a_recording_in_two_splits_is_told(load, words):
    for name in WORDS:
        (words / name / "0.wav").write_bytes((words / "yes" / "0.wav").read_bytes())
    with pytest.warns(UserWarning) as caught:
        load()
    assert "audio_folder train and audio_folder validation share 1 recording, such as " in str(caught[0].message)


def test_splits_that_folders_make(tmp_path, words):
    for split, names in (("train", WORDS[:3]), ("val", WORDS[3:4]), ("test", WORDS[4:])):
        (tmp_path / "divided" / split).mkdir(parents=True)
        for name in names:
            (words / name).rename(tmp_path / "divided" / split / name)
    banks = load_banks("audio_folder", tmp_path / "divided", **SOUND, cache_dir=tmp_path / "cache")
    assert banks["test"].class_names == ("left", "right")


@pytest.mark.parametrize(
    "path, settings, message",
    [
        ("nowhere", {}, "nowhere: no such folder; expected a folder of recordings for each class"),
        ("", {}, "has no class folders with recordings; expected a folder of recordings for each class"),
        ("", {"channels": 3}, "channels has no use with data.name=audio_folder: it is for pictures"),
        (None, {}, "data source 'audio_folder' needs a path: where its recordings are"),
    ],
)
def test_mistakes_are_one_line(tmp_path, path, settings, message):
    with pytest.raises(UserError, match=message):
        load_banks("audio_folder", None if path is None else tmp_path / path, **settings)


def test_defaults_stand_in_config_and_format_alike():
    data = Data(name="audio_folder")
    settings = {name: getattr(data, name) for name in ("sample_rate", "seconds", "window", "hop", "mel_bands")}
    assert SoundFormat(**settings) == SoundFormat()
