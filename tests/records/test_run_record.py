"""A run's folder as a study reads it."""

import json

import numpy as np

from tf_mamlpp.records.run_record import RunRecord, by_method


def write(folder, rows=(), **files):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, tree in files.items():
        (folder / f"{name}.json").write_text(json.dumps(tree))
    return RunRecord("maml", 0, folder, 30)


ROWS = [
    {
        "update": 10,
        "seconds": 5.0,
        "seconds_per_update": 0.2,
        "second_order": False,
        "val_loss": 1,
        "val_accuracy": 0.5,
    },
    {"update": 20, "seconds": 9.0, "seconds_per_update": 0.4, "second_order": True, "val_loss": 1, "val_accuracy": 0.8},
    {
        "update": 30,
        "seconds": 14.0,
        "seconds_per_update": 0.6,
        "second_order": True,
        "val_loss": 1,
        "val_accuracy": 0.7,
    },
]


def test_states(tmp_path):
    assert RunRecord("maml", 0, tmp_path / "none", 30).state == "waiting"
    record = write(tmp_path / "a")
    assert record.state == "waiting"
    (record.folder / "updates.csv").write_text("update,update_loss\n1,2\n")
    assert record.state == "unfinished"
    assert write(tmp_path / "b", failure={"error": "x", "diverged": True}).state == "diverged"
    assert write(tmp_path / "c", failure={"error": "x", "diverged": False}).state == "failed"
    assert write(tmp_path / "d", results={"accuracy": 1.0}).state == "done"


def test_how_far_it_is(tmp_path):
    record = write(tmp_path)
    assert record.done_updates == 0
    (tmp_path / "updates.csv").write_text("update,loss\n" + "".join(f"{i},0.123456,1,0\n" for i in range(1, 400)))
    assert record.done_updates == 399
    with open(tmp_path / "updates.csv", "a") as file:
        file.write("4")  # half of 400 is not update 4
    assert record.done_updates == 399


def test_what_the_epochs_say(tmp_path):
    record = write(tmp_path, ROWS)
    assert record.metric == "accuracy"
    assert record.validation() == ([10, 20, 30], [5.0, 9.0, 14.0], [0.5, 0.8, 0.7])
    assert record.seconds_per_update(second_order=False) == 0.2
    assert record.seconds_per_update(second_order=True) == 0.5
    assert record.seconds_to(0.75) == 9.0
    assert record.seconds_to(0.9) is None
    errors = write(tmp_path / "r", [{"update": 1, "seconds": 3.0, "val_loss": 1, "val_mean_squared_error": 0.4}])
    assert errors.metric == "mean_squared_error"
    assert errors.seconds_to(0.5) == 3.0
    assert errors.seconds_per_update(second_order=True) is None


def test_rows_whose_keys_were_damaged_are_passed_over(tmp_path):
    damaged = [{f"{k}x" if k == key else k: v for k, v in ROWS[0].items()} for key in ("seconds", "val_accuracy")]
    record = write(tmp_path, [damaged[0], *ROWS, damaged[1]])
    assert record.validation() == write(tmp_path / "whole", ROWS).validation()
    alone = write(tmp_path / "alone", damaged[:1])
    assert alone.validation() == ([], [], []) and alone.seconds_per_update(second_order=False) is None


def test_per_task_numbers_need_a_result(tmp_path):
    record = write(tmp_path / "a")
    (record.folder / "test_tasks.csv").write_text("task,ensemble,single_model\n0,0.8,0.6\n1,1,0.4\n")
    assert record.per_task is None
    record = write(tmp_path / "a", results={"accuracy": 0.9})
    np.testing.assert_array_equal(record.per_task["ensemble"], [0.8, 1.0])
    np.testing.assert_array_equal(record.per_task["single_model"], [0.6, 0.4])


def test_groups_keep_the_order(tmp_path):
    records = [RunRecord(m, s, tmp_path, 1) for m, s in (("maml", 0), ("maml++", 0), ("maml", 1))]
    assert {m: [r.seed for r in group] for m, group in by_method(records).items()} == {"maml": [0, 1], "maml++": [0]}
