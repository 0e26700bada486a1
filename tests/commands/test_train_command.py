"""bin/train.py: what a whole run leaves behind, and what happens to a run that is there already."""

import json
import math
import shutil

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

RESULT_KEYS = {
    "dataset": "glyphs",
    "split": "test",
    "way": 5,
    "shot": 1,
    "query_shot": 1,
    "inner_steps": 2,
    "method": "maml++",
    "query_statistics": "batch",
    "ensemble": 2,
    "tasks": 8,
    "seed": 0,
    "train_steps": 12,
}


@pytest.fixture(scope="module")
def events(finished):
    found = event_accumulator.EventAccumulator(str(finished.workdir / "tensorboard"), {"tensors": 0, "images": 0})
    return found.Reload()


def test_the_folder_holds_what_the_contract_names(finished):
    names = {path.name for path in finished.workdir.iterdir()} - {".lock"}
    series = {"metrics.jsonl", "updates.csv", "test_tasks.csv"}
    assert names == {
        "config.json",
        "classes.json",
        "checkpoints",
        "tensorboard",
        "results.json",
        "reliability.png",
        *series,
    }
    config = finished.json("config.json")
    assert config["training"]["updates"] == 6
    assert config["model"]["filters"] == 2
    kept = {path.name for path in (finished.workdir / "checkpoints").glob("*.index")}
    assert kept == {"update-11.index", "update-12.index", "best-6.index", "best-12.index"}


def test_results(finished):
    results = finished.json("results.json")
    assert {key: results[key] for key in RESULT_KEYS} == RESULT_KEYS
    assert 0 <= results["accuracy"] <= 1
    assert results["confidence_95"] >= 0
    assert len(results["accuracy_per_inner_step"]) == 3
    assert results["accuracy_per_inner_step"][-1] == pytest.approx(results["accuracy"])
    assert results["train_seconds"] > 0
    assert set(results["single_model"]) == {"accuracy", "confidence_95", "accuracy_per_inner_step"}
    assert 0.2 < results["nearest_pixel"]["accuracy"] <= 1


def test_metrics_has_a_row_an_epoch(finished):
    rows = finished.metrics()
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [row["update"] for row in rows] == [6, 12]
    assert [row["second_order"] for row in rows] == [False, True]
    assert rows[0]["learning_rate"] > rows[1]["learning_rate"]
    assert rows[0]["loss_weights"] == [0.5, 0.5]
    assert rows[1]["seconds"] > rows[0]["seconds"] > 0
    for row in rows:
        for name in ("loss", "meta_loss", "accuracy", "val_loss", "val_accuracy", "val_step_0", "val_step_2"):
            assert math.isfinite(row[name])
        assert row["val_step_2"] == row["val_accuracy"]
        assert row["inner_rate_minimum"] < 0.1 < row["inner_rate_maximum"]
        rates = [rate for rates in row["inner_rates"].values() for rate in rates]
        assert (min(rates), max(rates)) == pytest.approx(
            (row["inner_rate_minimum"], row["inner_rate_maximum"]), rel=1e-5
        )
        assert {len(steps) for steps in row["batch_norm_drift"].values()} == {2}
        assert all(first == 0 < second for first, second in row["batch_norm_drift"].values())


def test_every_update_has_a_line(finished):
    lines = (finished.workdir / "updates.csv").read_text().splitlines()
    assert lines[0] == "update,update_loss,gradient_norm,clipped"
    values = [[float(cell) for cell in line.split(",")] for line in lines[1:]]
    assert [row[0] for row in values] == list(range(1, 13))
    for epoch, row in enumerate(finished.metrics()):
        losses = [loss for _, loss, _, _ in values[6 * epoch : 6 * epoch + 6]]
        assert sum(losses) / 6 == pytest.approx(row["meta_loss"], rel=1e-4)
    assert all(norm > 0 for _, _, norm, _ in values)
    assert all(clipped == 0 for *_, clipped in values)


def test_the_metric_of_every_test_task_is_kept(finished):
    results = finished.json("results.json")
    lines = (finished.workdir / "test_tasks.csv").read_text().splitlines()
    assert lines[0] == "task,ensemble,single_model"
    table = [[float(cell) for cell in line.split(",")] for line in lines[1:]]
    assert [row[0] for row in table] == list(range(8))
    assert sum(row[1] for row in table) / 8 == pytest.approx(results["accuracy"])
    assert sum(row[2] for row in table) / 8 == pytest.approx(results["single_model"]["accuracy"])


def test_what_is_printed(finished):
    assert "Epoch 1/2" in finished.stdout
    assert " left" in finished.stdout
    assert "val_accuracy" in finished.stdout
    assert "step_0" not in finished.stdout
    table = finished.stdout[finished.stdout.index("-----") :]
    for part in ("glyphs test, 5-way 1-shot, 8 tasks", "maml++", "ensemble of the best 2 epochs", "after 0-2 steps"):
        assert part in table
    assert [line for line in finished.stderr.splitlines() if not line.startswith("decoding ")] == []


def test_tensorboard_scalars(finished, events):
    rows = finished.metrics()
    tags = set(events.Tags()["tensors"])
    for name in ("loss", "meta_loss", "accuracy"):
        assert f"{name}/train" in tags
    for k in range(3):
        points = events.Tensors(f"accuracy_after_inner_step/{k}")
        values = [float(tf.make_ndarray(point.tensor_proto)) for point in points]
        assert values == pytest.approx([row[f"val_step_{k}"] for row in rows])
    assert {f"schedule_loss_weight_of_inner_step/{k}" for k in (1, 2)} <= tags
    assert {"schedule/outer_rate", "schedule/second_order", "speed/updates_per_second", "loss/validation"} <= tags
    for name in ("schedule/outer_rate", "speed/updates_per_second", "meta_loss/train"):
        assert [point.step for point in events.Tensors(name)] == [6, 12]


def test_tensorboard_has_the_learned_rates(finished, events):
    tags = {tag for tag in events.Tags()["tensors"] if tag.startswith("rates/")}
    assert tags == {"rates/smallest", "rates/largest", "rates/inner_step_1", "rates/inner_step_2", "rates/table"}
    for tag, key in (("smallest", "inner_rate_minimum"), ("largest", "inner_rate_maximum")):
        values = [float(tf.make_ndarray(point.tensor_proto)) for point in events.Tensors(f"rates/{tag}")]
        assert values == pytest.approx([row[key] for row in finished.metrics()])
    counts = tf.make_ndarray(events.Tensors("rates/inner_step_1")[-1].tensor_proto)[:, 2]
    assert counts.sum() == 2 * (4 + 1)  # kernel and bias of four convolutions and a dense layer


def test_tensorboard_pictures_of_tasks(events):
    for point in events.Tensors("tasks/support_then_query"):
        width, height, *pictures = point.tensor_proto.string_val
        assert len(pictures) == 4
        assert all(picture.startswith(b"\x89PNG") for picture in pictures)
        assert int(width) > 28
        assert int(height) > 5 * 28


@pytest.mark.slow
def test_a_finished_run_is_not_trained_again(finished, command, train_arguments, tmp_path, snapshot):
    workdir = shutil.copytree(finished.workdir, tmp_path / "run")
    before = snapshot(workdir)
    again = command("train", *train_arguments(workdir))
    assert again.returncode == 0, again.stderr
    assert "Epoch" not in again.stdout
    assert again.stdout[again.stdout.index("-----") :] == finished.stdout[finished.stdout.index("-----") :]
    after = snapshot(workdir)
    assert {name: content for name, (content, _) in after.items()} == {
        name: content for name, (content, _) in before.items()
    }


@pytest.mark.slow
def test_another_config_is_refused(finished, command, train_arguments, snapshot, one_line):
    before = snapshot(finished.workdir)
    line = one_line(command("train", *train_arguments(finished.workdir), "--config.training.tasks=3"))
    assert line.startswith("error: ")
    assert str(finished.workdir) in line
    assert "training.tasks: 4, 3" in line
    assert snapshot(finished.workdir) == before


def test_results_are_json_that_other_languages_read(finished):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    json.loads((finished.workdir / "results.json").read_text(), parse_constant=refuse)
    for line in (finished.workdir / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
