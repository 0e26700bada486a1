"""A run on sound, exported, from files of sound to answers."""

import shutil

import numpy as np
import pytest
import soundfile

from tf_mamlpp.config import Config, Data, Evaluation, Learner, Model, Training
from tf_mamlpp.data.sound.sound_format import SoundFormat
from tf_mamlpp.deploy.adapted_task import AdaptedTask
from tf_mamlpp.deploy.deployed_model import DeployedModel
from tf_mamlpp.deploy.export import export_run
from tf_mamlpp.deploy.folders import adapt_to_folder, learn, predict_folder
from tf_mamlpp.deploy.hardest_tasks import hardest_tasks
from tf_mamlpp.deploy.predictions import write_predictions
from tf_mamlpp.deploy.trials import run_trials
from tf_mamlpp.errors import UserError
from tf_mamlpp.training.build import make_learner
from tf_mamlpp.training.checkpoints import Checkpoints
from tf_mamlpp.training.results import evaluate_run
from tf_mamlpp.training.run_banks import load_banks
from tf_mamlpp.training.run_classes import write_classes
from tf_mamlpp.training.workdir import claim_workdir, open_run

SOUND = SoundFormat(8000, 0.2)
PITCH = {"low": 300, "middle": 900, "high": 2500}


def tone(pitch, seconds=0.2, rate=8000, seed=0):
    noise = 0.01 * np.random.default_rng(seed).normal(size=round(seconds * rate))
    return np.sin(2 * np.pi * pitch * np.arange(len(noise)) / rate) / 2 + noise


def write_tones(folder, pitches, takes=3, rate=8000, **changes):
    """A class folder for each pitch."""
    for name, pitch in pitches.items():
        (folder / name).mkdir(parents=True)
        for take in range(takes):
            file = folder / name / f"{take}.{'flac' if take else 'wav'}"
            soundfile.write(file, tone(pitch + 10 * take, rate=rate, **changes), rate)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run that has not learned anything yet."""
    folder = tmp_path_factory.mktemp("tones")
    write_tones(folder / "tones", {f"{pitch} Hz": pitch for pitch in range(400, 4000, 400)})
    config = Config(
        data=Data(
            name="audio_folder",
            path=str(folder / "tones"),
            cache_dir=str(folder / "cache"),
            way=3,
            sample_rate=8000,
            seconds=0.2,
            split_fractions=(0.34, 0.33, 0.33),
        ),
        model=Model(name="mlp"),
        learner=Learner(inner_steps=1, inner_rate=1.0),
        training=Training(tasks=2),
        evaluation=Evaluation(validation_tasks=4, test_tasks=4),
    )
    with claim_workdir(config, folder / "run"):
        Checkpoints(folder / "run" / "checkpoints", make_learner(config)).save_best(update=0, epoch=0, score=0.0)
        write_classes(folder / "run", load_banks(config))
    return folder / "run"


@pytest.fixture(scope="module")
def model(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tones"
    export_run(run, folder)
    return DeployedModel(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Class folders to learn, and others to name: of another rate and length."""
    root = tmp_path_factory.mktemp("folders")
    write_tones(root / "support", PITCH)
    write_tones(root / "query", PITCH, rate=16000, seconds=0.31, seed=1)
    return root


@pytest.fixture(scope="module")
def task(model, folders):
    return adapt_to_folder(model, folders / "support")


def test_the_model_takes_waveforms_and_answers_as_the_learner_does(run, model):
    waveforms = np.float32([tone(pitch) for pitch in PITCH.values()])
    longer = np.float32([tone(pitch, seconds=0.5, seed=1) for pitch in PITCH.values()])
    task = model.adapt(waveforms, [0, 1, 2], list(PITCH))
    learner = open_run(run)[1]
    adapted = learner.adapt(SOUND.prepare(waveforms), [0, 1, 2])
    expected = learner.predict_adapted(adapted, SOUND.prepare(longer)).numpy()
    found = model.predict(task, longer)
    odds = [np.log(p / p[:, :1]) for p in (found.astype(float), expected.astype(float))]
    # Calibrated probabilities: all odds have one power.
    np.testing.assert_allclose(odds[0] * (odds[1][0, 1] / odds[0][0, 1]), odds[1], rtol=1e-3, atol=1e-3)


def test_what_the_export_says_of_itself(model):
    assert model.inputs == SOUND and model.inputs.kind.examples == "recordings"


def test_other_recordings_are_tested_beside_the_nearest_spectrogram(run, folders, capsys):
    kept, place = [], str(folders / "query")
    report = {"report": lambda result, answers: kept.append(answers)}
    [found] = evaluate_run(run, [None], data_name="audio_folder", data_path=place, **report)
    assert found["nearest_spectrogram"]["accuracy"] == 1.0 and found["nearest_mean_spectrogram"]["accuracy"] == 1.0
    assert f"{place}: all 3 classes (9 recordings)" in capsys.readouterr().out
    assert hardest_tasks(kept[0]).size[0] == 1200


def test_litert_is_refused_in_one_line(run, tmp_path):
    message = "LiteRT takes runs on pictures, and this one was trained on sound: export a SavedModel"
    with pytest.raises(UserError, match=f"^{message}$"):
        export_run(run, tmp_path / "tones.tflite", form="tflite")


def test_folders_of_sound_are_learned_and_named(model, folders, task, tmp_path):
    assert task.class_names == ("high", "low", "middle") and task.images.shape == (9, 1600)
    found = predict_folder(model, task, folders / "query", evaluate=True)
    assert found.accuracy == 1.0 and found.files[0] == "high/0.wav"
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
