"""Runs that are unstable, slow, stuck or settled, as synthetic series."""

import math

import numpy as np
import pytest

from tf_mamlpp.records import run_files
from tf_mamlpp.records.diagnosis import diagnose


def rows_of(accuracies, updates=100, **more):
    """Epochs of `updates` updates with these validation accuracies of a five-way task."""
    return [
        {"update": (i + 1) * updates, "val_accuracy": a, "val_step_0": 0.2, "val_step_1": a, "val_step_2": a, **more}
        for i, a in enumerate(accuracies)
    ]


def series(**columns):
    count = len(next(iter(columns.values())))
    empty = {name: np.zeros(count) for name in run_files.UPDATE_LOGS}
    return {"update": np.arange(1.0, count + 1), **empty, **{k: np.asarray(v, float) for k, v in columns.items()}}


def kinds(diagnosis):
    return [f.kind for f in diagnosis.findings]


RISING = [0.9 - 0.6 * math.exp(-i / 3) for i in range(12)]


SETTLED = [0.5, 0.7, 0.8, 0.85, 0.86, 0.85, 0.86, 0.85, 0.86, 0.85, 0.86, 0.85]


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [
        (RISING, "still improving"),
        (SETTLED, "settled"),
        ([0.2, 0.21, 0.19, 0.2, 0.22, 0.2, 0.2, 0.19], "not learning"),
        ([], "no epoch yet"),
    ],
)
def test_runs_without_findings(accuracies, verdict):
    found = diagnose(rows_of(accuracies), series(update_loss=np.ones(300), gradient_norm=np.ones(300)))
    assert (found.verdict, found.findings) == (verdict, ())


def test_errors_are_better_when_smaller():
    def rows(values):
        return [
            {"update": i, "val_mean_squared_error": v, "val_step_0": 4.0, "val_step_1": v}
            for i, v in enumerate(values, 1)
        ]

    for values, verdict in (
        ([3, 2, 1, 0.5, 0.5, 0.51, 0.5, 0.51], "settled"),
        ([3.99, 3.98, 3.99, 3.99, 3.98, 3.99], "not learning"),
        ([3, 1, 0.5, 3.5, 3.5, 3.4], "unstable"),
    ):
        assert diagnose(rows(values), metric="mean_squared_error").verdict == verdict


@pytest.mark.parametrize("accuracies", [[1.0], [1.0, 0.95, 0.9], [0.95, 0.96, 0.85, 0.84], [0.0]], ids=str)
def test_a_learner_without_inner_steps_has_no_chance_to_be_measured_by(accuracies):
    """Its one value, `step_0`, is the accuracy itself."""
    rows = [{"update": i, "val_accuracy": a, "val_step_0": a} for i, a in enumerate(accuracies, 1)]
    assert diagnose(rows) == diagnose([{"update": row["update"], "val_accuracy": row["val_accuracy"]} for row in rows])
    assert diagnose(rows).verdict == "settled" and not diagnose(rows).findings


def test_all_right_before_the_first_inner_step():
    rows = [{"update": 1, "val_accuracy": 1.0, "val_step_0": 1.0, "val_step_1": 1.0}]
    assert diagnose(rows).verdict == "settled"
    rows = [{"update": 1, "val_mean_squared_error": 0.0, "val_step_0": 0.0, "val_step_1": 0.0}]
    assert diagnose(rows, metric="mean_squared_error").verdict == "settled"


def test_a_collapse_names_its_update_and_whether_it_came_back():
    for after, told in (([0.3, 0.3], "it has not come back"), ([0.4, 0.79], "it was back by update 500")):
        found = diagnose(rows_of([0.5, 0.8, 0.25, *after]))
        assert found.verdict == "unstable"
        (finding,) = found.findings
        assert (finding.kind, finding.update) == ("collapse", 300)
        assert "from 0.800 to 0.250 by update 300" in finding.text
        assert told in finding.text


def test_noise_at_chance_is_no_collapse():
    assert kinds(diagnose(rows_of([0.22, 0.19, 0.21, 0.18]))) == []


def test_two_collapses_are_two():
    assert kinds(diagnose(rows_of([0.8, 0.3, 0.8, 0.8, 0.25, 0.3]))) == ["collapse", "collapse"]


def test_a_spike_of_the_gradient_names_what_changed_before_it():
    norms = np.ones(400)
    norms[203] = 80.0
    plain = diagnose(rows_of(SETTLED[:4]), series(gradient_norm=norms))
    assert plain.verdict == "unstable"
    assert (plain.findings[0].kind, plain.findings[0].update) == ("gradient spike", 204)
    assert "from about 1 to 80 at update 204" in plain.findings[0].text
    assert "learning_rate" in plain.findings[0].text

    rows = rows_of(SETTLED[:4])
    for row in rows:
        row["second_order"] = row["update"] > 200
    assert "second-order gradients began at update 201" in diagnose(rows, series(gradient_norm=norms)).findings[0].text
    for row in rows:
        row["second_order"] = True
    assert "gradient_clip" in diagnose(rows, series(gradient_norm=norms)).findings[0].text
    for row in rows:
        row["loss_weights"] = [0.5, 0.5] if row["update"] <= 200 else [0.0, 1.0]
    assert "multi-step loss ended at update 200" in diagnose(rows, series(gradient_norm=norms)).findings[0].text


def test_a_spike_that_was_clipped_is_a_note():
    norms, clipped = np.ones(400), np.zeros(400)
    norms[203], clipped[203] = 80.0, 0.01
    found = diagnose(rows_of(SETTLED), series(gradient_norm=norms, clipped=clipped))
    assert (kinds(found), found.verdict) == (["gradient spike"], "settled")
    assert found.findings[0].text.endswith("at update 204; the clip held it")


def test_a_rate_that_grew_is_named():
    norms = np.ones(400)
    norms[250] = 80.0
    rows = rows_of(SETTLED[:4])
    for row, rate in zip(rows, (0.1, 0.2, 0.9, 0.9), strict=True):
        row["inner_rates"] = {"conv0/kernel": [0.1, rate]}
    text = diagnose(rows, series(gradient_norm=norms)).findings[0].text
    assert "conv0/kernel at inner step 2 has grown to 0.90" in text


def test_a_loss_that_leaps_makes_it_unstable():
    losses = np.r_[np.full(60, 1.5), np.full(340, 0.2)]
    losses[300] = 6.0
    found = diagnose(rows_of(SETTLED[:4]), series(update_loss=losses))
    assert kinds(found) == ["loss spike"]
    assert found.findings[0].update == 301
    assert found.verdict == "unstable"


def test_notes_leave_the_verdict():
    clipped = np.zeros(200)
    clipped[100:] = 0.03
    rows = rows_of(SETTLED)
    for i, row in enumerate(rows):
        row["inner_rates"] = {"a": [0.1, 0.1 - 0.03 * i], "b": [0.1, 0.2]}
        row["val_step_1"] = row["val_accuracy"] + 0.08
    found = diagnose(rows, series(clipped=clipped))
    assert found.verdict == "settled"
    assert sorted(kinds(found)) == ["clipping", "negative rates", "overshoot"]
    told = {f.kind: f for f in found.findings}
    assert told["clipping"].update == 101
    assert "50 % of the updates were clipped (3.0 % of their entries)" in told["clipping"].text
    assert told["negative rates"].update == 500
    assert "update 500 (a at inner step 2)" in told["negative rates"].text
    assert "1 of 4 are negative after update 1200" in told["negative rates"].text
    assert "inner step 1 is the best and the 1 after it lose 0.080" in told["overshoot"].text


def test_a_failure_is_a_divergence():
    found = diagnose(rows_of(SETTLED[:2]), series(update_loss=np.ones(230)), failure="the loss is nan at update 231")
    assert found.verdict == "diverged"
    assert found.findings[-1].text == "the loss is nan at update 231"


@pytest.mark.parametrize("key", ["val_accuracy", "inner_rates", "val_step_0", "val_step_2"])
def test_rows_whose_keys_were_damaged_are_passed_over(key):
    rows = [
        {"update": 10 * e, "val_accuracy": 0.2 + 0.05 * e, "inner_rates": {"w": [-0.1]}}
        | {f"val_step_{k}": 0.2 + 0.01 * e * (k % 2) for k in range(3)}
        for e in range(1, 7)
    ]
    expected = diagnose(rows)
    assert {f.kind for f in expected.findings} == {"overshoot", "negative rates"}

    def damaged(row, number):
        return {f"{k}{number}" if k == key else k: v for k, v in row.items()}

    assert diagnose([damaged(rows[0], 1), *rows, damaged(rows[-1], 2), damaged(rows[-1], 3)]) == expected
    for few in ([damaged(rows[0], 1)], [rows[0], damaged(rows[1], 1)], [damaged(rows[0], 1), rows[1]]):
        diagnose(few)
