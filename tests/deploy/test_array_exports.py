"""Runs on arrays, exported: they take inputs as they are, and give what the learner gives."""

import csv
import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.config import Config, Data, Evaluation, Learner, Model, Training
from tf_mamlpp.deploy import folders, predictions
from tf_mamlpp.deploy.adapted_task import AdaptedTask
from tf_mamlpp.deploy.deployed_model import DeployedModel
from tf_mamlpp.deploy.export import export_run
from tf_mamlpp.deploy.trials import run_trials
from tf_mamlpp.errors import UserError
from tf_mamlpp.training.build import make_learner
from tf_mamlpp.training.checkpoints import Checkpoints
from tf_mamlpp.training.results import evaluate_run
from tf_mamlpp.training.run_banks import load_banks
from tf_mamlpp.training.run_classes import write_classes
from tf_mamlpp.training.run_inputs import kept_inputs, write_inputs
from tf_mamlpp.training.workdir import claim_workdir, open_run

WAY = 3


def embeds(shape, outputs):
    layers = keras.layers
    return keras.Sequential(
        [keras.Input(shape, dtype="int32"), layers.Embedding(99, 4), layers.Flatten(), layers.Dense(outputs)]
    )


def write_run(folder, inputs, **sections):
    """The folder of a run that has not learned anything yet, on these inputs of twelve classes in turn."""
    np.savez(folder / "data.npz", inputs=inputs, labels=np.arange(len(inputs)) % 12)
    config = Config(
        data=Data(name="arrays", path=str(folder / "data.npz"), way=WAY, split_fractions=(0.4, 0.3, 0.3)),
        training=Training(tasks=2),
        evaluation=Evaluation(validation_tasks=4, test_tasks=8),
        **sections,
    )
    banks = load_banks(config)
    learner = make_learner(config, banks["train"].inputs)
    with claim_workdir(config, folder / "run"):
        Checkpoints(folder / "run" / "checkpoints", learner).save_best(update=0, epoch=0, score=0.0)
        write_classes(folder / "run", banks)
        write_inputs(folder / "run", banks["train"].inputs)
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    of_class, generator = np.arange(60) % 12, np.random.default_rng(0)
    inputs = generator.normal(size=(12, 5, 4))[of_class] + 0.3 * generator.normal(size=(60, 5, 4))
    inputs = (inputs + 3) * 10.0 ** np.arange(4)
    learner = Learner(inner_steps=2, head="prototypes")
    return write_run(tmp_path_factory.mktemp("numbers"), inputs, model=Model(name="mlp"), learner=learner)


@pytest.fixture(scope="module")
def exported(run):
    export_run(run, run.parent / "model")
    return run.parent / "model"


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(str(exported))


@pytest.fixture(scope="module")
def model(exported):
    return DeployedModel(exported)


def drawn(count, seed=1):
    scale = 10.0 ** np.arange(4)
    return (np.random.default_rng(seed).normal(size=(count, 5, 4)) * scale + 3 * scale).astype(np.float32)


def learner_s_answer(run, support, labels, queries):
    config, learner, checkpoints = open_run(run)
    checkpoints.restore_best(0)
    prepare = kept_inputs(config, run).prepare
    adapted = learner.adapt(prepare(support), labels)
    return learner.predict_adapted(adapted, prepare(queries))


def test_it_answers_as_the_learner_does(run, exported, loaded):
    support, labels, queries = drawn(6), np.int32([0, 1, 2, 2, 1, 0]), drawn(7, seed=2)
    expected = learner_s_answer(run, support, labels, queries)
    temperature = json.loads((exported / "metadata.json").read_text())["confidence"]["temperature"]
    state = loaded.adapt(support, labels)["state"]
    found = loaded.predict(state, queries)
    np.testing.assert_allclose(tf.nn.softmax(found["logits"]), expected, atol=1e-5)
    np.testing.assert_allclose(found["probabilities"], tf.nn.softmax(found["logits"] / temperature), atol=1e-6)
    signatures = loaded.signatures
    named = signatures["adapt"](support_inputs=tf.constant(support), support_labels=tf.constant(labels))["state"]
    np.testing.assert_array_equal(named, state)
    given = {"support_inputs": tf.constant(support), "support_labels": tf.constant(labels)}
    both = signatures["serving_default"](**given, query_inputs=tf.constant(queries))
    np.testing.assert_allclose(both["logits"], found["logits"], rtol=1e-5)
    few = signatures["predict"](state=state, inputs=tf.constant(queries[:2]))
    np.testing.assert_allclose(few["logits"], found["logits"][:2], rtol=1e-5)


def test_metadata_say_what_it_takes_and_how_good_it_is(run, exported):
    about = json.loads((exported / "metadata.json").read_text())
    kept = json.loads((run / "inputs.json").read_text())
    assert {"arrays": about["arrays"]} == kept and about["arrays"]["shape"] == [5, 4]
    assert about["signatures"]["adapt"]["inputs"] == {
        "support_inputs": {"dtype": "float32", "shape": [None, 5, 4]},
        "support_labels": {"dtype": "int32", "shape": [None]},
    }
    assert about["test"]["accuracy"] == pytest.approx(evaluate_run(run, [None])[0]["accuracy"], abs=1e-7)
    assert "pictures" not in about and "path" not in about["config"]["data"]


@pytest.mark.parametrize(
    ("support", "labels", "message"),
    [
        (drawn(2) * np.nan, [0, 1], "support_inputs and support_labels must be finite"),
        (drawn(3), [0, 1], "each example needs one label"),
        (drawn(2), [0, 2], "support_labels must be numbers of classes from 0 on"),
        (drawn(0), [], "the support set is empty"),
    ],
)
def test_mistakes_of_a_client_are_told(loaded, support, labels, message):
    adapt = loaded.signatures["adapt"]
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        adapt(support_inputs=tf.constant(support), support_labels=tf.constant(np.int32(labels)))


@pytest.fixture
def files(tmp_path):
    """Labelled arrays to learn, and others to classify: a folder that is mapped, and one array."""
    labels = np.array(["cat", "ant", "bee"] * 2)
    np.savez(tmp_path / "support.npz", inputs=drawn(6), labels=labels)
    (tmp_path / "query").mkdir()
    np.save(tmp_path / "query" / "inputs.npy", drawn(6))  # the same, to be recognised
    np.save(tmp_path / "query" / "labels.npy", labels)
    np.save(tmp_path / "loose.npy", drawn(4))
    return tmp_path


def test_files_are_learned_and_classified(run, model, files, monkeypatch):
    task = folders.adapt_to_folder(model, files / "support.npz")
    assert task.class_names == ("ant", "bee", "cat")
    found = folders.predict_folder(model, task, files / "query", evaluate=True, reject=True)
    assert found.files == [f"inputs[{row}]" for row in range(6)] and found.truths == ["cat", "ant", "bee"] * 2
    expected = learner_s_answer(run, drawn(6)[[1, 4, 2, 5, 0, 3]], np.int32([0, 0, 1, 1, 2, 2]), drawn(6))
    np.testing.assert_array_equal(found.probabilities.argmax(1), np.argmax(expected, 1))
    predictions.write_predictions(found, task, files / "out")
    assert [path.name for path in (files / "out").iterdir()] == ["predictions.csv"]
    with open(files / "out" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["example", "label", "truth", "known", *(f"probability {n}" for n in task.class_names)]
    assert predictions.summary(found).startswith("6 examples, mean confidence ")
    loose = folders.predict_folder(model, task, files / "loose.npy")
    np.testing.assert_allclose(loose.probabilities, found.probabilities[:4], atol=1e-6)
    monkeypatch.setattr("tf_mamlpp.deploy.deployed_model._AT_ONCE", 3)
    monkeypatch.setattr("tf_mamlpp.data.array_bank._CHUNK", 2 * 20 * 4)
    again = folders.predict_folder(model, task, files / "query")
    np.testing.assert_allclose(again.probabilities, found.probabilities, atol=1e-6)
    assert again.truths is None


def test_one_class_more_and_one_less(model, files):
    np.savez(files / "first.npz", cat=drawn(6)[[0, 3]], ant=drawn(6)[[1, 4]])
    np.savez(files / "more.npz", bee=drawn(6)[[2, 5]])
    before = folders.learn(model, None, files / "first.npz")
    before.save(files / "state.npz")
    task = folders.learn(model, AdaptedTask.load(files / "state.npz"), files / "more.npz")
    at_once = model.adapt(task.images, task.labels, task.class_names)
    np.testing.assert_array_equal(task.state, at_once.state)
    assert task.class_names == ("ant", "cat", "bee") and task.images.dtype == np.float32
    assert folders.learn(model, task, None, ["cat"]).class_names == ("ant", "bee")
    found = folders.predict_folder(model, task, files / "query", evaluate=True)
    old = folders.predict_folder(model, before, files / "query", True, classes=["cat", "ant"])
    assert len(old.files) == 4 and "(4 examples)" in predictions.change(old, found)


def test_trials_on_labelled_arrays(model, files):
    np.savez(files / "pool.npz", inputs=drawn(30), labels=np.arange(30) % 5)
    found = run_trials(model, files / "pool.npz", way=3, shot=2, query_shot=2, count=5, unknown=2)
    assert sorted(found) == ["accuracy", "auroc", "known_kept", "nearest_example", "unknown_found"]


def test_files_that_do_not_go_with_the_model(model, files):
    task = folders.adapt_to_folder(model, files / "support.npz")
    np.savez(files / "wide.npz", ant=np.ones((2, 5, 3)))
    np.savez(files / "whole.npz", ant=np.ones((2, 5, 4), int))
    np.savez(files / "new.npz", dog=drawn(2))
    np.savez(files / "nan.npz", ant=drawn(2) * np.nan)
    for name, message in (
        ("wide.npz", r"an example is float32 \[5, 3\], and the model takes float32 \[5, 4\]$"),
        ("whole.npz", r"an example is int32 \[5, 4\], and the model takes float32 \[5, 4\]$"),
        ("nan.npz", r"ant\[0\] has NaN"),
        ("none.npz", "no such file or folder"),
        ("loose.npy", "is one array; expected"),
    ):
        with pytest.raises(UserError, match=message):
            folders.adapt_to_folder(model, files / name)
    with pytest.raises(UserError, match="loose.npy' has no labels, which --evaluate needs"):
        folders.predict_folder(model, task, files / "loose.npy", evaluate=True)
    with pytest.raises(UserError, match=r"has class 'dog', which was not learned \(ant, bee, cat\)"):
        folders.predict_folder(model, task, files / "new.npz", evaluate=True)
    with pytest.raises(UserError, match="class 'dog' has no example: give it one"):
        model.adapt(drawn(1), [0], ["cat", "dog"])
    other = dataclasses.replace(task, images=task.images[:, :4])
    with pytest.raises(UserError, match="the learned state does not belong to this model"):
        folders.learn(model, other, files / "support.npz")


def test_no_file_for_a_device(run, tmp_path):
    with pytest.raises(UserError, match="^LiteRT takes runs on pictures, and this one was trained on arrays: export a"):
        export_run(run, tmp_path / "model.tflite", form="tflite")
    assert not (tmp_path / "model.tflite").exists()


def test_whole_numbers_from_the_file_to_the_answer(tmp_path):
    tokens = np.random.default_rng(0).integers(0, 99, (60, 6))
    settings = {"model": Model(name=f"{__name__}:embeds"), "learner": Learner(inner_steps=2)}
    run = write_run(tmp_path, tokens, **settings)
    about = export_run(run, tmp_path / "model", tasks=0)
    assert about["signatures"]["predict"]["inputs"]["inputs"] == {"dtype": "int32", "shape": [None, 6]}
    np.savez(tmp_path / "support.npz", ant=tokens[:2], bee=tokens[2:3], cat=tokens[5:6])
    np.save(tmp_path / "query.npy", tokens[:9])
    model = DeployedModel(tmp_path / "model")
    task = folders.adapt_to_folder(model, tmp_path / "support.npz")
    assert task.images.dtype == np.int32
    found = folders.predict_folder(model, task, tmp_path / "query.npy")
    expected = learner_s_answer(run, tokens[[0, 1, 2, 5]].astype(np.int32), np.int32([0, 0, 1, 2]), tokens[:9])
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
    np.savez(tmp_path / "many.npz", **{name: tokens[:1] for name in "abcd"})
    with pytest.raises(UserError, match="has 4 classes, and the model tells 3 apart: leave out 1, or train"):
        folders.adapt_to_folder(model, tmp_path / "many.npz")
