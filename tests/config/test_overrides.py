"""The typed config: files, arguments, overrides, JSON."""

import dataclasses
import json
from pathlib import Path

import pytest

from tf_mamlpp import config as configs
from tf_mamlpp.config import Config, Data, Evaluation, Learner, Training
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.schedules import phase_of
from tf_mamlpp.meta.settings import presets

FILES = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))


TESTING = next(file for file in FILES if file.stem == "testing")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_config_file(file):
    config = configs.load(str(file))
    assert config == configs.from_dict(configs.to_dict(config))
    assert config.method in presets
    changed = configs.load(f"{file}:seed=3,method=anil,epochs=2")
    assert (changed.seed, changed.method, changed.training.epochs) == (3, "anil", 2)
    differing = {line.split(":")[0] for line in configs.differences(config, changed)}
    assert {"seed", "training.epochs", "learner.adapted"} <= differing


@pytest.mark.parametrize(
    ("file", "tasks", "rate", "last", "multi_step", "method"),
    [
        ("mini_imagenet", 2, 0.1, False, 15, "maml++ -derivative_order_annealing -cosine_annealing"),
        ("omniglot", 8, 0.1, True, 10, "maml++ -derivative_order_annealing"),
    ],
)
def test_the_schedule_of_the_authors_repository(file, tasks, rate, last, multi_step, method):
    config = configs.load(f"{TESTING.with_name(file)}.py:schedule=paper")
    training, learner = config.training, config.learner
    assert (training.epochs, training.updates, training.tasks, training.learning_rate) == (100, 500, tasks, 1e-3)
    assert (learner.inner_rate, learner.cosine_annealing, learner.minimum_rate) == (rate, last, 1e-5)
    assert (learner.multi_step_loss_epochs, config.method) == (multi_step, method)
    assert all(phase_of(epoch, learner).second_order for epoch in range(100))
    with pytest.raises(UserError, match="schedule is one of budget, paper, not 'short'"):
        configs.load(f"{TESTING.with_name(file)}.py:schedule=short")


@pytest.mark.parametrize(
    ("flag", "key", "value"),
    [
        ("seed=7", "seed", 7),
        ("training.learning_rate=2", "training.learning_rate", 2.0),
        ("training.learning_rate=1e-2", "training.learning_rate", 0.01),
        ("learner.multi_step_loss=False", "learner.multi_step_loss", False),
        ("learner.multi_step_loss=1", "learner.multi_step_loss", True),
        ("learner.gradient_clip=10", "learner.gradient_clip", 10.0),
        ("learner.gradient_clip=none", "learner.gradient_clip", None),
        ("learner.parallel_tasks=4", "learner.parallel_tasks", 4),
        ("learner.evaluation_statistics=support", "learner.evaluation_statistics", "support"),
        ("data.path=a=b", "data.path", "a=b"),
        ("data.image_size=32,48", "data.image_size", (32, 48)),
        ("data.mean=(0.5)", "data.mean", (0.5,)),
        ("data.std=0.25,", "data.std", (0.25,)),
    ],
)
def test_overrides_are_typed(flag, key, value):
    config = configs.override(Config(), ["--config." + flag])
    found = config
    for name in key.split("."):
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value)
    assert configs.differences(Config(), config) in ([], [f"{key}: {_json(Config(), key)}, {_json(config, key)}"])


def _json(config, key):
    tree = configs.to_dict(config)
    for name in key.split("."):
        tree = tree[name]
    return tree


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--config.nothing=1", "'nothing'.*the config has seed, data"),
        ("--config.training.step=1", "'training.step'.*training has epochs, updates"),
        ("--config.train.epochs=1", "'train.epochs'.*keys are seed, data"),
        ("--config.training=1", "'training'"),
        ("--config.seed.deeper.still=1", "'seed.deeper.still'"),
        ("--config.training.epochs=ten", "'training.epochs' is a int; 'ten' is not one"),
        ("--config.training.epochs=1.5", "'training.epochs' is a int"),
        ("--config.training.learning_rate=fast", "'training.learning_rate' is a float"),
        ("--config.training.learning_rate=nan", "'training.learning_rate' must be finite"),
        ("--config.learner.first_order=maybe", "'learner.first_order' is a bool"),
        ("--config.data.image_size=28", "data.image_size is of type tuple"),
        ("--config.data.image_size=28,28,3", "data.image_size is of type tuple"),
        ("--config.data.image_size=big", "'data.image_size'"),
        ("--config.training.epochs=0", "training.epochs is 0: it must be positive"),
        ("--config.data.way=-5", "data.way is -5"),
        ("--config.data.way=1", "data.way is 1: a task needs at least 2 classes"),
        ("--config.data.split_fractions=0.5,0.5", "data.split_fractions is of type tuple"),
        ("--config.data.split_fractions=a,b,c", "'data.split_fractions' is a tuple"),
        ("--config.data.split_fractions=0.6,0.2,0.1", r"data.split_fractions is \(0.6, 0.2, 0.1\): it must be three"),
        ("--config.data.split_fractions=0,0.5,0.5", "data.split_fractions is .* the first above 0"),
        ("--config.data.split_fractions=1.2,-0.2,0", "data.split_fractions is .* not negative"),
        ("--config.data.std=0", "data.std must not be 0"),
        ("--config.data.mean=1,2", "data.mean needs one number, or one for each of the 1 channels"),
        ("--config.data.channels=2", "data.channels is one of 1, 3, not '2'"),
        ("--config.data.sample_rate=0", "data.sample_rate is 0: it must be positive"),
        ("--config.data.mel_bands=13", "data.mel_bands has no use with data.name=glyphs: it is for sound"),
        ("--config.model.name=vgg", "model.name is one of conv4, .*, gru, keras:<name>, .*, not 'vgg'"),
        ("--config.model.weights=a.h5", "model.weights is for model.name=keras:<name>, not for 'conv4'"),
        ("--config.model.dtype=float16", "model.dtype is one of float32, mixed_bfloat16, not 'float16'"),
        ("--config.learner.adapted=conv(", r"all, head, body or a regular expression; 'conv\(' is none"),
        ("--config.learner.label_permutations=6", "learner.label_permutations is 6: it must be 1 to the way"),
        ("--config.learner.query_statistics=none", "learner.query_statistics is one of batch, running, support"),
        ("--config.learner.evaluation_statistics=mean", "learner.evaluation_statistics is one of"),
        ("--config.training.strategy=tpu", "training.strategy is one of none, mirrored"),
        ("--config.seed", "'--config.seed' is not a flag"),
        ("--seed=3", "'--seed=3' is not a flag"),
    ],
)
def test_a_wrong_override_is_named(flag, named):
    with pytest.raises(UserError, match=named) as caught:
        configs.override(Config(), [flag])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("ways=5", "'ways=5'; this config takes (name=, )?way=, shot="),
        ("way", "'way'; this config takes"),
        ("way=five", "'way' is a int; 'five' is not one"),
        ("method=mamlpp", "unknown method 'mamlpp': it is one of maml, maml"),
    ],
)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_wrong_argument_is_named(file, argument, named):
    if file.stem == "sinusoid" and argument.startswith("way"):
        argument, named = "points=3", "'points=3'; this config takes shot=, method="
    with pytest.raises(UserError, match=named):
        configs.load(f"{file}:{argument}")


def test_arguments_are_typed():
    found = configs.parse_argument("a=2,c=0.5,d=true", a=1, b="x", c=1.0, d=False)
    assert vars(found) == {"a": 2, "b": "x", "c": 0.5, "d": True}


def test_a_file_that_is_no_config(tmp_path):
    with pytest.raises(UserError, match="'nowhere.py' not found"):
        configs.load("nowhere.py")
    file = tmp_path / "mine.py"
    for text, message in (
        ("x = 1", "has no function get_config"),
        ("def get_config(arg):\n    return 1", "returns int, not a tf_mamlpp.config.Config"),
        ("def get_config(arg)", "cannot be read"),
        ("import no_such_module", "cannot be read"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=message):
            configs.load(str(file))


def test_load_applies_overrides_after_the_argument():
    config = configs.load(f"{TESTING}:way=3,epochs=4", ["--config.data.way=4", "--config.training.tasks=6"])
    assert (config.data.way, config.training.tasks, config.training.epochs) == (4, 6, 4)


def test_json_and_back():
    config = Config(
        seed=3,
        data=Data(image_size=(20, 30), channels=3, mean=(0.1, 0.2, 0.3), std=(1.0,), path="somewhere"),
        learner=Learner(**presets["maml++"], gradient_clip=10.0),
        training=Training(epochs=7),
        evaluation=Evaluation(ensemble=2),
    )
    again = configs.from_dict(json.loads(json.dumps(configs.to_dict(config))))
    assert again == config
    assert again.data.mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("tree", "named"),
    [
        ({"sed": 1}, "unknown config key 'sed'"),
        ({"data": {"ways": 5}}, "unknown config key 'data.ways'; data has name, path"),
        ({"data": {"way": "5"}}, "^data.way is of type"),
        ({"data": {"way": True}}, "^data.way is of type"),
        ({"data": {"way": 5.0}}, "^data.way is of type"),
        ({"data": {"image_size": 28}}, "^data.image_size is of type"),
        ({"data": {"image_size": [28.5, 28]}}, "^data.image_size is of type"),
        ({"data": {"image_size": [28]}}, "^data.image_size is of type"),
        ({"learner": {"multi_step_loss": 1}}, "^learner.multi_step_loss is of type"),
        ({"training": 3}, "'training' is a section"),
    ],
)
def test_json_of_another_shape_is_refused(tree, named):
    with pytest.raises(UserError, match=named):
        configs.from_dict(tree)


def test_differences_ignore_where_and_how_a_run_computes():
    a = Config()
    elsewhere = dataclasses.replace(
        a,
        data=Data(path="x", cache_dir="y"),
        learner=Learner(parallel_tasks=7),
        training=Training(strategy="mirrored"),
    )
    assert a != elsewhere
    assert configs.differences(a, elsewhere) == []
    for key in configs.MACHINE_KEYS:
        section, name = key.split(".")
        assert hasattr(getattr(a, section), name)
    other = dataclasses.replace(elsewhere, seed=1, data=Data(way=20, path="z"))
    assert configs.differences(a, other) == ["seed: 0, 1", "data.way: 5, 20"]
