"""The parts of a run: objects of a config, the run's folder, results.  Whole runs: tests/cli."""

import concurrent.futures
import dataclasses
import fcntl
import json
import math
import signal

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from tf_mamlpp import config as configs
from tf_mamlpp.config import Config, Data, Evaluation, Learner, Model, Training
from tf_mamlpp.data import ImageBank
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.prototypical_networks import PrototypicalNetworks
from tf_mamlpp.meta.settings import MODIFICATIONS, presets
from tf_mamlpp.training import build, results, train, workdir


def make_config(**settings):
    defaults = {
        "data": Data(way=3, image_size=(8, 8)),
        "model": Model(name="mlp"),
        "learner": Learner(inner_steps=2),
        "training": Training(epochs=1, updates=2, tasks=2),
        "evaluation": Evaluation(validation_tasks=4, test_tasks=4, ensemble=1),
    }
    return Config(**{**defaults, **settings})


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


# --- Episodes -------------------------------------------------------------------------------------------


def test_training_episodes_start_anywhere(banks):
    config = make_config()
    whole = as_numpy(build.make_episodes(config, banks, "train", 2, count=4))
    rest = as_numpy(build.make_episodes(config, banks, "train", 2, start=2, count=2))
    assert same(whole[2:], rest)
    other = as_numpy(build.make_episodes(make_config(seed=1), banks, "train", 2, count=4))
    assert not same(whole, other)


@pytest.mark.parametrize(("tasks", "batch"), [(600, 24), (96, 24), (8, 8), (25, 1 if 25 % 5 else 5), (29, 1)])
def test_fixed_episodes_are_all_the_tasks_whatever_the_seed(banks, tasks, batch):
    config = make_config()
    found = build.fixed_episodes(config, banks, "validation", tasks)
    assert next(iter(found))["support_labels"].shape[0] == batch
    if tasks < 100:
        fixed = as_numpy(found)
        assert sum(len(b["support_labels"]) for b in fixed) == tasks
        assert same(fixed, as_numpy(build.fixed_episodes(make_config(seed=5), banks, "validation", tasks)))


def test_fixed_episodes_divide_over_replicas(banks):
    config = make_config()
    assert next(iter(build.fixed_episodes(config, banks, "test", 12, 4)))["support_labels"].shape[0] == 12
    assert next(iter(build.fixed_episodes(config, banks, "test", 64, 32)))["support_labels"].shape[0] == 64
    with pytest.raises(UserError, match="9 test tasks cannot be divided over 2 replicas: .* for evaluation.test_tasks"):
        build.fixed_episodes(config, banks, "test", 9, 2)


def test_only_training_tasks_are_rotated(banks):
    upright, rotated = make_config(), make_config(data=Data(way=3, image_size=(8, 8), rotations=True))
    for split in ("validation", "test"):
        a, b = (as_numpy(build.make_episodes(c, banks, split, 2, count=2)) for c in (upright, rotated))
        assert same(a, b)
    a, b = (as_numpy(build.make_episodes(c, banks, "train", 2, count=2)) for c in (upright, rotated))
    assert not same(a, b)


def test_the_sinusoid_has_no_banks():
    config = make_config(data=Data(name="sinusoid", shot=10, query_shot=10))
    assert build.load_banks(config) is None
    batch = next(iter(build.make_episodes(config, None, "train", 2, count=1)))
    assert batch["support_images"].shape == (2, 10, 1)


# --- The learner ----------------------------------------------------------------------------------------


def test_the_seed_alone_decides_the_weights():
    a, b, c = (build.make_learner(make_config(seed=seed)) for seed in (1, 1, 2))
    for x, y in zip(a.variables, b.variables, strict=True):
        np.testing.assert_array_equal(x.numpy(), y.numpy())
    assert any(
        (x.numpy() != z.numpy()).any() for x, z in zip(a.trainable_variables, c.trainable_variables, strict=True)
    )


def test_settings_reach_learner_and_optimizer():
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


def test_any_config_makes_a_learner_that_learns_or_one_error(fuzz):
    def section(kind, **values):
        given = st.fixed_dictionaries({}, optional={name: st.sampled_from(v) for name, v in values.items()})
        return given.map(lambda chosen: (kind, chosen))

    flags = [*MODIFICATIONS, "elementwise_rates", "first_order", "shared_head", "prototypes", "rematerialise"]
    learner = section(
        Learner,
        **dict.fromkeys([*flags, "batched_tasks"], [True, False, False]),
        inner_steps=[1, 2],
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


def test_a_baseline_has_the_same_backbone():
    config = make_config(
        model=Model(name="resnet12", widths=(2, 3)),
        learner=Learner(**presets["protonet"], evaluation_statistics="running", gradient_clip=1.0),
    )
    learner = build.make_learner(config)
    assert isinstance(learner, PrototypicalNetworks)
    assert (learner.query_statistics, learner.evaluation_statistics) == ("batch", "running")
    assert learner.settings.gradient_clip == 1.0
    assert learner.model.name == "resnet12" and learner.model.output_shape == (None, 3)
    assert learner.optimizer.epsilon == 1e-8


def test_a_strategy_needs_tasks_for_every_replica(monkeypatch):
    class Four:
        num_replicas_in_sync = 4

    monkeypatch.setattr(tf.distribute, "MirroredStrategy", Four)
    with pytest.raises(UserError, match="training.tasks=6 cannot be divided over 4 replicas"):
        build.make_strategy(make_config(training=Training(strategy="mirrored", tasks=6)))
    assert build.make_strategy(make_config(training=Training(strategy="mirrored", tasks=8)))


# --- The run's folder -----------------------------------------------------------------------------------


def test_a_folder_keeps_its_config(tmp_path):
    config = make_config()
    with workdir.claim_workdir(config, tmp_path / "a" / "b"):
        assert workdir.read_config(tmp_path / "a" / "b") == config
    (tmp_path / "a" / "b" / "checkpoints").mkdir()
    (tmp_path / "a" / "b" / "checkpoints" / "update-2.index").write_text("")
    with pytest.raises(UserError, match="seed: 0, 1"), workdir.claim_workdir(make_config(seed=1), tmp_path / "a" / "b"):
        pass
    assert workdir.read_config(tmp_path / "a" / "b") == config


def test_where_a_run_computes_may_change(tmp_path):
    with workdir.claim_workdir(make_config(), tmp_path):
        pass
    moved = make_config(
        data=Data(way=3, image_size=(8, 8), path="/elsewhere", cache_dir="/cache"),
        learner=Learner(inner_steps=2, parallel_tasks=1),
    )
    with workdir.claim_workdir(moved, tmp_path):
        assert workdir.read_config(tmp_path) == moved


def test_one_run_at_a_time(tmp_path):
    with workdir.claim_workdir(make_config(), tmp_path):
        with pytest.raises(UserError, match="in use by another run"), workdir.claim_workdir(make_config(), tmp_path):
            pass
        with open(tmp_path / ".lock") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with workdir.claim_workdir(make_config(), tmp_path):
        pass


def test_a_folder_in_use_is_refused_before_any_picture_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "load_banks", lambda config: pytest.fail("read pictures first"))
    with workdir.claim_workdir(make_config(), tmp_path), pytest.raises(UserError, match="in use"):
        train.train_and_evaluate(make_config(), tmp_path)


def test_a_wrong_model_is_told_before_any_picture_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "load_banks", lambda config: pytest.fail("read pictures first"))
    config = make_config(model=Model(name="conv4", blocks=9))
    with pytest.raises(UserError, match="use fewer blocks"):
        train.train_and_evaluate(config, tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_read_config_errors(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        workdir.read_config(tmp_path)
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(UserError, match="is damaged"):
        workdir.read_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**configs.to_dict(make_config()), "sed": 1}))
    with pytest.raises(UserError, match="'sed'"):
        workdir.read_config(tmp_path)


def test_a_config_of_before_a_key_was_there_has_its_default(tmp_path):
    tree = configs.to_dict(make_config())
    assert tree["data"].pop("split_fractions") == [0.6, 0.2, 0.2]
    (tmp_path / "config.json").write_text(json.dumps(tree))
    assert workdir.read_config(tmp_path) == make_config()


def test_an_error_of_the_data_is_none_of_the_folder(tmp_path, monkeypatch):
    def unplugged(*args):
        raise OSError(5, "Input/output error", "/disk/cat.png")

    monkeypatch.setattr(train, "load_banks", unplugged)
    with pytest.raises(OSError, match=r"\[Errno 5\] Input/output error: '/disk/cat.png'"):
        train.train_and_evaluate(make_config(), tmp_path)


# --- Evaluation of a finished run -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "permutations", "message"),
    [
        ({}, 0, "learner.label_permutations is 0: it must be positive"),
        ({}, -1, "learner.label_permutations is -1: it must be positive"),
        ({}, 4, "learner.label_permutations is 4: it must be 1 to the way"),
        ({"learner": Learner(shared_head=True)}, 2, "learner.label_permutations has no use with shared_head"),
        (
            {"learner": Learner(prototypes=True)},
            2,
            "learner.prototypes .* label_permutations has no use",
        ),
        ({"data": Data(name="sinusoid")}, 2, "learner.label_permutations needs classes"),
    ],
)
def test_label_permutations_that_do_not_go_with_a_run(tmp_path, settings, permutations, message):
    (tmp_path / "config.json").write_text(json.dumps(configs.to_dict(make_config(**settings))))
    with pytest.raises(UserError, match=message):
        results.evaluate_run(tmp_path, [None], label_permutations=permutations)


# --- A run of another kind --------------------------------------------------------------------------------


@pytest.fixture
def sinusoid():
    return make_config(
        data=Data(name="sinusoid", shot=5, query_shot=5),
        learner=Learner(inner_steps=1, inner_rate=0.01),
        training=Training(epochs=2, updates=3, tasks=2, checkpoint_updates=2),
        evaluation=Evaluation(validation_tasks=4, test_tasks=4, ensemble=2),
    )


def test_outside_the_main_thread(sinusoid, tmp_path):
    handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = pool.submit(train.train_and_evaluate, sinusoid, tmp_path).result()
    assert found["train_steps"] == 6
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == handlers


@pytest.mark.parametrize("file", ["results.json", "test_tasks.csv"])
def test_results_that_cannot_be_written(sinusoid, tmp_path, file):
    (tmp_path / file).mkdir()
    with pytest.raises(UserError, match=f"cannot write in '{tmp_path}': .*; free some space or mend its permissions"):
        train.train_and_evaluate(sinusoid, tmp_path)


def test_the_sinusoid_from_config_to_results(sinusoid, tmp_path):
    config = sinusoid
    found = train.train_and_evaluate(config, str(tmp_path))
    assert found["dataset"] == "sinusoid"
    assert math.isfinite(found["mean_squared_error"])
    assert len(found["mean_squared_error_per_inner_step"]) == 2
    assert "nearest_pixel" not in found
    assert json.loads((tmp_path / "results.json").read_text()) == found
    best = json.loads((tmp_path / "checkpoints" / "best.json").read_text())
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert best[0]["score"] == -min(row["val_mean_squared_error"] for row in rows)
    assert train.train_and_evaluate(config, tmp_path) == found
    (again,) = results.evaluate_run(tmp_path, ["batch"], ensemble=2)
    assert again["mean_squared_error"] == found["mean_squared_error"]


# --- More epochs ------------------------------------------------------------------------------------------


def epochs(config, epochs, **learner):
    return dataclasses.replace(
        config,
        training=dataclasses.replace(config.training, epochs=epochs, annealing_epochs=learner.pop("annealing", None)),
        learner=dataclasses.replace(config.learner, **learner),
    )


def kept(workdir):
    """All that a run leaves, without times."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rows = [{k: v for k, v in json.loads(line).items() if not k.startswith("seconds")} for line in lines]
    arrays = {}
    for file in sorted((workdir / "checkpoints").glob("*.index")):
        reader = tf.train.load_checkpoint(str(file.with_suffix("")))
        names = (name for name in reader.get_variable_to_dtype_map() if "OBJECT_GRAPH" not in name)
        values = {f"{file.stem} {name}": reader.get_tensor(name).tolist() for name in names if "seconds" not in name}
        arrays.update(values)
    files = [(workdir / "updates.csv").read_text(), (workdir / "checkpoints" / "best.json").read_text()]
    return rows, arrays, files, (workdir / "test_tasks.csv").read_text(), (workdir / "config.json").read_text()


@pytest.mark.parametrize("annealing", [False, True])
def test_more_epochs_are_those_of_a_run_that_had_them_from_its_beginning(sinusoid, tmp_path, capsys, annealing):
    learner = {"cosine_annealing": annealing, "multi_step_loss": True, "multi_step_loss_epochs": 2}
    old = 2 if annealing else None
    train.train_and_evaluate(epochs(sinusoid, 2, **learner), tmp_path / "grown")
    more = epochs(sinusoid, 3, annealing=old, **learner)
    found = train.train_and_evaluate(more, tmp_path / "grown")
    assert f"the run in '{tmp_path / 'grown'}' goes on from 2 to 3 epochs" in capsys.readouterr().out
    fresh = train.train_and_evaluate(more, tmp_path / "fresh")
    assert kept(tmp_path / "grown") == kept(tmp_path / "fresh")
    found.pop("train_seconds"), fresh.pop("train_seconds")
    assert found == fresh and found["train_steps"] == 9
    rates = [row["learning_rate"] for row in kept(tmp_path / "grown")[0]]
    assert rates == pytest.approx([1e-3, (1e-3 + 1e-5) / 2, 1e-5] if annealing else [1e-3] * 3, rel=1e-6)
    with pytest.raises(UserError, match="training.epochs: 3, 2"):
        train.train_and_evaluate(epochs(sinusoid, 2, **learner), tmp_path / "grown")


def test_more_epochs_of_annealing_need_their_number(sinusoid, tmp_path):
    config = epochs(sinusoid, 2, cosine_annealing=True)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "update-2.index").touch()
    (tmp_path / "config.json").write_text(json.dumps(configs.to_dict(config)))
    for wrong in ({}, {"annealing": 3}, {"annealing": 1}):
        message = "anneals over 2 epochs: go on with --config.training.annealing_epochs=2, .* learner.minimum_rate; or"
        with pytest.raises(UserError, match=message):
            with workdir.claim_workdir(epochs(config, 4, **wrong), tmp_path):
                pass
    assert workdir.read_config(tmp_path) == config
    for same in (epochs(config, 2, annealing=2), epochs(config, 4, annealing=2), epochs(config, 5, annealing=2)):
        with workdir.claim_workdir(same, tmp_path):
            assert workdir.read_config(tmp_path) == same
    with pytest.raises(UserError, match="seed: 0, 1"):
        with workdir.claim_workdir(dataclasses.replace(epochs(config, 6, annealing=2), seed=1), tmp_path):
            pass


def test_fewer_epochs_than_are_annealed_are_the_first_of_them(sinusoid, tmp_path):
    whole = epochs(sinusoid, 2, cosine_annealing=True)
    train.train_and_evaluate(whole, tmp_path / "whole")
    train.train_and_evaluate(epochs(sinusoid, 1, cosine_annealing=True, annealing=2), tmp_path / "part")
    assert kept(tmp_path / "part")[0] == kept(tmp_path / "whole")[0][:1]
