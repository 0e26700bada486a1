"""How far a plan is, and how long the rest takes."""

import json

import pytest

from tf_mamlpp.records.run_record import RunRecord
from tf_mamlpp.study.progress import progress_line, seconds_left


def write_record(folder, method="maml", seed=0, done=0, seconds=None, **files):
    folder.mkdir(parents=True)
    (folder / "updates.csv").write_text("update\n" + "".join(f"{i},1,1,1\n" for i in range(1, done + 1)))
    if seconds:
        row = {"update": done, "seconds": seconds, "val_accuracy": 0.91234, "val_loss": 1.0}
        (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    for name, tree in files.items():
        (folder / f"{name}.json").write_text(json.dumps(tree))
    return RunRecord(method, seed, folder, 100)


def test_time_left_is_by_method_where_it_is_known(tmp_path):
    records = [
        write_record(tmp_path / "a", done=100, seconds=200.0, results={}),
        write_record(tmp_path / "b", "maml", 1, done=50, seconds=50.0),  # 1 s an update: 50 s
        write_record(tmp_path / "c", "maml", 2),  # mean of its method: 1.5 s, 150 s
        write_record(tmp_path / "d", "maml++", 0),  # mean of all: 150 s
        write_record(tmp_path / "e", "maml++", 1, failure={"error": "", "diverged": True}),
    ]
    (tmp_path / "a" / "results.json").write_text('{"accuracy": 1}')
    assert seconds_left(records, 1) == pytest.approx(350)
    assert seconds_left(records, 2) == pytest.approx(175)
    assert seconds_left(records, 100) == pytest.approx(150)  # the longest
    assert seconds_left(records[3:], 1) is None
    line = progress_line(records, {("maml", 1)}, 1)
    assert line == (
        "2/5 runs done, 30 %, 1 without result, about 6 min left; maml seed 1: update 50/100, accuracy 0.912"
    )
