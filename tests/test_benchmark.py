import pytest

from tf_mamlpp import benchmark


def test_a_case_is_timed_with_its_input(monkeypatch):
    monkeypatch.setattr(benchmark, "matmul_gflops", lambda: 100.0)
    case = benchmark.Case(way=2, tasks=1, image_shape=(16, 16, 1), filters=2)
    found = benchmark.run_case(case, updates=4)
    assert found["input_share"] == pytest.approx(found["input_milliseconds"] / found["milliseconds"])
    assert 0 < found["input_milliseconds"] < 1000
    assert found["fastest_milliseconds"] <= found["milliseconds"] < 1e3 * found["first_step_seconds"]
    assert found["share_of_matmul_peak"] == pytest.approx(found["gflops_per_second"] / 100)
    assert found["peak_memory_mb"] > found["memory_before_mb"] > 100
