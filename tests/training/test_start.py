"""A new run that begins with the weights of another, or of a file."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.config import Config, Data, Evaluation, Learner, Model, Training
from tf_mamlpp.data import ImageBank
from tf_mamlpp.errors import UserError
from tf_mamlpp.training import build, train
from tf_mamlpp.training.start import Start, learned_values, read_start
from tf_mamlpp.training.workdir import open_run

SINUSOID = Config(
    data=Data(name="sinusoid", shot=5, query_shot=5),
    model=Model(name="mlp"),
    learner=Learner(inner_steps=2, inner_rate=0.01, learned_rates=True),
    training=Training(epochs=1, updates=3, tasks=2, checkpoint_updates=2),
    evaluation=Evaluation(validation_tasks=4, test_tasks=4, ensemble=1),
)
STILL = 1e-30  # an outer rate that changes no weight


def changed(config=SINUSOID, learner=None, **training):
    return dataclasses.replace(
        config,
        training=dataclasses.replace(config.training, **training),
        learner=dataclasses.replace(config.learner, **learner or {}),
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run of two epochs whose learned rates have moved."""
    folder = tmp_path_factory.mktemp("source") / "run"
    train.train_and_evaluate(changed(epochs=2, learning_rate=0.01), folder)
    return folder


def best(folder):
    """The values of a run's best epoch by the variables' names."""
    _, learner, checkpoints = open_run(folder)
    checkpoints.restore_best(0)
    return {variable.path: variable.numpy() for variable in learner.variables if "loss_weights" not in variable.path}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_a_run_begins_with_the_best_epoch_of_another(source, tmp_path, capsys):
    config = changed(start=str(source), learning_rate=STILL)
    found = train.train_and_evaluate(config, tmp_path)
    assert same(best(tmp_path), best(source))
    entry = json.loads((source / "checkpoints" / "best.json").read_text())[0]
    told = (
        f"starts from epoch {entry['epoch'] + 1} of '{source}': took 7 tensors, learned inner rates among them; the opt"
    )
    assert told in capsys.readouterr().out
    assert json.loads((tmp_path / "start.json").read_text())["from"] == f"epoch {entry['epoch'] + 1} of '{source}'"
    assert found["mean_squared_error"] == json.loads((source / "results.json").read_text())["mean_squared_error"]
    assert found["train_steps"] == 3


@pytest.mark.slow
def test_a_file_of_the_same_weights_begins_the_same_run(source, tmp_path):
    _, learner, checkpoints = open_run(source)
    checkpoints.restore_best(0)
    learner.save_weights(tmp_path / "best.weights.h5")
    results = []
    for name, start in (("a", source), ("b", tmp_path / "best.weights.h5")):
        results.append(train.train_and_evaluate(changed(start=str(start)), tmp_path / name))
        results[-1].pop("train_seconds")
    assert results[0] == results[1]
    assert same(best(tmp_path / "a"), best(tmp_path / "b")) and not same(best(tmp_path / "a"), best(source))
    reader = tf.train.load_checkpoint(str(tmp_path / "a" / "checkpoints" / "update-3"))
    assert reader.get_tensor("optimizer/0/.ATTRIBUTES/VARIABLE_VALUE") == 3  # its own updates alone


@pytest.mark.slow
def test_it_resumes_without_what_it_began_from(source, tmp_path, monkeypatch):
    copy = shutil.copytree(source, tmp_path / "source")
    config = changed(start=str(copy), epochs=2)
    whole = train.train_and_evaluate(config, tmp_path / "whole")
    train.train_and_evaluate(changed(config, epochs=1), tmp_path / "part")
    shutil.rmtree(copy)
    found = train.train_and_evaluate(config, tmp_path / "part")
    found.pop("train_seconds"), whole.pop("train_seconds")
    assert found == whole and same(best(tmp_path / "part"), best(tmp_path / "whole"))
    with pytest.raises(UserError, match="another config .training.start"):
        train.train_and_evaluate(changed(config, start=None), tmp_path / "part")


@pytest.mark.slow
def test_rates_are_taken_only_where_both_learn_them(source, tmp_path, capsys):
    fixed = changed(start=str(source), learning_rate=STILL, learner={"learned_rates": False, "inner_rate": 0.5})
    train.train_and_evaluate(fixed, tmp_path / "fixed")
    rates = best(tmp_path / "fixed")["inner_rates/rates"]
    told = capsys.readouterr().out
    assert (rates == np.float32(0.5)).all() and "took 6 tensors, 1 of its tensors have no place here; the opt" in told
    again = changed(start=str(tmp_path / "fixed"), learning_rate=STILL, learner={"inner_rate": 0.25})
    train.train_and_evaluate(again, tmp_path / "learned")
    assert (best(tmp_path / "learned")["inner_rates/rates"] == np.float32(0.25)).all()
    assert "took 6 tensors, not the inner rates; the optimizer" in capsys.readouterr().out


def test_rates_of_another_number_of_inner_steps_are_not_taken(source, capsys):
    learner = build.make_learner(changed(learner={"inner_steps": 3}))
    read_start(changed(start=str(source))).give_to(learner)
    assert (learner.inner_rates.table.numpy() == np.float32(0.01)).all()
    assert "took 6 tensors, not the inner rates; the optimizer" in capsys.readouterr().out


PICTURES = Config(
    data=Data(way=3, image_size=(8, 8)),
    model=Model(filters=2, blocks=2),
    learner=Learner(inner_steps=3, per_step_statistics=True, per_step_weights=True),
)


@pytest.fixture
def network():
    """The network of these pictures with weights and statistics that no other has, by stock Keras."""
    model = build.make_model(PICTURES)
    generator = np.random.default_rng(1)
    model.set_weights([generator.uniform(0.5, 1.5, w.shape).astype(np.float32) for w in model.get_weights()])
    return model


def assert_taken(learner, network):
    for layer in network.layers:
        for ours, theirs in zip(learner.model.get_layer(layer.name).variables, layer.variables, strict=True):
            rows = ours.numpy() if "norm" in layer.name else [ours.numpy()]
            assert all(np.array_equal(row, theirs.numpy()) for row in rows), ours.path


@pytest.mark.parametrize("name", ["net.keras", "net.weights.h5"])
def test_a_network_of_stock_keras(network, tmp_path, capsys, name):
    (network.save if name.endswith(".keras") else network.save_weights)(tmp_path / name)
    learner = build.make_learner(PICTURES)
    read_start(dataclasses.replace(PICTURES, training=Training(start=str(tmp_path / name)))).give_to(learner)
    assert_taken(learner, network)  # batch norm in every row
    assert f"starts from '{tmp_path / name}': took 14 tensors; the optimizer" in capsys.readouterr().out


def test_a_network_of_other_classes_gives_its_body(network, tmp_path, capsys):
    network.save(tmp_path / "net.keras")
    other = dataclasses.replace(PICTURES, data=Data(way=5, image_size=(8, 8)), learner=Learner(inner_steps=2))
    learner = build.make_learner(other)
    read_start(dataclasses.replace(other, training=Training(start=str(tmp_path / "net.keras")))).give_to(learner)
    for layer in network.layers[:-1]:
        for ours, theirs in zip(learner.model.get_layer(layer.name).variables, layer.variables, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert not any(v.numpy().any() for v in learner.model.get_layer("dense").variables)
    told = "took 12 tensors, not 'conv4/dense/kernel', now zero, 'conv4/dense/bias', now zero; the optimizer"
    assert told in capsys.readouterr().out


def test_prototypes_take_the_features(network, tmp_path, capsys):
    network.save(tmp_path / "net.keras")
    config = dataclasses.replace(PICTURES, learner=Learner(prototypes=True))
    learner = build.make_learner(config)
    read_start(dataclasses.replace(config, training=Training(start=str(tmp_path / "net.keras")))).give_to(learner)
    np.testing.assert_array_equal(learner.model.get_layer("conv1").kernel, network.get_layer("conv1").kernel)
    assert "took 12 tensors, 2 of its tensors have no place here" in capsys.readouterr().out


@pytest.mark.parametrize(("rows", "expected"), [(2, [0, 1, 1]), (5, [0, 1, 2])])
def test_rows_of_other_inner_steps(rows, expected):
    value = np.arange(rows, dtype=np.float32)[:, None].repeat(2, 1)
    learner = build.make_learner(PICTURES)
    values = {**learned_values(learner), ("norm0/gamma", 0): value}
    Start("a file", values, None).give_to(learner)
    assert learner.model.get_layer("norm0").gamma.numpy()[:, 0].tolist() == expected


def test_weights_that_do_not_fit_are_refused_and_none_is_taken(source):
    start = read_start(changed(start=str(source)))
    for other, message in (
        (
            Config(data=Data(way=3, image_size=(8, 8)), model=Model(name="mlp")),
            r"'mlp/dense0/kernel' has shape \[1, 40\]",
        ),
        (Config(model=Model(filters=2, blocks=1)), r"has no 'conv4/conv0/kernel', which this model has"),
    ):
        learner = build.make_learner(other)
        before = [v.numpy() for v in learner.variables]
        with pytest.raises(UserError, match=message):
            start.give_to(learner)
        assert all(np.array_equal(v.numpy(), a) for v, a in zip(learner.variables, before, strict=True))


def test_what_is_no_run_and_no_weights(source, tmp_path):
    (tmp_path / "damaged.weights.h5").write_bytes(b"none")
    (tmp_path / "damaged.keras").write_bytes(b"none")
    build.make_learner(changed(learner={"inner_steps": 4})).save_weights(tmp_path / "other.weights.h5")
    for start, message in (
        (tmp_path / "missing", "no run's folder and no .keras or .weights.h5 file"),
        (source / "config.json", "no run's folder and no .keras or .weights.h5 file"),
        (tmp_path, "holds no run"),
        (tmp_path / "damaged.weights.h5", "does not fit this model, or is damaged"),
        (tmp_path / "damaged.keras", "damaged.keras' cannot be loaded: "),
        (tmp_path / "other.weights.h5", "does not fit this model, or is damaged"),
    ):
        with pytest.raises(UserError, match=message) as error:
            train.train_and_evaluate(changed(start=str(start)), tmp_path / "run")
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.fixture
def pictures(monkeypatch):
    """Classes of random pictures in place of those of a config: pictures(train="abc", validation=..., test=...)."""

    def choose(**splits):
        def bank(split, names):
            images = np.concatenate([np.random.default_rng(ord(name)).integers(0, 256, (3, 8, 8, 1)) for name in names])
            return ImageBank(images.astype(np.uint8), np.arange(0, 3 * len(names) + 1, 3), tuple(names), f"p {split}")

        banks = {split: bank(split, names) for split, names in splits.items()}
        monkeypatch.setattr("tf_mamlpp.data.load_banks", lambda *args, **settings: banks)

    return choose


@pytest.mark.slow
def test_no_run_is_tested_on_what_its_weights_were_trained_on(pictures, tmp_path, recwarn):
    config = Config(
        data=Data(name="omniglot", path="somewhere", way=2, image_size=(8, 8)),
        model=Model(name="mlp"),
        learner=Learner(inner_steps=1),
        training=Training(epochs=1, updates=1, tasks=1),
        evaluation=Evaluation(validation_tasks=2, test_tasks=2, ensemble=1),
    )
    pictures(train="abc", validation="def", test="ghi")
    train.train_and_evaluate(config, tmp_path / "first")
    second = changed(config, start=str(tmp_path / "first"), epochs=1)
    train.train_and_evaluate(second, tmp_path / "same")
    pictures(train="ghi", validation="jkl", test="mno")
    train.train_and_evaluate(second, tmp_path / "second")
    third = changed(config, start=str(tmp_path / "second"), epochs=1)
    for split in ({"validation": "xyz", "test": "gbu"}, {"validation": "uva", "test": "xyz"}):
        pictures(train="pqr", **split)  # "g" was trained on in the second run; "a", "b" in the first
        with pytest.raises(
            UserError, match="was trained on . of the (test|validation) classes, such as [ga]: give data.sp"
        ):
            train.train_and_evaluate(third, tmp_path / "third")
    assert not [w for w in recwarn if "trained on" in str(w.message)]


def test_weights_of_which_nothing_is_known_are_said_so():
    images, offsets = np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 2])
    banks = {split: ImageBank(images, offsets, (split,), split) for split in ("train", "validation", "test")}
    with pytest.warns(UserWarning, match="nothing says which classes 'w' was trained on"):
        Start("'w'", {}, None).check_classes(banks, "omniglot")
    with pytest.warns(
        UserWarning, match="'w' was trained on 1 classes of the same names as classes of test, such as test"
    ):
        Start("'w'", {}, frozenset(), frozenset(["test"]), "omniglot").check_classes(banks, "omniglot")
