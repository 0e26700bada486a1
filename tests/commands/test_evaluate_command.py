"""bin/evaluate.py, by the contract."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tf_mamlpp.errors import UserError
from tf_mamlpp.training.results import evaluate_run

CONTRACT = {
    *("dataset", "split", "way", "shot", "query_shot", "inner_steps", "method", "query_statistics", "ensemble"),
    *("tasks", "accuracy", "confidence_95", "accuracy_per_inner_step", "seed", "train_steps", "train_seconds"),
}


@pytest.fixture
def write_folders():
    """Writes folders of grey pictures of noise and returns their root: write_folders(root, classes=6, pictures=3)."""

    def write(root, classes, pictures):
        draws = np.random.default_rng(0)
        for name in range(classes):
            (root / f"class {name}").mkdir(parents=True)
            for each in range(pictures):
                noise = Image.fromarray(draws.integers(0, 256, (9, 12), np.uint8))
                noise.save(root / f"class {name}" / f"{each}.png")
        return root

    return write


def last_json(stdout):
    return json.loads(stdout.strip().splitlines()[-1])


@pytest.mark.slow
def test_json_repeats_the_run_s_own_test(finished, command, snapshot):
    before = snapshot(finished.workdir)
    done = command("evaluate", f"--workdir={finished.workdir}", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found, results = last_json(done.stdout), finished.json("results.json")
    assert found.keys() >= CONTRACT
    assert found == {key: results[key] for key in found}
    assert "ensemble of the best 2 epochs" in done.stdout
    assert snapshot(finished.workdir) == before


@pytest.mark.slow
def test_all_query_statistics_and_every_setting_twice(finished, command):
    settings = ["--query_statistics=all", "--ensemble=1", "--inner_steps=4", "--tasks=10", "--split=validation"]
    done = command("evaluate", f"--workdir={finished.workdir}", "--json", *settings)
    assert done.returncode == 0, done.stderr
    found = last_json(done.stdout)["results"]
    assert [result["query_statistics"] for result in found] == ["batch", "running", "support"]
    for result in found:
        assert result.keys() >= CONTRACT
        assert (result["ensemble"], result["inner_steps"], result["tasks"]) == (1, 4, 10)
        assert result["split"] == "validation"
        assert len(result["accuracy_per_inner_step"]) == 5
    assert done.stdout.count("query statistics") == 3
    settings = {"ensemble": 1, "inner_steps": 4, "tasks": 10, "split": "validation"}
    assert evaluate_run(finished.workdir, ["support"], **settings) == found[2:]


@pytest.mark.slow_cases("1", "3")
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_fewer_and_more_steps_than_trained_share_their_curve(finished, steps):
    (found,) = evaluate_run(finished.workdir, [None], inner_steps=steps)
    expected = finished.json("results.json")["accuracy_per_inner_step"]
    assert found["inner_steps"] == steps
    assert found["accuracy_per_inner_step"][:3] == pytest.approx(expected[: steps + 1])


@pytest.mark.slow
def test_label_permutations_of_a_run_that_was_trained_without(finished, command, tmp_path):
    done = command("evaluate", f"--workdir={finished.workdir}", "--json", "--label_permutations=5")
    assert done.returncode == 0, done.stderr
    found = last_json(done.stdout)
    assert found["label_permutations"] == 5
    assert "5 label permutations averaged" in done.stdout
    assert found["accuracy_per_inner_step"] != finished.json("results.json")["accuracy_per_inner_step"]
    trained_with = shutil.copytree(finished.workdir, tmp_path / "run")
    config = finished.json("config.json")
    config["learner"]["label_permutations"] = 5
    (trained_with / "config.json").write_text(json.dumps(config))
    assert evaluate_run(trained_with, [None]) == [found]
    (without,) = evaluate_run(trained_with, [None], label_permutations=1)
    assert without == {key: finished.json("results.json")[key] for key in without}


@pytest.mark.slow
def test_a_single_model_and_more_members_than_kept(finished):
    results = finished.json("results.json")
    (single,) = evaluate_run(finished.workdir, [None], ensemble=1)
    assert single["ensemble"] == 1
    for key, value in results["single_model"].items():
        assert single[key] == pytest.approx(value)
    (all_kept,) = evaluate_run(finished.workdir, [None], ensemble=9)
    assert all_kept["ensemble"] == 2
    assert all_kept["accuracy"] == pytest.approx(results["accuracy"])


def test_the_interval_is_of_the_tasks(finished):
    (one,) = evaluate_run(finished.workdir, [None], tasks=1)
    assert one["confidence_95"] is None


@pytest.mark.slow
def test_a_folder_without_a_run(command, one_line, tmp_path):
    line = one_line(command("evaluate", f"--workdir={tmp_path}"))
    assert str(tmp_path) in line
    assert "no run" in line
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_finished_epoch(finished, tmp_path):
    shutil.copy(finished.workdir / "config.json", tmp_path)
    with pytest.raises(UserError, match="no finished epoch"):
        evaluate_run(tmp_path, [None])
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.slow
def test_another_source_with_a_report(finished, command, write_folders, tmp_path):
    root = write_folders(tmp_path / "letters", classes=6, pictures=3)
    arguments = ["--data=image_folder", f"--data_path={root}", f"--output={tmp_path / 'report'}", "--tasks=8"]
    arguments += ["--query_statistics=batch,support"]
    done = command("evaluate", f"--workdir={finished.workdir}", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    for found in last_json(done.stdout)["results"]:
        assert (found["dataset"], found["split"], found["trained_on"]) == ("image_folder", "all", "glyphs")
        assert found.keys() >= CONTRACT | {"nearest_pixel", "nearest_class_mean", "dataset_path"}
        assert {file.name for file in (tmp_path / "report" / found["query_statistics"]).iterdir()} == {
            *("confusion_matrix.csv", "confusion_matrix.png", "class_accuracy.csv", "hardest_tasks.png"),
        }
    assert "all 6 classes (18 pictures)" in done.stdout
    assert "updates on glyphs" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--workdir=/no/such/run", "'/no/such/run' not found"),
        ("--query_statistics=mean", "'mean'"),
        ("--split=valid", "valid"),
        ("--tasks=0", "tasks"),
        ("--label_permutations=6", "learner.label_permutations is 6: it must be 1 to the way"),
        ("--label_permutations=two", "label_permutations"),
        ("--inner_steps=-1", "--inner_steps takes a whole number from 0 on, or best, not '-1'"),
        ("--inner_steps=many", "not 'many'"),
        ("--support_augmentations=-1", "support_augmentations"),
        ("--data=omniglott", "unknown data source 'omniglott'; known are"),
        ("--data=image_folder", "data source 'image_folder' needs a path"),
        ("--data=glyphs", "data source 'glyphs' is the run's own"),
        ("--output=/dev/null/report", "cannot write in '/dev/null/report'"),
        ("--config.seed=1", "own config"),
        ("--bogus", "--bogus"),
    ],
)
def test_bad_arguments(command, one_line, finished, argument, message):
    assert message in one_line(command("evaluate", f"--workdir={finished.workdir}", argument))
