"""Results as text."""

import pytest

from tf_mamlpp.text import duration, percent, results_table

RESULTS = {
    "dataset": "glyphs",
    "split": "test",
    "way": 5,
    "shot": 1,
    "tasks": 600,
    "inner_steps": 2,
    "method": "maml++",
    "query_statistics": "batch",
    "ensemble": 3,
    "accuracy": 0.97312,
    "confidence_95": 0.0042,
    "accuracy_per_inner_step": [0.2, 0.9, 0.97312],
    "seed": 7,
    "train_steps": 1200,
    "train_seconds": 90.0,
}


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [(0.97312, None, "97.31 %"), (1.0, 0.0042, "100.00 ± 0.42 %"), (0.0, 0.0, "0.00 ± 0.00 %")],
)
def test_percent(value, half, text):
    assert percent(value, half) == text


def test_the_table_says_everything_that_a_result_needs():
    table = results_table(RESULTS)
    for part in (
        "glyphs test, 5-way 1-shot, 600 tasks",
        "maml++, query statistics 'batch'",
        "1200 updates in 1.5 min, seed 7",
        "97.31 ± 0.42 %  (ensemble of the best 3 epochs; 95 % interval over tasks)",
        "after 0-2 steps",
        "20.00  90.00  97.31",
    ):
        assert part in table
    lines = table.splitlines()
    assert lines[0] == lines[-1] == "-" * max(map(len, lines))


def test_another_source_and_options_of_the_test_are_named():
    elsewhere = {"dataset": "image_folder", "dataset_path": "sets/pets", "split": "all", "trained_on": "glyphs"}
    chosen = {"dataset": "glyphs", "split": "validation", "tasks": 60, "accuracy_per_inner_step": [0.2] * 7}
    table = results_table({**RESULTS, **elsewhere, "support_augmentations": 4, "inner_steps_chosen": chosen})
    for part in (
        "image_folder sets/pets all classes, 5-way 1-shot, 600 tasks",
        "query statistics 'batch', 4 copies of each support picture",
        "1200 updates on glyphs in 1.5 min",
        "2  (the best of 0 to 6 on 60 validation tasks of glyphs)",
    ):
        assert part in table


def test_pretraining_has_a_row():
    assert "pretraining" not in results_table(RESULTS)
    alone = {"accuracy": 0.441, "confidence_95": 0.008, "epoch": 12, "train_seconds": 1200.0}
    row = "pretraining      44.10 ± 0.80 %  (its features alone by nearest class mean, 12 epochs in 20 min)"
    assert row in results_table({**RESULTS, "pretraining": alone}).splitlines()


def test_single_model_and_baseline_have_rows_of_their_own():
    assert "alone" not in results_table(RESULTS)
    table = results_table(
        {
            **RESULTS,
            "ensemble": 1,
            "single_model": {"accuracy": 0.9, "confidence_95": 0.01},
            "nearest_pixel": {"accuracy": 0.5, "confidence_95": 0.02},
            "nearest_class_mean": {"accuracy": 0.6, "confidence_95": 0.03},
            "label_permutations": 5,
        }
    )
    assert "(best epoch; 95 % interval" in table
    assert "90.00 ± 1.00 %  (best epoch alone)" in table
    assert "50.00 ± 2.00 %  (1-NN on raw pixels)" in table
    assert "60.00 ± 3.00 %  (class means of raw pixels)" in table
    assert "query statistics 'batch', 5 label permutations averaged" in table


def test_a_method_without_inner_steps_has_no_curve():
    table = results_table({**RESULTS, "inner_steps": 0, "accuracy_per_inner_step": [0.97312]})
    assert "after 0" not in table and "97.31" in table


def test_regression_has_an_error_and_no_way():
    results = {k: v for k, v in RESULTS.items() if not k.startswith("accuracy")}
    results |= {
        "mean_squared_error": 1.25,
        "mean_squared_error_per_inner_step": [4.0, 1.5, 1.25],
        "dataset": "sinusoid",
    }
    table = results_table({**results, "shot": 10})
    assert "sinusoid test, 10-shot, 600 tasks" in table
    assert "1.2500 ± 0.0042" in table
    assert "4.0000  1.5000  1.2500" in table
    assert "way" not in table


@pytest.mark.parametrize(("seconds", "text"), [(7.4, "7 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_confidence_has_rows_of_its_own():
    assert "calibration" not in results_table(RESULTS)
    known = {"score": "largest_logit", "auroc": {"largest_logit": 0.8512}, "known_kept": 0.948, "unknown_found": 0.42}
    error = {"before": 0.123, "after": 0.031}
    confidence = {"temperature": 2.3071, "expected_calibration_error": error, "known": known}
    table = results_table({**RESULTS, "confidence": confidence})
    assert "calibration error  12.30 %, calibrated 3.10 %  (temperature 2.31, best epoch alone)" in table
    told = "AUROC 0.851, keeps 94.80 % of known ones, finds 42.00 % of unknown ones  (largest logit)"
    assert f"known at all       {told}" in table
    assert "known at all" not in results_table({**RESULTS, "confidence": {**confidence, "known": None}})
