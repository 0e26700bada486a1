import pytest

from tf_mamlpp.benchmark import report
from tf_mamlpp.benchmark.races import RaceResult

MEASURED = {
    "milliseconds": 200.0,
    "fastest_milliseconds": 190.0,
    "tasks_per_second": 40.0,
    "first_step_seconds": 8.0,
    "gflop": 46.0,
    "share_of_matmul_peak": 0.5,
    "peak_memory_mb": 900.0,
    "memory_above_import_mb": 400.0,
    "input_share": 0.01,
}


def test_a_row_fits_its_header():
    row = report.case_row("small", MEASURED)
    assert len(row) == len(report.case_header())
    assert row.split() == ["small", "200", "190", "40.0", "8.0", "46.0", "50.0%", "900", "400", "1.0%"]


def test_exponents_of_powers_are_exact():
    assert report.exponent([1, 2, 4, 8], [3 * n**1.7 for n in (1, 2, 4, 8)]) == pytest.approx(1.7)
    points = [("way", n, 5.0 * n**2, 7.0) for n in (5, 10, 20)] + [("shot", n, 1.0 * n, n**0.5) for n in (1, 4)]
    lines, found = report.growth_table(points)
    assert {f: (v["time_exponent"], v["memory_exponent"]) for f, v in found.items()} == {
        "way": (pytest.approx(2), pytest.approx(0, abs=1e-9)),
        "shot": (pytest.approx(1), pytest.approx(0.5)),
    }
    assert found["way"]["values"] == (5, 10, 20)
    assert lines[2].split() == ["shot", "1", "4", "1", "4", "1", "2", "1.00", "0.50"]


def test_peers_are_multiples_of_ours():
    timed = {"ours": RaceResult(200, 150, 400, "2 tasks"), "higher": RaceResult(500, 450, 200, "2 threads")}
    _, ours, higher = report.race_table("small", timed)
    assert ours.split() == ["ours", "200", "1.00", "150", "1.00", "400", "1.00", "2", "tasks"]
    assert higher.split() == ["higher", "500", "2.50", "450", "3.00", "200", "0.50", "2", "threads"]
