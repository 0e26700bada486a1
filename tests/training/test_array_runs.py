"""Runs on arrays: the same numbers as on the same pictures, and on whole numbers with a network of one's own."""

import dataclasses
import json
import shutil
import textwrap

import numpy as np
import pytest

from tf_mamlpp import config as configs
from tf_mamlpp import data
from tf_mamlpp.config import Augmentation, Config, Data, Evaluation, Learner, Model, Pretrain, Training
from tf_mamlpp.errors import UserError
from tf_mamlpp.training import results, train
from tf_mamlpp.training.build import make_model
from tf_mamlpp.training.other_data import other_source
from tf_mamlpp.training.run_inputs import kept_inputs, run_inputs
from tf_mamlpp.training.workdir import open_run

SMALL = {
    "learner": Learner(inner_steps=1),
    "training": Training(epochs=1, updates=3, tasks=2, checkpoint_updates=2),
    "evaluation": Evaluation(validation_tasks=2, test_tasks=4, ensemble=1),
}
EMBEDS = """
import keras

def make(shape, outputs):
    return keras.Sequential([
        keras.Input(shape, dtype="int32"),
        keras.layers.Embedding(50, 4),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dense(outputs),
    ])
"""


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A finished run on rows of tokens, with an embedding of one's own: its data and workdir."""
    folder, generator = tmp_path_factory.mktemp("words"), np.random.default_rng(0)
    labels = generator.permutation(np.repeat(np.arange(12), 5))
    tokens = generator.integers(0, 4, (60, 6)) + 4 * labels[:, None]
    np.savez(folder / "words.npz", inputs=tokens, labels=labels)
    (folder / "embeds_words.py").write_text(textwrap.dedent(EMBEDS))
    config = Config(
        data=Data(name="arrays", path=str(folder / "words.npz"), way=2), model=Model(name="embeds_words:make"), **SMALL
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        train.train_and_evaluate(config, folder / "run")
        yield folder / "words.npz", folder / "run"


def test_the_same_data_as_pictures_give_the_same_run_to_the_bit(
    tmp_path, picture_tree, folder_config, pool, monkeypatch
):
    monkeypatch.setenv("TF_MAMLPP_CACHE", str(tmp_path / "cache"))
    pictures = folder_config(picture_tree(tmp_path / "pets", pool))
    loaded = data.load_banks("image_folder", pictures.data.path, image_size=(8, 8), channels=1)
    arrays, scale = {}, pictures.data
    for bank in loaded.values():
        for c, name in enumerate(bank.class_names):
            pixels = bank.take(np.arange(*bank.offsets[c : c + 2]))
            arrays[name] = data.normalise(pixels, scale.mean, scale.std).numpy()
    np.savez(tmp_path / "pets.npz", **dict(sorted(arrays.items())))
    given = Data(name="arrays", path=str(tmp_path / "pets.npz"), way=2, normalise=False)
    found = [
        train.train_and_evaluate(config, tmp_path / config.data.name)
        for config in (pictures, dataclasses.replace(pictures, data=given))
    ]
    for file in ("updates.csv", "test_tasks.csv"):
        one, other = ((tmp_path / name / file).read_text() for name in ("image_folder", "arrays"))
        assert one == other
    of_pictures, of_arrays = found
    same = ("accuracy", "accuracy_per_inner_step", "single_model", "confidence")
    assert {name: of_pictures[name] for name in same} == {name: of_arrays[name] for name in same}
    assert of_arrays["nearest_example"] == of_pictures["nearest_pixel"]


def test_whole_numbers_are_learned_from(words):
    file, workdir = words
    config, learner, _ = open_run(workdir)
    assert kept_inputs(config, workdir).dtype == "int32" and learner.model.inputs[0].dtype == "int32"
    found = json.loads((workdir / "results.json").read_text())
    assert found["dataset"] == "arrays" and {"nearest_example", "confidence"} <= found.keys()
    assert "nearest_example_mean" not in found  # names have no mean
    assert {"inputs.json", "classes.json", "test_tasks.csv"} <= {path.name for path in workdir.iterdir()}


def test_a_mapped_folder_gives_the_same_test_to_the_bit(words, tmp_path, capsys):
    file, workdir = words
    with np.load(file) as arrays:
        for name in arrays:
            np.save(tmp_path / f"{name}.npy", arrays[name])
    again = results.evaluate_run(workdir, [None], data_path=str(tmp_path))[0]
    before = json.loads((workdir / "results.json").read_text())
    assert again == {name: before[name] for name in again}
    told = f"{tmp_path}: one pool of 12 classes, divided by data.split_seed=0: train 8 classes (40 examples), "
    assert told in capsys.readouterr().out


@pytest.mark.slow
def test_it_resumes_with_what_it_has_kept(words, tmp_path):
    file, workdir = words
    shutil.copytree(workdir, tmp_path / "run")
    config = configs.from_dict(json.loads((workdir / "config.json").read_text()))
    more = dataclasses.replace(config, training=dataclasses.replace(config.training, epochs=2))
    assert train.train_and_evaluate(more, tmp_path / "run")["train_steps"] == 6
    assert (tmp_path / "run" / "inputs.json").read_text() == (workdir / "inputs.json").read_text()


def test_changed_and_missing_classes_are_told(words, tmp_path):
    file, workdir = words
    with np.load(file) as arrays:
        inputs, labels = arrays["inputs"], arrays["labels"]
    np.savez(tmp_path / "other.npz", inputs=inputs + 1, labels=labels)
    with pytest.warns(UserWarning, match="the examples of 12 of 12 classes have changed since the run"):
        results.evaluate_run(workdir, [None], data_path=str(tmp_path / "other.npz"))
    np.savez(tmp_path / "fewer.npz", inputs=inputs[labels != 3], labels=labels[labels != 3])
    with pytest.raises(UserError, match="the classes of arrays are not the classes of the run"):
        results.evaluate_run(workdir, [None], data_path=str(tmp_path / "fewer.npz"))
    with pytest.raises(UserError, match=r"gone: 3 \(|has no class '3'"):
        split_file = str(workdir / "classes.json")
        results.evaluate_run(workdir, [None], data_path=str(tmp_path / "fewer.npz"), split_file=split_file)


def write(path, shape, classes=4, shift=0.0):
    generator = np.random.default_rng(1)
    inputs = generator.normal(size=(classes * 3, *shape)) + shift
    np.savez(path, inputs=inputs, labels=np.repeat(np.arange(classes), 3))
    return str(path)


@pytest.fixture
def numbers(tmp_path):
    """The config of a run on numbers, and what an example is to it."""
    path = write(tmp_path / "own.npz", (3,))
    config = Config(data=Data(name="arrays", path=path, way=2), model=Model(name="mlp"), **SMALL)
    return config, data.load_banks("arrays", path)["train"].inputs


def test_other_arrays_are_seen_on_the_run_s_scale(numbers, tmp_path, capsys):
    config, inputs = numbers
    other = write(tmp_path / "other.npz", (3,), shift=50.0)
    tested, banks = other_source(config, "arrays", other, inputs=inputs)
    assert banks["all"].inputs == inputs and tested.data.path == other
    assert capsys.readouterr().out == f"{other}: all 4 classes (12 examples)\n"
    _, banks = other_source(config, "arrays", write(tmp_path / "more.npz", (3,), 8), "test", inputs=inputs)
    assert banks["train"].inputs == banks["test"].inputs == inputs


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("arrays", "own.npz", "'arrays' is the run's own: leave --data out, or give the path of other examples"),
        ("arrays", "wide.npz", r"arrays all: an example is float32 \[4\], and the run was trained on float32 \[3\]"),
        ("glyphs", None, "data source 'glyphs' has pictures, and the run was trained on arrays"),
        ("sinusoid", None, "data source 'sinusoid' has points, and the run was trained on arrays"),
    ],
)
def test_what_it_cannot_be_tested_on(numbers, tmp_path, name, path, message):
    config, inputs = numbers
    write(tmp_path / "wide.npz", (4,))
    with pytest.raises(UserError, match=message):
        other_source(config, name, path and str(tmp_path / path), inputs=inputs)


def test_a_run_on_pictures_is_not_tested_on_arrays(tmp_path):
    with pytest.raises(UserError, match="data source 'arrays' has no pictures, and the run was trained on pictures"):
        other_source(Config(), "arrays", write(tmp_path / "own.npz", (28, 28, 1)))


@pytest.mark.parametrize(
    ("shape", "dtype", "model", "message"),
    [
        (
            (9,),
            "float32",
            "conv4",
            r"^conv4 takes pictures .*, not inputs of shape \(9,\): give model.name=mlp, conv1d, gru, or",
        ),
        ((9, 2), "float32", "resnet12", r"^resnet12 takes pictures .*, not inputs of shape \(9, 2\)"),
        ((9,), "int32", "mlp", "^the inputs are whole numbers, which mlp does not take: give a network of your own"),
        ((32, 32, 3), "int32", "keras:MobileNetV3Small", "^the inputs are whole numbers, which keras:Mobile"),
    ],
)
def test_networks_that_do_not_take_the_inputs(shape, dtype, model, message):
    config = Config(data=Data(name="arrays"), model=Model(name=model))
    with pytest.raises(UserError, match=message):
        make_model(config, data.ArrayFormat(shape, dtype))


def test_arrays_of_pictures_take_networks_of_pictures():
    config = Config(data=Data(name="arrays"), model=Model(name="conv4", filters=2))
    assert make_model(config, data.ArrayFormat((28, 28, 1), "float32")).input_shape == (None, 28, 28, 1)


def test_a_damaged_or_lost_scale_is_one_line(words, tmp_path):
    _, workdir = words
    config, _, _ = open_run(workdir)
    for text in ("{}", "not JSON", '{"arrays": {"shape": []}}', '{"arrays": 3}'):
        (tmp_path / "inputs.json").write_text(text)
        with pytest.raises(UserError, match="inputs.json"):
            run_inputs(config, tmp_path)
    (tmp_path / "inputs.json").unlink()
    with pytest.raises(UserError, match="has no inputs.json, which tells what its model takes"):
        kept_inputs(config, tmp_path)


def test_copies_of_pictures_are_refused(words):
    with pytest.raises(UserError, match="support_augmentations: the run was trained on arrays, not on pictures"):
        results.evaluate_run(words[1], [None], support_augmentations=2)


@pytest.mark.slow
def test_pretraining_on_arrays(numbers, tmp_path):
    config, inputs = numbers
    staged = dataclasses.replace(config, pretrain=Pretrain(epochs=1, batch=4, parts=2), augmentation=Augmentation())
    found = train.train_and_evaluate(staged, tmp_path / "run")
    assert found["pretraining"]["train_steps"] == 1
    start = dataclasses.replace(config, training=dataclasses.replace(config.training, start=str(tmp_path / "run")))
    assert train.train_and_evaluate(start, tmp_path / "next")["train_steps"] == 3
