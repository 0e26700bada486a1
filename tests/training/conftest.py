"""Configs of runs that take seconds, runs on folders of pictures, and a small learner with its tasks."""

import dataclasses
import unicodedata

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp import MetaLearner
from tf_mamlpp.config import Config, Data, Evaluation, Learner, Model, Training
from tf_mamlpp.data.images import Image
from tf_mamlpp.training import results, train
from tf_mamlpp.training.checkpoint_callback import SaveCheckpoints


@pytest.fixture(scope="session")
def make_config():
    """A small config, with other sections in place of its own: make_config(data=Data(...), ...)."""

    def make(**sections):
        defaults = {
            "data": Data(way=3, image_size=(8, 8)),
            "model": Model(name="mlp"),
            "learner": Learner(inner_steps=2),
            "training": Training(epochs=1, updates=2, tasks=2),
            "evaluation": Evaluation(validation_tasks=4, test_tasks=4, ensemble=1),
        }
        return Config(**{**defaults, **sections})

    return make


@pytest.fixture(scope="session")
def sinusoid(make_config):
    """A run of two epochs of three updates, on sinusoids."""
    return make_config(
        data=Data(name="sinusoid", shot=5, query_shot=5),
        learner=Learner(inner_steps=1, inner_rate=0.01),
        training=Training(epochs=2, updates=3, tasks=2, checkpoint_updates=2),
        evaluation=Evaluation(validation_tasks=4, test_tasks=4, ensemble=2),
    )


@pytest.fixture(scope="session")
def with_epochs():
    """A config with other epochs, annealed ones and settings of the learner: with_epochs(config, 3, annealing=2)."""

    def change(config, epochs, annealing=None, **learner):
        return dataclasses.replace(
            config,
            training=dataclasses.replace(config.training, epochs=epochs, annealing_epochs=annealing),
            learner=dataclasses.replace(config.learner, **learner),
        )

    return change


@pytest.fixture(scope="session")
def write_picture():
    """Writes a picture of noise: write_picture(file, seed)."""

    def write(file, seed):
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)).save(file)

    return write


@pytest.fixture(scope="session")
def picture_tree(write_picture):
    """Writes class folders of pictures and returns their root: picture_tree(root, ["train/a", ...], pictures=3)."""

    def write(root, names, pictures=4):
        for name in names:
            for each in range(pictures):
                seed = [*unicodedata.normalize("NFC", name).encode(), each]
                write_picture(root / name / f"{each}.png", seed)
        return root

    return write


@pytest.fixture(scope="session")
def folder_config():
    """The config of a short run on a folder of pictures: folder_config(root, split_seed=1, ...)."""

    def make(root, **data):
        return Config(
            data=Data(name="image_folder", path=str(root), way=2, image_size=(8, 8), **data),
            model=Model(name="mlp"),
            learner=Learner(inner_steps=1),
            training=Training(epochs=1, updates=2, tasks=2),
            evaluation=Evaluation(validation_tasks=2, test_tasks=4, ensemble=1),
        )

    return make


@pytest.fixture(scope="session")
def pool():
    """The names of twelve classes, which a folder holds as one pool, not divided into splits."""
    return [f"c{number:02}" for number in range(12)]


@pytest.fixture(scope="session", params=["pool", "folders"])
def trained(request, tmp_path_factory, picture_tree, folder_config, pool):
    """A finished run on a pool of classes, or on folders of splits: its root, workdir and results."""
    folder = tmp_path_factory.mktemp(request.param)
    splits = [f"train/{c}" for c in "abc"] + ["val/d", "val/e", "test/f", "test/g"]
    root = picture_tree(folder / "pets", pool if request.param == "pool" else splits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_MAMLPP_CACHE", str(folder / "cache"))
        found = train.train_and_evaluate(folder_config(root), folder / "run")
    return root, folder / "run", found


@pytest.fixture(scope="session")
def evaluate():
    """The accuracy of a run on a folder when it is evaluated again: evaluate(root, workdir, split_file=...)."""

    def measure(root, workdir, **settings):
        return results.evaluate_run(workdir, [None], data_path=str(root), **settings)[0]["accuracy"]

    return measure


def _variables_of(learner):
    """All that a checkpoint keeps."""
    return [*learner.variables, *learner.optimizer.variables, *learner.metrics_variables]


@pytest.fixture(scope="session")
def fill():
    """Sets every variable of learner, optimizer and metrics to a number: fill(learner, 30)."""

    def assign(learner, number):
        for v in _variables_of(learner):
            v.assign(tf.fill(v.shape, tf.cast(number, v.dtype)))

    return assign


@pytest.fixture(scope="session")
def all_equal():
    """Whether all these, or all that a best epoch keeps of them, hold a number: all_equal(learner, 30, best=True)."""

    def compare(learner, number, best=False):
        held = learner.trainable_variables if best else _variables_of(learner)
        return all((v.numpy() == np.asarray(number, v.dtype)).all() for v in held)

    return compare


@pytest.fixture
def make_learner():
    """A compiled learner with a dense layer: make_learner(inner_steps=3, ...)."""

    def make(**settings):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        learner = MetaLearner(model, way=3, **{"inner_steps": 2, "learned_rates": True, **settings})
        learner.compile(keras.optimizers.Adam(0.01))
        return learner

    return make


@pytest.fixture
def episodes(make_tasks):
    """Meta-batches for that learner."""
    return tf.data.Dataset.from_tensors(make_tasks(shape=(4,), dtype="float32")).repeat()


class FakeCheckpoints:
    """Remembers what it is told to save."""

    def __init__(self):
        self.seconds, self.update, self.saved, self.best = 100.0, 0, [], []

    def save(self, update, seconds):
        self.saved.append(update)
        self.update = update

    def save_best(self, update, epoch, score):
        self.best.append((update, epoch, score))


@pytest.fixture
def make_saver():
    """A saver and its checkpoints, which keep nothing: make_saver(start=5, ...)."""

    def make(start=0, **settings):
        settings = {"every": 2, "updates": 5, "score": "accuracy", **settings}
        saver = SaveCheckpoints(FakeCheckpoints(), start=start, **settings)
        return saver, saver.checkpoints

    return make
