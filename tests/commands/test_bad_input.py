"""Mistakes: one clear line that names the thing, status 1, and a run that is there already stays as it is."""

import fcntl
import io
import shutil
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_mamlpp import config as configs
from tf_mamlpp.errors import UserError
from tf_mamlpp.models import by_name
from tf_mamlpp.training import build, train, workdir
from tf_mamlpp.training.checkpoints import Checkpoints


@pytest.fixture
def tree(tmp_path):
    """Five classes of three pictures in each split: tmp_path/tree/{train,val,test}/c0...c4/0.png..."""
    for split in ("train", "val", "test"):
        for name in range(5):
            folder = tmp_path / "tree" / split / f"{split}_c{name}"
            folder.mkdir(parents=True)
            for number in range(3):
                pixels = np.random.default_rng([name, number]).integers(0, 256, (16, 16), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "tree"


@pytest.fixture
def folder_config(tiny_config, tree):
    """A config of the tree's pictures."""
    settings = ("data.name=image_folder", f"data.path={tree}", "data.image_size=16,16")
    return lambda *overrides: tiny_config(*settings, *overrides)


@pytest.fixture
def refused(tmp_path):
    """Asserts that a run is refused in one line, before it leaves anything; returns the line."""

    def check(config, workdir=tmp_path / "run"):
        with pytest.raises(UserError) as error:
            train.train_and_evaluate(config, workdir)
        assert not (workdir / "checkpoints").exists()
        assert not (workdir / "metrics.jsonl").exists()
        return str(error.value)

    return check


# --- Data -----------------------------------------------------------------------------------------------


def test_missing_data_path(folder_config, refused):
    assert "/no/such/tree" in refused(folder_config("data.path=/no/such/tree"))
    assert "needs a path" in refused(folder_config("data.path=none"))


def test_a_truncated_archive_and_one_that_is_none(tiny_config, refused, tmp_path):
    config = tiny_config("data.name=omniglot", f"data.path={tmp_path}")
    assert "images_background" in refused(config)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("images_background/Latin/character01/0001_01.png", b"x" * 5000)
    (tmp_path / "images_evaluation.zip").write_bytes(content.getvalue())
    for damaged in (content.getvalue()[:-60], b"<html>404 not found</html>", b""):
        (tmp_path / "images_background.zip").write_bytes(damaged)
        line = refused(config)
        assert str(tmp_path / "images_background.zip") in line
        assert "truncated, or not a zip archive" in line


def test_a_corrupt_picture_is_named(folder_config, refused, tree):
    picture = tree / "val" / "val_c3" / "1.png"
    picture.write_bytes(picture.read_bytes()[:40])
    assert str(picture) in refused(folder_config())


def test_fewer_classes_than_way(folder_config, refused):
    line = refused(folder_config("data.way=6"))
    assert "5 classes, fewer than way=6" in line


@pytest.mark.filterwarnings("ignore:.*left out")
def test_too_few_classes_with_enough_pictures(folder_config, refused, tree):
    for folder in (tree / "train").iterdir():
        (folder / "0.png").unlink()
    line = refused(folder_config("data.shot=2"))
    assert "classes have shot + query_shot = 2 + 1 pictures" in line


def test_an_unknown_source(tiny_config, refused):
    assert "'glifs'" in refused(tiny_config("data.name=glifs"))


# --- Config ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=3", "unknown config key 'training.epoch'"),
        ("trainings.epochs=3", "unknown config key 'trainings.epochs'"),
        ("training=3", "unknown config key 'training'"),
        ("training.epochs=three", "'training.epochs' is a int; 'three' is not one"),
        ("training.epochs=2.5", "'2.5' is not one"),
        ("learner.learned_rates=yes", "'learner.learned_rates' is a bool"),
        ("learner.inner_rate=nan", "must be finite"),
        ("training.tasks=0", "training.tasks is 0"),
        ("data.way=1", "data.way is 1"),
        ("data.image_size=28", "data.image_size"),
        ("data.image_size=28,28,1", "data.image_size"),
        ("seed=-1", "seed is -1"),
        ("seed=99999999999", "seed"),
        ("learner.query_statistics=mean", "'mean'"),
    ],
)
def test_a_wrong_override(tiny_config, override, message):
    with pytest.raises(UserError) as error:
        tiny_config(override)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"), [("wey=3", "'wey=3'"), ("way=many", "'many'"), ("method=mamlpp", "mamlpp")]
)
def test_a_wrong_argument_of_a_config_file(tiny_config, arguments, message):
    with pytest.raises(UserError) as error:
        tiny_config(file=f"configs/testing.py:{arguments}")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("Config(training=Training(epoch=3))", "epoch"),
        ("Config(training=Training(epochs='3'))", "epochs"),
        ("Config(training=3)", "training"),
        ("Config(model=Model(filters='3'))", "filters"),
        ("{}", "dict"),
    ],
)
def test_a_wrong_config_file(tmp_path, expression, message):
    file = tmp_path / "mine.py"
    file.write_text(f"from tf_mamlpp.config import *\n\n\ndef get_config(a):\n    return {expression}\n")
    with pytest.raises(UserError) as error:
        configs.load(str(file))
    assert message in str(error.value)


def test_a_missing_config_file_and_one_of_another_kind(tmp_path):
    with pytest.raises(UserError, match="'nowhere.py' not found"):
        configs.load("nowhere.py")
    for content, message in (("def f(:", "cannot be read"), ("x = 1", "no function get_config")):
        (tmp_path / "mine.py").write_text(content)
        with pytest.raises(UserError, match=message):
            configs.load(str(tmp_path / "mine.py"))


def test_after_a_mistake_is_mended_the_same_folder_will_do(tiny_config, tmp_path, refused):
    line = refused(tiny_config("model.name=conv4", "model.blocks=9"), tmp_path)
    assert "fewer blocks" in line
    with workdir.claim_workdir(tiny_config(), tmp_path):
        pass


def test_a_model_of_another_width(tiny_config, refused, monkeypatch):
    monkeypatch.setattr(by_name, "mlp", lambda shape, way, make=by_name.mlp, **k: make(shape, way + 2, **k))
    line = refused(tiny_config())
    assert "7 outputs for 5-way tasks" in line


def test_a_model_that_memory_cannot_hold(tiny_config, tmp_path, monkeypatch):
    def make(*arguments, **settings):
        raise tf.errors.ResourceExhaustedError(None, None, "{{node x}} OOM when allocating tensor [Op:Add]\nHint")

    monkeypatch.setattr(by_name, "build", make)
    with pytest.raises(UserError, match=r"out of memory \(OOM when allocating tensor\): a smaller learner.parallel"):
        train.train_and_evaluate(tiny_config(), tmp_path)


# --- The run's folder -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_folder_that_is_in_use(finished, train_arguments, command, one_line, tiny_config, snapshot):
    before = snapshot(finished.workdir)
    with open(finished.workdir / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        line = one_line(command("train", *train_arguments(finished.workdir)))
    assert f"'{finished.workdir}' is in use" in line
    assert snapshot(finished.workdir) == before


def test_a_folder_that_is_a_file(tiny_config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        train.train_and_evaluate(tiny_config(), tmp_path / "file")


@pytest.mark.parametrize("content", ["", '{"seed": ', "[]", '{"sed": 1}'])
def test_a_damaged_config_json(tiny_config, tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "update-2.index").write_text("")
    with pytest.raises(UserError, match="config"):
        train.train_and_evaluate(tiny_config(), tmp_path)
    assert (tmp_path / "config.json").read_text() == content


# --- A loss that is not finite ----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_loss_that_stops_being_finite_keeps_the_last_good_checkpoint(tiny_config, tmp_path, monkeypatch):
    make = build.make_episodes

    def spoilt(config, banks, split, tasks, start=0, count=None):
        episodes = make(config, banks, split, tasks, start=start, count=count)
        if split != "train":
            return episodes

        def factor(step):
            return tf.where(step + start >= 4, np.nan, 1.0)  # the fifth update on

        return episodes.enumerate().map(
            lambda step, batch: {**batch, "query_images": batch["query_images"] * factor(step)}
        )

    monkeypatch.setattr(train, "make_episodes", spoilt)
    config = tiny_config()
    for _ in range(2):  # again: the checkpoint loads, and the same update fails
        with pytest.raises(UserError, match="the loss is nan at update 5; .*checkpoint"):
            train.train_and_evaluate(config, tmp_path)
    learner = build.make_learner(config)
    assert Checkpoints(tmp_path / "checkpoints", learner).restore_latest() == 4
    for variable in learner.variables:
        assert np.isfinite(variable.numpy()).all()
    monkeypatch.undo()
    assert train.train_and_evaluate(config, tmp_path)["train_steps"] == 12


def test_weights_that_stop_being_finite_are_never_saved(tiny_config, tmp_path):
    # The first update's loss is fine, and its step throws the weights out of range.
    with pytest.raises(UserError, match="update 1"):
        train.train_and_evaluate(tiny_config("training.learning_rate=1e39", "training.checkpoint_updates=1"), tmp_path)
    assert not list((tmp_path / "checkpoints").glob("update-*"))


# --- As processes ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_non_finite_loss_as_a_process(command, train_arguments, one_line, tmp_path):
    done = command("train", *train_arguments(tmp_path), "--config.learner.inner_rate=1e30")
    assert "at update 1;" in one_line(done)


def test_an_unknown_key_as_a_process_and_its_traceback(command, train_arguments, one_line, tmp_path):
    arguments = [*train_arguments(tmp_path / "run"), "--config.training.epoch=3"]
    assert one_line(command("train", *arguments)).startswith("error: unknown config key 'training.epoch'")
    shown = command("train", *arguments, "--debug")
    assert shown.returncode == 1
    assert "Traceback" in shown.stderr
    assert "UserError" in shown.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/testing.py"], "workdir"),
        (["--workdir=WORKDIR"], "config"),
        (["--config=configs/testing.py", "--workdir=WORKDIR", "--epochs=3"], "'--epochs=3'"),
        (["--config=configs/testing.py", "--workdir=WORKDIR", "--config.training.epochs"], "--config.training"),
        (["--config=configs/testing.py", "--workdir=WORKDIR", "more"], "'more'"),
        (["--config=configs/testing.py:way=2000", "--workdir=WORKDIR"], "fewer than way=2000"),
        (["--config=configs/omniglot.py", "--config.data.path=/no", "--workdir=WORKDIR"], "/no"),
    ],
)
def test_other_mistakes_as_processes(command, one_line, tmp_path, arguments, message):
    arguments = [a.replace("WORKDIR", str(tmp_path / "run")) for a in arguments]
    assert message in one_line(command("train", *arguments))


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["index", "data-00000-of-00001"])
def test_every_checkpoint_damaged(finished, command, train_arguments, one_line, tmp_path, ending):
    workdir = shutil.copytree(finished.workdir, tmp_path / "run")
    for file in (workdir / "checkpoints").glob(f"update-*.{ending}"):
        file.write_bytes(file.read_bytes()[:100])
    done = command("train", *train_arguments(workdir))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "no checkpoint" in done.stderr.splitlines()[-1]
