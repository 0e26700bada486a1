"""A run keeps to the classes that it was trained on."""

import json
import re
import shlex
import shutil
import unicodedata
import warnings

import pytest

from tf_mamlpp.config import override
from tf_mamlpp.errors import UserError
from tf_mamlpp.training import run_classes, train
from tf_mamlpp.training.workdir import read_config

ACCENTED = "é"


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A copy of the finished run, whose data and folder may be changed."""
    monkeypatch.setenv("TF_MAMLPP_CACHE", str(tmp_path / "cache"))
    root, workdir, found = trained
    return shutil.copytree(root, tmp_path / "pets"), shutil.copytree(workdir, tmp_path / "run"), found


def test_the_classes_of_each_split_are_kept(trained):
    root, workdir, _ = trained
    kept = json.loads((workdir / "classes.json").read_text())
    assert [len(kept[split]) for split in ("train", "validation", "test")] in ([8, 2, 2], [3, 2, 2])
    assert all(len(kept["pictures"][split]) == len(kept[split]) for split in ("train", "validation", "test"))
    assert {found[0] for found in kept["pictures"]["test"].values()} == {4}
    assert len({found[1] for split in kept["pictures"].values() for found in split.values()}) == len(
        list(root.rglob("0.png"))
    )


@pytest.fixture
def add_a_class(picture_tree):
    """Changes which classes are in which split, and returns how an error tells it: add_a_class(root)."""

    def change(root):
        if (root / "train").exists():
            shutil.move(root / "train" / "b", root / "test" / "b")
            shutil.move(root / "test" / "f", root / "train" / "f")
            return "2 differ: b (train, now test), f (test, now train);"
        picture_tree(root, ["c005"])
        return "; new: c005 ("

    return change


@pytest.mark.slow_cases("pool")
def test_evaluating_refuses_other_classes_and_goes_on_with_its_own(add_a_class, evaluate, run):
    root, workdir, found = run
    assert evaluate(root, workdir) == found["accuracy"]
    text = add_a_class(root)
    with pytest.raises(UserError, match="are not the classes of the run") as caught:
        evaluate(root, workdir)
    assert text in str(caught.value) and "\n" not in str(caught.value)
    (file,) = set(re.findall(r"split_file=(\S+)", str(caught.value)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert evaluate(root, workdir, split_file=file) == found["accuracy"]


def test_classes_trained_on_and_now_tested_are_named_first(add_a_class, evaluate, run):
    root, workdir, _ = run
    add_a_class(root)
    with pytest.raises(UserError, match=r"\d+ differ: \w+ \(train, now (test|validation)\)"):
        evaluate(root, workdir)


@pytest.mark.slow_cases("pool")
def test_resuming_refuses_other_classes_and_goes_on_with_its_own(folder_config, add_a_class, evaluate, run):
    root, workdir, _ = run
    add_a_class(root)
    before = (workdir / "classes.json").read_bytes()
    with pytest.raises(UserError, match=r"--config.data.split_file=\S+/run/classes.json to tf-mamlpp train"):
        train.train_and_evaluate(folder_config(root), workdir)
    own = folder_config(root, split_file=f"{workdir}/classes.json")
    assert train.train_and_evaluate(own, workdir)["accuracy"] == pytest.approx(run[2]["accuracy"])
    assert read_config(workdir) == own
    assert evaluate(root, workdir) == pytest.approx(run[2]["accuracy"])
    with pytest.raises(UserError, match="are not the classes of the run"):
        train.train_and_evaluate(folder_config(root, split_seed=1), workdir)
    assert (workdir / "classes.json").read_bytes() == before


@pytest.mark.slow
def test_the_way_to_go_on_is_a_command_that_works(picture_tree, folder_config, pool, tmp_path, monkeypatch):
    """A split file and fractions of one's own contradict: the command takes the fractions back."""
    monkeypatch.setenv("TF_MAMLPP_CACHE", str(tmp_path / "cache"))
    root = picture_tree(tmp_path / "my pets", pool)
    begun = folder_config(root, split_fractions=(0.5, 0.25, 0.25))
    found = train.train_and_evaluate(begun, tmp_path / "a run")
    picture_tree(root, ["c005"])
    with pytest.raises(UserError, match="are not the classes of the run") as caught:
        train.train_and_evaluate(begun, tmp_path / "a run")
    words = shlex.split(str(caught.value).partition("tf-mamlpp export, ")[2])
    flags = [word for word in words if word.startswith("--config")]
    assert len(flags) == 2
    again = train.train_and_evaluate(override(begun, flags), tmp_path / "a run")
    assert again["accuracy"] == pytest.approx(found["accuracy"])


def test_a_class_that_is_gone_is_asked_for(picture_tree, evaluate, run):
    root, workdir, _ = run
    name = json.loads((workdir / "classes.json").read_text())["test"][0]
    folder = next(root.rglob(name))
    picture_tree(folder.parent, ["other"])
    shutil.rmtree(folder)
    with pytest.raises(UserError, match=rf"gone: {name} \(test\); put back the 1 that are gone, and"):
        evaluate(root, workdir)
    with pytest.raises(UserError, match=f"has no class '{name}'"):
        evaluate(root, workdir, split_file=f"{workdir}/classes.json")


@pytest.mark.slow
def test_other_pictures_are_told(write_picture, evaluate, run):
    root, workdir, _ = run
    name = json.loads((workdir / "classes.json").read_text())["test"][0]
    write_picture(next(root.rglob(name)) / "more.png", 99)
    with pytest.warns(UserWarning, match=rf"pictures of 1 of .*{name} \(4 pictures then, 5 now"):
        evaluate(root, workdir)
    next(root.rglob("more.png")).unlink()
    write_picture(next(root.rglob(name)) / "0.png", 99)
    with pytest.warns(UserWarning, match=rf"pictures of 1 of .*{name} \(4 pictures\)"):
        evaluate(root, workdir)


@pytest.mark.slow_cases("pool")
def test_a_run_of_before_opens_and_gets_its_classes_when_it_is_resumed(folder_config, evaluate, run):
    root, workdir, found = run
    (workdir / "classes.json").unlink()
    assert evaluate(root, workdir) == found["accuracy"]
    assert not (workdir / "classes.json").exists()
    train.train_and_evaluate(folder_config(root), workdir)
    assert sorted(json.loads((workdir / "classes.json").read_text())) == ["pictures", "test", "train", "validation"]


@pytest.mark.slow
def test_the_same_names_in_another_form_are_the_same_classes(
    picture_tree, folder_config, evaluate, tmp_path, monkeypatch
):
    """A Mac may keep a letter and its accent as two characters; then the order of the folders is another one too."""
    monkeypatch.setenv("TF_MAMLPP_CACHE", str(tmp_path / "cache"))
    names = [f"{split}/{c}" for split in ("train", "val", "test") for c in (f"{ACCENTED}{split}", f"f{split}")]
    root = picture_tree(tmp_path / "mac", [unicodedata.normalize("NFD", name) for name in names])
    found = train.train_and_evaluate(folder_config(root), tmp_path / "run")
    moved = picture_tree(tmp_path / "linux", [unicodedata.normalize("NFC", name) for name in names])
    with pytest.raises(UserError, match="the same, but in another order"):
        evaluate(moved, tmp_path / "run")
    assert evaluate(moved, tmp_path / "run", split_file=f"{tmp_path}/run/classes.json") == found["accuracy"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"train": ["a"], "validation": ["b"], "test": ["c"]}', '{"train": 3}']
)
def test_damaged_classes_are_refused(tmp_path, content):
    (tmp_path / "classes.json").write_text(content)
    with pytest.raises(UserError, match="classes.json.*put it back, or delete it"):
        run_classes.read_classes(tmp_path)


@pytest.mark.slow
def test_a_run_that_never_came_to_a_checkpoint_begins_anew(picture_tree, folder_config, pool, tmp_path, monkeypatch):
    monkeypatch.setenv("TF_MAMLPP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "classes.json").write_text('{"train": ["a"], "validation": [], "test": [], "pictures": {}}')
    train.train_and_evaluate(folder_config(picture_tree(tmp_path / "pets", pool)), tmp_path / "run")
    assert len(json.loads((tmp_path / "run" / "classes.json").read_text())["train"]) == 8
