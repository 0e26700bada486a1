"""An exported model of sound, from files of sound to answers."""

import shutil

import numpy as np
import pytest
import soundfile

import tf_mamlpp as mp
from tf_mamlpp.data.sound.sound_format import SoundFormat
from tf_mamlpp.deploy.adapted_task import AdaptedTask
from tf_mamlpp.deploy.deployed_model import DeployedModel
from tf_mamlpp.deploy.folders import adapt_to_folder, learn, predict_folder
from tf_mamlpp.deploy.learner_export import RUN_NAMES, InputSignatures, export_inputs
from tf_mamlpp.deploy.predictions import write_predictions
from tf_mamlpp.deploy.state_learner import state_learner
from tf_mamlpp.deploy.trials import run_trials

SOUND = SoundFormat(8000, 0.2)
PITCH = {"low": 300, "middle": 900, "high": 2500}


@pytest.fixture(scope="module")
def learner():
    return mp.MetaLearner(mp.mlp(SOUND.shape, 3), way=3, inner_steps=1, inner_rate=1.0)


@pytest.fixture(scope="module")
def model(learner, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "sound"
    signatures = InputSignatures(state_learner(learner, inputs=SOUND), SOUND.signature(), RUN_NAMES)
    export_inputs(signatures, folder)
    return DeployedModel(folder)


def tone(pitch, seconds=0.2, rate=8000, seed=0):
    noise = 0.01 * np.random.default_rng(seed).normal(size=round(seconds * rate))
    return np.sin(2 * np.pi * pitch * np.arange(len(noise)) / rate) / 2 + noise


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Class folders to learn, and others to name: of other rates, lengths and forms."""
    root = tmp_path_factory.mktemp("sounds")
    for folder, changes in (("support", {}), ("query", {"seconds": 0.31, "rate": 16000, "seed": 1})):
        for name, pitch in PITCH.items():
            (root / folder / name).mkdir(parents=True)
            for take in range(3):
                file = root / folder / name / f"{take}.{'flac' if take else 'wav'}"
                soundfile.write(file, tone(pitch + 10 * take, **changes), changes.get("rate", 8000))
    return root


@pytest.fixture(scope="module")
def task(model, folders):
    return adapt_to_folder(model, folders / "support")


def test_the_model_takes_waveforms_and_answers_as_the_learner_does(learner, model):
    waveforms = np.float32([tone(pitch) for pitch in PITCH.values()])
    longer = np.float32([tone(pitch, seconds=0.5, seed=1) for pitch in PITCH.values()])
    task = model.adapt(waveforms, [0, 1, 2], list(PITCH))
    adapted = learner.adapt(SOUND.prepare(waveforms), [0, 1, 2])
    expected = learner.predict_adapted(adapted, SOUND.prepare(longer))
    np.testing.assert_allclose(model.predict(task, longer), expected, rtol=0, atol=1e-5)


def test_folders_of_sound_are_learned_and_named(model, folders, task, tmp_path):
    assert task.class_names == ("high", "low", "middle") and task.images.shape == (9, 1600)
    found = predict_folder(model, task, folders / "query", evaluate=True)
    assert found.accuracy == 1.0 and found.files[0] == "high/0.wav" and found.kind.examples == "recordings"
    write_predictions(found, task, tmp_path)
    assert (tmp_path / "predictions.csv").read_text().startswith("file,label,truth,probability high,")
    assert (tmp_path / "contact_sheet.png").stat().st_size > 10_000
    assert found.shown[0].shape == (40, 9, 1) and found.shown[0].dtype == np.uint8


def test_a_kept_state_learns_more(model, folders, task, tmp_path):
    task.save(tmp_path / "task.npz")
    more = learn(model, AdaptedTask.load(tmp_path / "task.npz"), folders / "query")
    assert more.images.shape == (18, 1600) and not np.array_equal(more.state, task.state)


def test_what_cannot_be_read_is_named_and_left_out(model, folders, task, tmp_path, capsys):
    shutil.copytree(folders / "query", tmp_path / "query")
    (tmp_path / "query" / "high" / "0.wav").write_bytes(b"no sound")
    soundfile.write(tmp_path / "query" / "low" / "0.wav", np.zeros(800), 8000)
    found = predict_folder(model, task, tmp_path / "query", evaluate=True)
    lines = capsys.readouterr().err.splitlines()
    assert (found.skipped, found.accuracy, len(lines)) == (2, 1.0, 2)
    assert "high/0.wav: cannot be read as sound (Format not recognised)" in lines[0]
    assert "low/0.wav: is silence, all of its 800 samples are the same" in lines[1]


def test_trials_stand_beside_the_nearest_spectrogram(model, folders):
    found = run_trials(model, folders / "support", way=3, shot=1, query_shot=2, count=2)
    assert found["nearest_spectrogram"][0] == 1.0 and found["accuracy"][0] > 0.5
