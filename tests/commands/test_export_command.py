"""`export` and `adapt`, one after the other, on the tiny run's model."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tf_mamlpp import data
from tf_mamlpp.commands import adapt
from tf_mamlpp.errors import UserError
from tf_mamlpp.training.results import evaluate_run


@pytest.fixture(scope="session")
def exported(command, finished, tmp_path_factory):
    """The exported model's folder, and what the command printed."""
    folder = tmp_path_factory.mktemp("exported") / "model" / "1"
    done = command("export", f"--workdir={finished.workdir}", f"--output={folder}")
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture(scope="session")
def folders(finished, tmp_path_factory):
    """Support and query folders of five test classes."""
    root = tmp_path_factory.mktemp("pictures")
    bank = data.load_banks("glyphs", image_size=(28, 28), channels=1)["test"]
    for c in range(5):
        rows = range(bank.offsets[c], bank.offsets[c] + 4)
        for i, image in enumerate(bank.images[rows]):
            folder = root / ("support" if i < 2 else "query") / f"letter {c}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(folder / f"{i}.png")
    return root


@pytest.fixture
def adapt_here(exported, capsys):
    """Runs the command on the exported model in this process, which has TensorFlow already; returns what it prints."""

    def run(*arguments):
        adapt.main(adapt.flags.parse([f"--model={exported[0]}", *arguments]))
        return capsys.readouterr().out

    return run


@pytest.mark.slow
def test_export_leaves_the_run_alone_and_says_what_it_measured(exported, finished, snapshot):
    folder, done = exported
    about = json.loads((folder / "metadata.json").read_text())
    found = evaluate_run(finished.workdir, ["support"], ensemble=1)[0]
    # The same tasks through another path: plain pixels and the exported functions.
    for key in ("dataset", "split", "way", "shot", "query_shot", "tasks", "query_statistics", "inner_steps"):
        assert about["test"][key] == found[key]
    assert about["test"]["accuracy"] == pytest.approx(found["accuracy"], abs=1e-6)
    assert about["test"]["confidence_95"] == pytest.approx(found["confidence_95"], abs=1e-6)
    run = finished.json("config.json")
    assert about["config"]["data"].keys() == run["data"].keys() - {"path", "cache_dir"}
    assert about["config"]["training"]["updates"] == run["training"]["updates"]
    assert f"{100 * found['accuracy']:.2f}" in done.stdout
    assert done.stdout.splitlines()[0].startswith("note: trained with query statistics 'batch'")


def test_adapts_keeps_the_task_and_evaluates(command, exported, adapt_here, folders, tmp_path):
    state, query = tmp_path / "state.npz", f"--query={folders / 'query'}"
    first = command(
        "adapt",
        f"--model={exported[0]}",
        f"--support={folders / 'support'}",
        query,
        f"--output={tmp_path / 'out'}",
        f"--save_state={state}",
    )
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[0].startswith("learned letter 0, letter 1")
    table = (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    assert len(table) == 1 + 10
    printed = adapt_here(f"--load_state={state}", query, f"--output={tmp_path / 'again'}", "--evaluate")
    assert "true \\ predicted" in printed and "accuracy" in printed
    less = adapt_here(f"--load_state={state}", "--remove=letter 1", f"--save_state={tmp_path / 'less.npz'}")
    assert less.startswith("learned letter 0, letter 2") and "letter 1," not in less
    shutil.copytree(folders / "support" / "letter 1", tmp_path / "more" / "letter 1")
    more = [f"--load_state={tmp_path / 'less.npz'}", f"--support={tmp_path / 'more'}"]
    printed = adapt_here(*more, query, f"--output={tmp_path / 'more answers'}", "--evaluate")
    assert "accuracy on the 4 classes of before: " in printed
    labels = {row.split(",")[0]: row.split(",")[1] for row in table}
    for row in (tmp_path / "again" / "predictions.csv").read_text().splitlines():
        assert row.split(",")[1] == labels[row.split(",")[0]], "the kept state predicts otherwise"


def test_an_export_is_calibrated_for_its_own_use(exported, finished):
    about = json.loads((exported[0] / "metadata.json").read_text())["confidence"]
    run = finished.json("results.json")["confidence"]
    assert about.keys() == run.keys() and about["tasks"] == run["tasks"]
    errors = [each["expected_calibration_error"]["before"] for each in (about, run)]
    assert errors[0] != errors[1]  # query statistics 'support' and 'batch'


def test_rejects_and_counts_unknown_pictures(exported, adapt_here, folders, tmp_path):
    """Five classes, of which four are learned; pictures of the fifth are of none of them."""
    known = json.loads((exported[0] / "metadata.json").read_text())["confidence"]["known"]
    for kind in ("support", "query"):
        shutil.copytree(folders / kind, tmp_path / kind)
    shutil.rmtree(tmp_path / "support" / "letter 4")
    (tmp_path / "query" / "letter 4").rename(tmp_path / "query" / "unknown")
    arguments = [f"--support={tmp_path / 'support'}", f"--query={tmp_path / 'query'}", f"--output={tmp_path / 'out'}"]
    printed = adapt_here(*arguments, "--reject", "--evaluate")
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open(newline="")))
    assert [row["truth"] for row in rows].count("unknown") == 2
    assert all((row["label"] == "unknown") == (float(row["known"]) < known["threshold"]) for row in rows)
    assert "unknown" in printed.splitlines()[1] and " unknown, accuracy " in printed


def test_trials_with_unknown_pictures(adapt_here, folders):
    arguments = [f"--support={folders / 'support'}", "--trials=2", "--way=4", "--query_shot=1", "--unknown=2"]
    lines = adapt_here(*arguments).splitlines()
    assert [line.split("  ")[1] for line in lines[1:]] == [
        "this model",
        "nearest pixel",
        "known kept",
        "unknown found",
        "AUROC",
    ]


def test_a_mistake_is_one_line(command, exported, finished, folders, one_line, tmp_path):
    assert "exists already" in one_line(command("export", f"--workdir={finished.workdir}", f"--output={exported[0]}"))
    assert "not found" in one_line(command("export", f"--workdir={tmp_path / 'no'}", f"--output={tmp_path / 'm'}"))
    assert "--support" in one_line(command("adapt", f"--model={exported[0]}", f"--query={folders}"))
    support = f"--support={folders / 'support'}"
    for wrong, message in (
        ([f"--query={folders}"], "--output"),
        ([f"--save_state={tmp_path / 's.npz'}", "--evaluate"], "--evaluate needs --query"),
        ([f"--save_state={tmp_path / 's.npz'}", "--reject"], "--reject needs --query"),
        ([f"--save_state={tmp_path / 's.npz'}", "--shot=2"], "--shot is a setting of --trials"),
        (["--remove=a", f"--save_state={tmp_path / 's.npz'}"], "--remove needs --load_state"),
        (["--trials=2", f"--load_state={tmp_path / 's.npz'}"], "--trials goes without --load_state"),
        ([f"--save_state={tmp_path / 's.npz'}", "--unknown=2"], "--unknown is a setting of --trials"),
        (["--trials=2", f"--save_state={tmp_path / 's.npz'}"], "--trials goes without"),
    ):
        assert message in one_line(command("adapt", f"--model={exported[0]}", support, *wrong))


@pytest.mark.slow
def test_query_pictures_that_cannot_be_read(adapt_here, folders, tmp_path, capsys):
    (tmp_path / "query").mkdir()
    (tmp_path / "query" / "a.png").write_bytes(b"no picture")
    support, query = f"--support={folders / 'support'}", f"--query={tmp_path / 'query'}"
    with pytest.raises(UserError, match="none of the 1 pictures in .* can be read"):
        adapt_here(support, query, f"--output={tmp_path / 'out'}")
    (skipped,) = capsys.readouterr().err.splitlines()
    assert skipped.startswith("skipped: ") and "a.png" in skipped
    assert not any((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_trials(adapt_here, tmp_path):
    for c in range(6):
        folder = tmp_path / "pool" / str(c)
        folder.mkdir(parents=True)
        for i in range(3):
            noise = np.random.default_rng(i).integers(0, 20, (10, 10), np.uint8)
            Image.fromarray(noise + 40 * c).save(folder / f"{i}.png")
    lines = adapt_here(f"--support={tmp_path / 'pool'}", "--trials=3", "--shot=2", "--query_shot=1").splitlines()
    assert lines[0] == "3 trials, 5 classes, 2 support pictures a class:"
    assert "this model" in lines[1] and "nearest pixel  100.00 ± 0.00 %" in lines[2]
