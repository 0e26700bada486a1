"""The objects of a config: data, episodes, the learner, the strategy."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from tf_mamlpp.config import Data, Learner, Model, Training
from tf_mamlpp.data import ImageBank
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.prototypical_networks import PrototypicalNetworks
from tf_mamlpp.meta.settings import MODIFICATIONS, methods
from tf_mamlpp.training import build, run_banks


@pytest.fixture(scope="module")
def banks():
    generator = np.random.default_rng(0)

    def bank(split):
        images = generator.integers(0, 256, (5 * 4, 8, 8, 1), np.uint8)
        return ImageBank(images, np.arange(0, 21, 4), tuple(f"{split}{c}" for c in range(5)), f"noise {split}")

    return {split: bank(split) for split in ("train", "validation", "test")}


def as_numpy(episodes):
    return [{k: v.numpy() for k, v in batch.items()} for batch in episodes]


def same(a, b):
    return all(np.array_equal(x[k], y[k]) for x, y in zip(a, b, strict=True) for k in x)


@pytest.fixture
def told(folder_config, capsys):
    """What is printed of a folder of pictures as it is read: told(root, split_file=...)."""

    def load(root, **data):
        run_banks.load_banks(folder_config(root, **data))
        (line,) = [line for line in capsys.readouterr().out.splitlines() if str(root) in line]
        return line.removeprefix(f"{root}: ")

    return load


def test_a_pool_is_told(picture_tree, pool, tmp_path, monkeypatch, told):
    monkeypatch.setenv("TF_MAMLPP_CACHE", str(tmp_path / "cache"))
    root = picture_tree(tmp_path / "pets", pool, pictures=3)
    expected = "train 8 classes (24 pictures), validation 2 classes (6 pictures), test 2 classes (6 pictures)"
    assert told(root) == f"one pool of 12 classes, divided by data.split_seed=0: {expected}"
    lists = {"train": pool[:8], "validation": pool[8:10], "test": pool[10:]}
    (tmp_path / "lists.json").write_text(json.dumps(lists))
    file = str(tmp_path / "lists.json")
    assert told(root, split_file=file) == f"divided by {file}: {expected}"


def test_folders_of_splits_are_told(picture_tree, tmp_path, monkeypatch, told):
    monkeypatch.setenv("TF_MAMLPP_CACHE", str(tmp_path / "cache"))
    root = picture_tree(
        tmp_path / "pets", ["images/Train/a", "images/Train/b", "images/Val/c", "images/Val/d"], pictures=2
    )
    picture_tree(root, ["images/Test/e", "images/Test/f", "images/more/g"], pictures=3)
    assert told(root) == (
        "with the splits Train/, Val/ and Test/: train 2 classes (4 pictures), validation 2 classes (4 pictures), "
        "test 2 classes (6 pictures); not read: more/"
    )


def test_training_episodes_start_anywhere(make_config, banks):
    config = make_config()
    whole = as_numpy(build.make_episodes(config, banks, "train", 2, count=4))
    rest = as_numpy(build.make_episodes(config, banks, "train", 2, start=2, count=2))
    assert same(whole[2:], rest)
    other = as_numpy(build.make_episodes(make_config(seed=1), banks, "train", 2, count=4))
    assert not same(whole, other)


@pytest.mark.parametrize(("tasks", "batch"), [(600, 24), (96, 24), (8, 8), (25, 1 if 25 % 5 else 5), (29, 1)])
def test_fixed_episodes_are_all_the_tasks_whatever_the_seed(make_config, banks, tasks, batch):
    config = make_config()
    found = build.fixed_episodes(config, banks, "validation", tasks)
    assert next(iter(found))["support_labels"].shape[0] == batch
    if tasks < 100:
        fixed = as_numpy(found)
        assert sum(len(b["support_labels"]) for b in fixed) == tasks
        assert same(fixed, as_numpy(build.fixed_episodes(make_config(seed=5), banks, "validation", tasks)))


def test_fixed_episodes_divide_over_replicas(make_config, banks):
    config = make_config()
    assert next(iter(build.fixed_episodes(config, banks, "test", 12, 4)))["support_labels"].shape[0] == 12
    assert next(iter(build.fixed_episodes(config, banks, "test", 64, 32)))["support_labels"].shape[0] == 64
    with pytest.raises(UserError, match="9 test tasks cannot be divided over 2 replicas: .* for evaluation.test_tasks"):
        build.fixed_episodes(config, banks, "test", 9, 2)


def test_only_training_tasks_are_rotated(make_config, banks):
    upright, rotated = make_config(), make_config(data=Data(way=3, image_size=(8, 8), rotations=True))
    for split in ("validation", "test"):
        a, b = (as_numpy(build.make_episodes(c, banks, split, 2, count=2)) for c in (upright, rotated))
        assert same(a, b)
    a, b = (as_numpy(build.make_episodes(c, banks, "train", 2, count=2)) for c in (upright, rotated))
    assert not same(a, b)


def test_the_sinusoid_has_no_banks(make_config):
    config = make_config(data=Data(name="sinusoid", shot=10, query_shot=10))
    assert run_banks.load_banks(config) is None
    batch = next(iter(build.make_episodes(config, None, "train", 2, count=1)))
    assert batch["support_images"].shape == (2, 10, 1)


def test_the_seed_alone_decides_the_weights(make_config):
    a, b, c = (build.make_learner(make_config(seed=seed)) for seed in (1, 1, 2))
    for x, y in zip(a.variables, b.variables, strict=True):
        np.testing.assert_array_equal(x.numpy(), y.numpy())
    assert any(
        (x.numpy() != z.numpy()).any() for x, z in zip(a.trainable_variables, c.trainable_variables, strict=True)
    )


def test_settings_reach_learner_and_optimizer(make_config):
    config = make_config(
        model=Model(name="conv4", filters=3, blocks=2),
        learner=Learner(inner_steps=4, inner_rate=0.3, per_step_weights=True, gradient_clip=10.0),
        training=Training(learning_rate=0.5),
    )
    learner = build.make_learner(config)
    assert learner.inner_steps == 4
    assert learner.settings.gradient_clip == 10.0
    assert float(learner.optimizer.learning_rate) == 0.5
    assert learner.optimizer.epsilon == 1e-8
    assert learner.model.output_shape == (None, 3)
    assert not learner.jit_compile


@pytest.mark.slow
def test_any_config_makes_a_learner_that_learns_or_one_error(make_config, fuzz):
    def section(kind, **values):
        given = st.fixed_dictionaries({}, optional={name: st.sampled_from(v) for name, v in values.items()})
        return given.map(lambda chosen: (kind, chosen))

    flags = [*MODIFICATIONS, "elementwise_rates", "first_order", "prototypes", "rematerialise"]
    learner = section(
        Learner,
        **dict.fromkeys([*flags, "batched_tasks"], [True, False, False]),
        inner_steps=[1, 2],
        head=["learned", "learned", "shared", "prototypes"],
        adapted=["all", "all", "head", "body", "dense", "(", "", "norm", "nothing", ".*"],
        label_permutations=[0, 1, 2, 3, 4],
        query_statistics=["batch", "running", "support"],
        evaluation_statistics=[None, "running"],
        gradient_clip=[None, 0.1],
        parallel_tasks=[None, 1, 5],
    )
    model = section(
        Model,
        name=["conv4", "conv4", "resnet12", "mlp", "keras:None", "json:loads", "math:pi"],
        filters=[1, 2],
        blocks=[0, 1, 2, 4],
        strided=[True, False],
        widths=[(), (1,), (2, 1)],
        dtype=["float32", "mixed_bfloat16"],
    )
    picture = section(
        Data, way=[1, 2, 3], image_size=[(1, 1), (4, 4), (9, 5)], channels=[1, 3], name=["glyphs", "sinusoid"]
    )
    made = []

    def check(*sections):
        try:
            if sections[1][1].get("name") == "resnet12":  # its own widths take half a minute
                sections[1][1].setdefault("widths", (1,))
            data, model, learner = (kind(**chosen) for kind, chosen in sections)
            data = dataclasses.replace(data, mean=(0.5,) * data.channels, std=(0.5,) * data.channels)
            config = make_config(data=data, model=model, learner=learner)
            learner = build.make_learner(config)
        except UserError as error:
            assert str(error).strip()
            return
        shape = (1,) if data.name == "sinusoid" else (*data.image_size, data.channels)
        labels = np.tile(np.arange(data.way), (2, 1))
        targets = np.ones((2, data.way, 1), np.float32) if data.name == "sinusoid" else labels
        images = np.random.default_rng(0).normal(size=(2, data.way, *shape)).astype(np.float32)
        tasks = {
            f"{part}_{kind}": tf.constant(v)
            for part in ("support", "query")
            for kind, v in (("images", images), ("labels", targets))
        }
        gradients, _, numbers = learner.meta_gradient(tasks)
        assert np.isfinite(float(numbers["meta_loss"]))
        made.append(learner)

    fuzz(
        lambda picture, model, learner: check(picture, model, learner),
        10,
        picture=picture,
        model=model,
        learner=learner,
    )
    assert made


def test_a_baseline_has_the_same_backbone(make_config):
    config = make_config(
        model=Model(name="resnet12", widths=(2, 3)),
        learner=Learner(**methods["protonet"], evaluation_statistics="running", gradient_clip=1.0),
    )
    learner = build.make_learner(config)
    assert isinstance(learner, PrototypicalNetworks)
    assert (learner.query_statistics, learner.evaluation_statistics) == ("batch", "running")
    assert learner.settings.gradient_clip == 1.0
    assert learner.model.name == "resnet12" and learner.model.output_shape == (None, 3)
    assert learner.optimizer.epsilon == 1e-8


def test_a_strategy_needs_tasks_for_every_replica(make_config, monkeypatch):
    class Four:
        num_replicas_in_sync = 4

    monkeypatch.setattr(tf.distribute, "MirroredStrategy", Four)
    with pytest.raises(UserError, match="training.tasks=6 cannot be divided over 4 replicas"):
        build.make_strategy(make_config(training=Training(strategy="mirrored", tasks=6)))
    assert build.make_strategy(make_config(training=Training(strategy="mirrored", tasks=8)))
