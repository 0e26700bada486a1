"""Models of the package: written from a run, loaded as learners and as exported models."""

import numpy as np
import pytest
import tensorflow as tf

from tf_mamlpp.config import Config, Data, Evaluation, Learner, Model, Training
from tf_mamlpp.data import episodes
from tf_mamlpp.deploy import catalogue, pretrained
from tf_mamlpp.deploy.deployed_model import DeployedModel
from tf_mamlpp.errors import UserError
from tf_mamlpp.meta.evaluation import evaluate
from tf_mamlpp.training import train, workdir

# Accuracy on 40 tasks of glyphs, 5-way 1-shot with 3 query pictures, of the models that are shipped.
ON_GLYPHS = {"omniglot": 0.9167, "omniglot_any_way": 0.9183}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of two updates as a model of the package, in a folder of its own."""
    folder = tmp_path_factory.mktemp("published")
    config = Config(
        data=Data(way=3, image_size=(8, 8)),
        model=Model(filters=4, blocks=2),
        learner=Learner(inner_steps=2, learned_rates=True, per_step_statistics=True),
        training=Training(epochs=1, updates=2, tasks=2, start=None),
        evaluation=Evaluation(validation_tasks=4, test_tasks=4, ensemble=1),
    )
    train.train_and_evaluate(config, folder / "run")
    facts = {"data": "glyphs, drawn from free fonts", "limits": "it knows nothing", "commit": "0123abc"}
    pretrained.publish(folder / "run", "mine", **facts, folder=folder / "models")
    return folder


@pytest.fixture
def published(made, monkeypatch):
    """That folder in place of the package's own."""
    monkeypatch.setenv("TF_MAMLPP_CACHE", str(made / "cache"))
    for module in (catalogue, pretrained):
        monkeypatch.setattr(module, "FOLDER", made / "models")
    return made


@pytest.fixture
def task(make_tasks):
    images = make_tasks(tasks=1, dtype="float32")
    return {name: value[0] for name, value in images.items()}


@pytest.mark.slow
def test_the_learner_is_the_runs_best_epoch(published, task):
    _, learner, checkpoints = workdir.open_run(published / "run")
    checkpoints.restore_best(0)
    answers = []
    for each in (learner, pretrained.pretrained("mine")):
        adapted = each.adapt(task["support_images"], task["support_labels"])
        answers.append(each.predict_adapted(adapted, task["query_images"]).numpy())
    np.testing.assert_array_equal(*answers)


@pytest.mark.slow
def test_it_is_exported_once_at_its_first_use(published, task):
    folder = pretrained.exported("mine")
    assert folder.parent == published / "cache" / "pretrained"
    model, written = DeployedModel(folder), (folder / "metadata.json").stat().st_mtime_ns
    pictures = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), np.uint8)
    found = model.predict(model.adapt(pictures[:3], [0, 1, 2], ["a", "b", "c"]), pictures[3:])
    learner = pretrained.pretrained("mine")
    prepared = 1 - tf.cast(pictures, tf.float32) / 255  # ink is 1
    expected = learner.predict_adapted(learner.adapt(prepared[:3], [0, 1, 2]), prepared[3:])
    told = catalogue.about("mine")["confidence"]
    np.testing.assert_allclose(found, tf.nn.softmax(tf.math.log(expected) / told["temperature"]), atol=1e-5)
    assert model.threshold == (told["known"] and told["known"]["threshold"])
    assert pretrained.exported("mine") == folder and (folder / "metadata.json").stat().st_mtime_ns == written


@pytest.mark.slow
def test_its_card_says_what_it_is(published):
    card = (published / "models" / "mine" / "card.md").read_text()
    told = catalogue.about("mine")
    for expected in (
        'mp.pretrained("mine")',
        f"| accuracy | {100 * told['test']['accuracy']:.2f} ± ",
        " % on 4 3-way 1-shot test tasks of 1 query pictures (95 % interval over tasks); one seed, 0 |",
        " % on 4 test tasks, ",
        "| data | glyphs, drawn from free fonts |",
        "| pictures | 8x8, grey |",
        "| code | commit 0123abc |",
        "| limits | it knows nothing |",
    ):
        assert expected in card
    assert (published / "models" / "mine" / "model.tflite").stat().st_size > 1000
    assert "path" not in told["config"]["data"]


@pytest.mark.slow
def test_names(published, tmp_path):
    assert catalogue.names() == ["mine"]
    with pytest.raises(UserError, match="there is no pretrained model 'yours': there are mine"):
        pretrained.pretrained("yours")
    with pytest.raises(UserError, match="mine' exists already"):
        facts = {"data": "", "limits": "", "commit": ""}
        pretrained.publish(published / "run", "mine", **facts, folder=published / "models")


@pytest.mark.parametrize("name", catalogue.names())
def test_the_models_of_the_package(name):
    learner, data = pretrained.pretrained(name), catalogue.about(name)["config"]["data"]
    tasks = episodes(
        "glyphs",
        split="test",
        way=data["way"],
        shot=1,
        query_shot=3,
        tasks=20,
        count=2,
        image_size=tuple(data["image_size"]),
        channels=data["channels"],
        mean=data["mean"],
        std=data["std"],
    )
    assert evaluate(learner, tasks, query_statistics="support").value == pytest.approx(ON_GLYPHS[name], abs=0.01)
