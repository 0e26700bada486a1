"""The commands on arrays, one after the other."""

import csv
import json

import numpy as np
import pytest

TINY = (
    "--config=configs/arrays.py:way=3,method=maml,epochs=1",
    "--config.training.updates=4",
    "--config.evaluation.validation_tasks=4",
    "--config.evaluation.test_tasks=4",
)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Rows of 20 classes."""
    generator, labels = np.random.default_rng(0), np.repeat(np.arange(20), 8)
    file = tmp_path_factory.mktemp("table") / "table.npz"
    np.savez(file, inputs=5 * generator.normal(size=(20, 6))[labels] + generator.normal(size=(160, 6)), labels=labels)
    return file


@pytest.fixture(scope="module")
def run(command, table):
    done = command("train", *TINY, f"--config.data.path={table}", f"--workdir={table.parent / 'run'}")
    assert done.returncode == 0, done.stderr
    return table.parent / "run", done


@pytest.mark.slow
def test_train_evaluate_export_adapt(command, table, run, tmp_path):
    workdir, done = run
    told = "one pool of 20 classes, divided by data.split_seed=0: train 12 classes (96 examples), validation 4"
    assert told in done.stdout and "nearest example" in done.stdout and done.stderr == ""
    done = command("evaluate", f"--workdir={workdir}", f"--output={tmp_path / 'report'}", "--json")
    assert done.returncode == 0 and "confusion matrix and accuracy of each class: " in done.stdout
    found, results = json.loads(done.stdout.splitlines()[-1]), json.loads((workdir / "results.json").read_text())
    assert found == {key: results[key] for key in found}
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"confusion_matrix.csv", "confusion_matrix.png", "class_accuracy.csv"}
    done = command("export", f"--workdir={workdir}", f"--output={tmp_path / 'model'}")
    assert done.returncode == 0, done.stderr
    with np.load(table) as arrays:
        inputs = arrays["inputs"].reshape(20, 8, 6)
    np.savez(tmp_path / "support.npz", ant=inputs[0, :2], bee=inputs[1, :2], cat=inputs[2, :2])
    np.savez(tmp_path / "query.npz", ant=inputs[0, 2:], bee=inputs[1, 2:])
    files = (f"--support={tmp_path / 'support.npz'}", f"--query={tmp_path / 'query.npz'}", "--evaluate")
    done = command("adapt", f"--model={tmp_path / 'model'}", *files, f"--output={tmp_path / 'answers'}")
    assert done.returncode == 0, done.stderr
    assert "learned ant, bee, cat from 6 examples" in done.stdout and "12 examples, mean" in done.stdout
    with open(tmp_path / "answers" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["truth"] for row in rows] == ["ant"] * 6 + ["bee"] * 6 and rows[6]["example"] == "bee[0]"
    trials = ("--trials=3", "--way=3", f"--support={table}")
    done = command("adapt", f"--model={tmp_path / 'model'}", *trials)
    assert "3 trials, 3 classes, 1 support examples a class:" in done.stdout and "nearest example" in done.stdout


@pytest.mark.slow
def test_a_study(command, table, tmp_path):
    done = command("ablate", *TINY, f"--config.data.path={table}", f"--workdir={tmp_path}", "--methods=maml,maml++")
    assert done.returncode == 0, done.stderr
    assert "3-way 1-shot" in (tmp_path / "report.md").read_text()


@pytest.mark.slow
def test_epochs_for_a_time(command, table, tmp_path):
    config = TINY[0].replace("epochs=1", "minutes=0.01")
    arguments = (config, *TINY[1:], f"--config.data.path={table}", f"--workdir={tmp_path / 'run'}")
    done = command("train", *arguments)
    assert done.returncode == 0, done.stderr
    assert "0.01 minutes: " in done.stdout and "the run keeps this number" in done.stdout


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.data.channels=3", "error: data.channels has no use with data.name=arrays: it is for pictures"),
        (
            "--config.augmentation.flip=true",
            "error: augmentation has no use with data.name=arrays, which has no pictures",
        ),
        ("--config.data.normalize=false", "error: unknown config key 'data.normalize'"),
    ],
)
def test_mistakes_show_before_anything_is_read(command, flag, message):
    done = command("train", *TINY, "--config.data.path=none.npz", flag, "--workdir=none")
    assert done.returncode == 1 and done.stderr.startswith(message) and done.stderr.count("\n") == 1
