"""The pretraining of a run: it resumes exactly, and meta-training begins with its features."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.config import Augmentation, Config, Data, Evaluation, Learner, Model, Pretrain, Training
from tf_mamlpp.errors import UserError
from tf_mamlpp.training import train
from tf_mamlpp.training.checkpoint_callback import Interrupted, SaveCheckpoints
from tf_mamlpp.training.start import read_start
from tf_mamlpp.training.workdir import holds_run, open_run

STILL = 1e-30  # an outer rate that changes no weight


@pytest.fixture(scope="module")
def config():
    return Config(
        data=Data(way=3, image_size=(8, 8)),
        model=Model(name="conv4", filters=3, blocks=2),
        learner=Learner(inner_steps=2, per_step_statistics=True, per_step_weights=True),
        augmentation=Augmentation(crop_padding=1),
        pretrain=Pretrain(epochs=2, batch=2000, parts=2),
        training=Training(epochs=1, updates=2, tasks=2, learning_rate=STILL, checkpoint_updates=2),
        evaluation=Evaluation(validation_tasks=4, test_tasks=4, ensemble=1),
    )


@pytest.fixture(scope="module")
def reference(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    train.train_and_evaluate(config, folder)
    return folder


def arrays(path):
    reader = tf.train.load_checkpoint(str(path))
    names = [n for n in reader.get_variable_to_dtype_map() if "OBJECT_GRAPH" not in n and "seconds" not in n]
    return {name: reader.get_tensor(name) for name in names}


def results(folder):
    found = json.loads((folder / "results.json").read_text())
    found.pop("train_seconds"), found["pretraining"].pop("train_seconds")
    return found


def assert_same(a, b):
    for name in ("pretraining/checkpoints/update-10", "checkpoints/update-2", "checkpoints/best-2"):
        one, other = arrays(a / name), arrays(b / name)
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[key], other[key]) for key in one), name
    assert results(a) == results(b)
    for name in ("pretraining/updates.csv", "updates.csv", "test_tasks.csv"):
        assert (a / name).read_bytes() == (b / name).read_bytes()


def test_what_it_leaves(reference):
    rows = [json.loads(line) for line in (reference / "pretraining" / "metrics.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows] == [5, 10]  # 11,160 pictures
    assert rows[0]["learning_rate"] == pytest.approx(0.1) and rows[1]["learning_rate"] == pytest.approx(0.05)
    assert list((reference / "tensorboard" / "pretraining").glob("events*"))
    found = results(reference)["pretraining"]
    assert found["tasks"] == 4 and found["train_steps"] == 10
    best = json.loads((reference / "pretraining" / "checkpoints" / "best.json").read_text())[0]
    assert found["epoch"] == best["epoch"] + 1
    assert json.loads((reference / "start.json").read_text()) == {
        "from": f"epoch {found['epoch']} of the pretraining",
        "trained_classes": [],
    }


def test_meta_training_begins_with_the_best_features_in_every_row(reference):
    _, learner, checkpoints = open_run(reference)
    checkpoints.restore_best(0)
    best = json.loads((reference / "pretraining" / "checkpoints" / "best.json").read_text())[0]
    pretrained = list(arrays(reference / "pretraining" / "checkpoints" / f"best-{best['update']}").values())
    for variable in (learner.model.get_layer("conv1").kernel, *learner.model.get_layer("norm1").trainable_variables):
        rows = variable.numpy() if variable.ndim == 2 else [variable.numpy()]
        assert any(all(np.array_equal(row, value) for row in rows) for value in pretrained), variable.path


def test_another_run_begins_with_the_same_features(config, reference, tmp_path, capsys):
    start = str(reference / "pretraining")
    other = dataclasses.replace(
        config, pretrain=Pretrain(), training=dataclasses.replace(config.training, start=start), learner=Learner()
    )
    learner = train.make_learner(other)
    found = read_start(other)
    found.give_to(learner)
    best = json.loads((reference / "pretraining" / "checkpoints" / "best.json").read_text())[0]
    values = arrays(reference / "pretraining" / "checkpoints" / f"best-{best['update']}").values()
    for layer in ("conv0", "conv1", "norm1"):
        for variable in learner.model.get_layer(layer).trainable_variables:
            assert any(np.array_equal(variable.numpy(), value) for value in values), variable.path
    assert f"starts from epoch {best['epoch'] + 1} of '{start}': took 12 tensors, not " in capsys.readouterr().out
    assert len(found.trained) == len(json.loads((reference / "classes.json").read_text())["train"])


def test_a_run_without_pretraining_has_none_to_begin_with(config, reference, tmp_path):
    for folder, message in ((tmp_path / "pretraining", "holds no run"), (tmp_path / "a/pretraining", "no finished ep")):
        folder.mkdir(parents=True)
        if message != "holds no run":
            for name in ("config.json", "classes.json"):
                shutil.copy(reference / name, folder.parent)
        with pytest.raises(UserError, match=message):
            read_start(dataclasses.replace(config, pretrain=Pretrain(), training=Training(start=str(folder))))


@pytest.mark.slow
@pytest.mark.parametrize("update", [3, *(pytest.param(u, marks=pytest.mark.slow) for u in (5, 10))])
def test_it_resumes_to_the_same_numbers(config, reference, tmp_path, monkeypatch, capsys, update):
    save = SaveCheckpoints._save

    def interrupt(self, ends):
        save(self, ends)
        if self.update >= update:
            raise Interrupted(1)

    monkeypatch.setattr(SaveCheckpoints, "_save", interrupt)
    with pytest.raises(Interrupted):
        train.train_and_evaluate(config, tmp_path)
    monkeypatch.undo()
    assert not holds_run(tmp_path)
    capsys.readouterr()
    train.train_and_evaluate(config, tmp_path)
    assert ("resuming the pretraining" in capsys.readouterr().out) == (update < 10)
    assert_same(tmp_path, reference)


@pytest.mark.slow
def test_a_run_past_it_does_not_pretrain_again(config, reference, tmp_path, monkeypatch, capsys):
    longer = dataclasses.replace(config, training=dataclasses.replace(config.training, epochs=2))
    monkeypatch.setattr(train, "pretrain", lambda *args: pytest.fail("pretrained again"))
    before = results(reference)
    train.train_and_evaluate(longer, reference)
    assert results(reference)["train_steps"] == 4 and results(reference)["pretraining"] == before["pretraining"]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"pretrain": {"batch": 7}}, "pretrain.batch=7 cannot be divided into 4 parts"),
        ({"pretrain": {"batch": 4}}, "pretrain.batch=4 leaves one picture for each of 4 parts"),
        ({"pretrain": {"momentum": 1.0}}, "pretrain.momentum is 1.0: it must be less than 1"),
        ({"training": {"start": "x"}, "pretrain": {"epochs": 1}}, "pretrain.epochs and training.start contradict"),
        ({"training": {"strategy": "multi_worker"}, "pretrain": {"epochs": 1}}, "pretrain.epochs is for one machine"),
        ({"data": {"name": "sinusoid"}, "pretrain": {"epochs": 1}}, "pretrain.epochs has no use with data.name=sin"),
        ({"data": {"name": "sinusoid"}, "augmentation": {"flip": True}}, "augmentation has no use with data.name=sin"),
        ({"augmentation": {"saturation": 0.5}}, "augmentation.saturation has no use with pictures of one channel"),
        ({"augmentation": {"crop_padding": 28}}, "augmentation.crop_padding is 28: it must be less than the 28 pixels"),
    ],
)
def test_settings_that_do_not_go_together(sections, message):
    kinds = {"pretrain": Pretrain, "training": Training, "data": Data, "augmentation": Augmentation}
    with pytest.raises(UserError, match=message):
        Config(**{name: kinds[name](**values) for name, values in sections.items()})


def test_parts_and_replicas(config):
    config = dataclasses.replace(
        config,
        pretrain=dataclasses.replace(config.pretrain, batch=2001, parts=3),
        training=dataclasses.replace(config.training, tasks=4, strategy="mirrored"),
    )
    devices = [device.name for device in tf.config.list_logical_devices("CPU")[:2]]
    with pytest.MonkeyPatch.context() as patch:
        mirrored = tf.distribute.MirroredStrategy(devices)
        patch.setattr(tf.distribute, "MirroredStrategy", lambda: mirrored)
        with pytest.raises(UserError, match="pretrain.parts=3 cannot be divided over 2 replicas"):
            train.make_strategy(config)
