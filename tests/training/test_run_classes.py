"""A run keeps to the classes that it was trained on."""

import json
import re
import shlex
import shutil
import unicodedata
import warnings

import numpy as np
import pytest

from tf_mamlpp.config import Config, Data, Evaluation, Learner, Model, Training, override
from tf_mamlpp.data.images import Image
from tf_mamlpp.errors import UserError
from tf_mamlpp.training import results, run_classes, train
from tf_mamlpp.training.workdir import read_config

ACCENTED = "é"


def picture(file, seed):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)).save(file)


def tree(root, names, pictures=4):
    for name in names:
        for each in range(pictures):
            picture(root / name / f"{each}.png", [*unicodedata.normalize("NFC", name).encode(), each])
    return root


def config(root, epochs=1, **data):
    return Config(
        data=Data(name="image_folder", path=str(root), way=2, image_size=(8, 8), **data),
        model=Model(name="mlp"),
        learner=Learner(inner_steps=1),
        training=Training(epochs=epochs, updates=2, tasks=2),
        evaluation=Evaluation(validation_tasks=2, test_tasks=4, ensemble=1),
    )


POOL = [f"c{number:02}" for number in range(12)]
GIVEN = [f"train/{c}" for c in "abc"] + ["val/d", "val/e", "test/f", "test/g"]


@pytest.fixture(scope="module", params=["pool", "folders"])
def trained(request, tmp_path_factory):
    """A finished run on a pool of classes, or on folders of splits: its root, workdir and results."""
    folder = tmp_path_factory.mktemp(request.param)
    root = tree(folder / "pets", POOL if request.param == "pool" else GIVEN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_MAMLPP_CACHE", str(folder / "cache"))
        found = train.train_and_evaluate(config(root), folder / "run")
    return root, folder / "run", found


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A copy of that run, whose data and folder may be changed."""
    monkeypatch.setenv("TF_MAMLPP_CACHE", str(tmp_path / "cache"))
    root, workdir, found = trained
    return shutil.copytree(root, tmp_path / "pets"), shutil.copytree(workdir, tmp_path / "run"), found


def evaluate(root, workdir, **settings):
    return results.evaluate_run(workdir, [None], data_path=str(root), **settings)[0]["accuracy"]


def test_the_classes_of_each_split_are_kept(trained):
    root, workdir, _ = trained
    kept = json.loads((workdir / "classes.json").read_text())
    assert [len(kept[split]) for split in ("train", "validation", "test")] in ([8, 2, 2], [3, 2, 2])
    assert all(len(kept["pictures"][split]) == len(kept[split]) for split in ("train", "validation", "test"))
    assert {found[0] for found in kept["pictures"]["test"].values()} == {4}
    assert len({found[1] for split in kept["pictures"].values() for found in split.values()}) == len(
        list(root.rglob("0.png"))
    )


def add_a_class(root):
    """Changes which classes are in which split."""
    if (root / "train").exists():
        shutil.move(root / "train" / "b", root / "test" / "b")
        shutil.move(root / "test" / "f", root / "train" / "f")
        return "2 differ: b (train, now test), f (test, now train);"
    tree(root, ["c005"])
    return "; new: c005 ("


def test_evaluating_refuses_other_classes_and_goes_on_with_its_own(run):
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


def test_classes_trained_on_and_now_tested_are_named_first(run):
    root, workdir, _ = run
    add_a_class(root)
    with pytest.raises(UserError, match=r"\d+ differ: \w+ \(train, now (test|validation)\)"):
        evaluate(root, workdir)


def test_resuming_refuses_other_classes_and_goes_on_with_its_own(run):
    root, workdir, _ = run
    add_a_class(root)
    before = (workdir / "classes.json").read_bytes()
    with pytest.raises(UserError, match=r"--config.data.split_file=\S+/run/classes.json to bin/train.py"):
        train.train_and_evaluate(config(root), workdir)
    own = config(root, split_file=f"{workdir}/classes.json")
    assert train.train_and_evaluate(own, workdir)["accuracy"] == pytest.approx(run[2]["accuracy"])
    assert read_config(workdir) == own
    assert evaluate(root, workdir) == pytest.approx(run[2]["accuracy"])
    with pytest.raises(UserError, match="are not the classes of the run"):
        train.train_and_evaluate(config(root, split_seed=1), workdir)
    assert (workdir / "classes.json").read_bytes() == before


def test_the_way_to_go_on_is_a_command_that_works(tmp_path, monkeypatch):
    """A split file and fractions of one's own contradict: the command takes the fractions back."""
    monkeypatch.setenv("TF_MAMLPP_CACHE", str(tmp_path / "cache"))
    root = tree(tmp_path / "my pets", POOL)
    begun = config(root, split_fractions=(0.5, 0.25, 0.25))
    found = train.train_and_evaluate(begun, tmp_path / "a run")
    tree(root, ["c005"])
    with pytest.raises(UserError, match="are not the classes of the run") as caught:
        train.train_and_evaluate(begun, tmp_path / "a run")
    flags = [
        flag for flag in shlex.split(str(caught.value).partition("bin/export.py, ")[2]) if flag.startswith("--config")
    ]
    assert len(flags) == 2
    again = train.train_and_evaluate(override(begun, flags), tmp_path / "a run")
    assert again["accuracy"] == pytest.approx(found["accuracy"])


def test_a_class_that_is_gone_is_asked_for(run):
    root, workdir, _ = run
    name = json.loads((workdir / "classes.json").read_text())["test"][0]
    folder = next(root.rglob(name))
    tree(folder.parent, ["other"])
    shutil.rmtree(folder)
    with pytest.raises(UserError, match=rf"gone: {name} \(test\); put back the 1 that are gone, and"):
        evaluate(root, workdir)
    with pytest.raises(UserError, match=f"has no class '{name}'"):
        evaluate(root, workdir, split_file=f"{workdir}/classes.json")


def test_other_pictures_are_told(run):
    root, workdir, _ = run
    name = json.loads((workdir / "classes.json").read_text())["test"][0]
    picture(next(root.rglob(name)) / "more.png", 99)
    with pytest.warns(UserWarning, match=rf"pictures of 1 of .*{name} \(4 pictures then, 5 now"):
        evaluate(root, workdir)
    next(root.rglob("more.png")).unlink()
    picture(next(root.rglob(name)) / "0.png", 99)
    with pytest.warns(UserWarning, match=rf"pictures of 1 of .*{name} \(4 pictures\)"):
        evaluate(root, workdir)


def test_a_run_of_before_opens_and_gets_its_classes_when_it_is_resumed(run):
    root, workdir, found = run
    (workdir / "classes.json").unlink()
    assert evaluate(root, workdir) == found["accuracy"]
    assert not (workdir / "classes.json").exists()
    train.train_and_evaluate(config(root), workdir)
    assert sorted(json.loads((workdir / "classes.json").read_text())) == ["pictures", "test", "train", "validation"]


def test_the_same_names_in_another_form_are_the_same_classes(tmp_path, monkeypatch):
    """A Mac may keep a letter and its accent as two characters; then the order of the folders is another one too."""
    monkeypatch.setenv("TF_MAMLPP_CACHE", str(tmp_path / "cache"))
    names = [f"{split}/{c}" for split in ("train", "val", "test") for c in (f"{ACCENTED}{split}", f"f{split}")]
    root = tree(tmp_path / "mac", [unicodedata.normalize("NFD", name) for name in names])
    found = train.train_and_evaluate(config(root), tmp_path / "run")
    moved = tree(tmp_path / "linux", [unicodedata.normalize("NFC", name) for name in names])
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


def test_a_run_that_never_came_to_a_checkpoint_begins_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_MAMLPP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "classes.json").write_text('{"train": ["a"], "validation": [], "test": [], "pictures": {}}')
    train.train_and_evaluate(config(tree(tmp_path / "pets", POOL)), tmp_path / "run")
    assert len(json.loads((tmp_path / "run" / "classes.json").read_text())["train"]) == 8


# --- How the data were read -------------------------------------------------------------------------------


def printed(capsys, root, **data):
    train.load_banks(config(root, **data))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if str(root) in line]
    return line.removeprefix(f"{root}: ")


def test_a_pool_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TF_MAMLPP_CACHE", str(tmp_path / "cache"))
    root = tree(tmp_path / "pets", POOL, pictures=3)
    expected = "train 8 classes (24 pictures), validation 2 classes (6 pictures), test 2 classes (6 pictures)"
    assert printed(capsys, root) == f"one pool of 12 classes, divided by data.split_seed=0: {expected}"
    lists = {"train": POOL[:8], "validation": POOL[8:10], "test": POOL[10:]}
    (tmp_path / "lists.json").write_text(json.dumps(lists))
    file = str(tmp_path / "lists.json")
    assert printed(capsys, root, split_file=file) == f"divided by {file}: {expected}"


def test_folders_of_splits_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TF_MAMLPP_CACHE", str(tmp_path / "cache"))
    root = tree(tmp_path / "pets", ["images/Train/a", "images/Train/b", "images/Val/c", "images/Val/d"], pictures=2)
    tree(root, ["images/Test/e", "images/Test/f", "images/more/g"], pictures=3)
    assert printed(capsys, root) == (
        "with the splits Train/, Val/ and Test/: train 2 classes (4 pictures), validation 2 classes (4 pictures), "
        "test 2 classes (6 pictures); not read: more/"
    )


# --- Damaged pictures -------------------------------------------------------------------------------------


def test_damaged_pictures_are_counted_in_the_results(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_MAMLPP_CACHE", str(tmp_path / "cache"))
    root = tree(tmp_path / "pets", POOL)
    (root / "c00" / "0.png").write_bytes(b"")
    (root / "c01" / "3.png").write_bytes(b"")
    with pytest.raises(UserError, match="2 pictures cannot be read"):
        train.train_and_evaluate(config(root), tmp_path / "run")
    with pytest.warns(UserWarning, match="left out 2 damaged pictures"):
        found = train.train_and_evaluate(config(root, skip_damaged=True), tmp_path / "run")
    assert found["damaged_pictures"] == 2
    assert json.loads((tmp_path / "run" / "results.json").read_text())["damaged_pictures"] == 2
    with pytest.warns(UserWarning, match="left out 2 damaged pictures"):
        assert evaluate(root, tmp_path / "run") == found["accuracy"]


def test_results_of_other_runs_have_no_such_count(trained):
    assert "damaged_pictures" not in trained[2]


@pytest.mark.parametrize("name", ["glyphs", "sinusoid"])
def test_leaving_out_has_no_use_where_nothing_is_read(name):
    with pytest.raises(UserError, match=f"data.skip_damaged has no use with data.name={name}"):
        Data(name=name, skip_damaged=True)
