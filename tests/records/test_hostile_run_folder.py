"""Damage to a run's metrics.jsonl and updates.csv costs no more than the lines that it hits."""

import json

import numpy as np
import pytest
from hypothesis import strategies as st

from tf_mamlpp.records.diagnosis import diagnose
from tf_mamlpp.records.run_files import UPDATE_LOGS, read_metrics, read_updates
from tf_mamlpp.records.run_record import RunRecord


def lines_of(epochs, updates):
    rows = [
        {"epoch": e, "update": e * updates, "seconds": 1.0 * e, "seconds_per_update": 0.1, "second_order": e > 2}
        | {f"val_{name}": 0.2 + e / 20 for name in ("accuracy", "loss", "step_0", "step_1", "step_2")}
        | {"inner_rates": {"conv/kernel": [0.1, -0.1]}, "loss_weights": [0.5, 0.5]}
        for e in range(1, epochs + 1)
    ]
    table = [f"{i},{1 / i:.6g},{2.5 + i % 7:.6g},0" for i in range(1, epochs * updates + 1)]
    metrics = "".join(json.dumps(row) + "\n" for row in rows)
    return metrics.encode(), "\n".join([",".join(("update", *UPDATE_LOGS)), *table, ""]).encode()


@pytest.mark.slow
def test_damaged_records(fuzz, flips, tmp_path):
    metrics, updates = lines_of(epochs=6, updates=20)
    places = {"metrics.jsonl": metrics, "updates.csv": updates}
    blocks = st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=40))

    def check(name, damages, block, length):
        content = places[name]
        for flip in damages:
            content = flip(content)
        start = block[0] % len(content)
        content = content[:start] + block[1] + content[start + len(block[1]) :]
        for file, whole in places.items():
            (tmp_path / file).write_bytes(whole)
        (tmp_path / name).write_bytes(content[: round(length * len(content))])
        record = RunRecord("maml", 0, tmp_path, 120)
        assert record.done_updates >= 0 and record.state in ("unfinished", "waiting")
        series, rows = read_updates(tmp_path / "updates.csv"), read_metrics(tmp_path / "metrics.jsonl")
        count = len(series["update"])
        assert all(len(column) == count for column in series.values())
        np.testing.assert_array_equal(series["update"], range(1, count + 1))
        diagnose(rows, series)

    fuzz(
        check,
        50,
        name=st.sampled_from(list(places)),
        damages=st.lists(flips, max_size=3),
        block=blocks,
        length=st.sampled_from([1.0, 1.0, 0.7]),
    )


def test_a_damaged_line_costs_no_other(tmp_path):
    metrics, updates = lines_of(epochs=3, updates=4)
    for name, content in (("metrics.jsonl", metrics), ("updates.csv", updates)):
        lines = content.splitlines(keepends=True)
        lines[-3] = b"\0" * (len(lines[-3]) - 1) + b"\n"
        (tmp_path / name).write_bytes(b"".join(lines))
    assert [row["epoch"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [2, 3]
    series = read_updates(tmp_path / "updates.csv")
    np.testing.assert_array_equal(series["update"], range(1, 13))
    assert np.flatnonzero(np.isnan(series["update_loss"])).tolist() == [9]
