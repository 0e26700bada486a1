from dataclasses import replace

import pytest

from tf_mamlpp.benchmark import measure
from tf_mamlpp.benchmark.cases import Case
from tf_mamlpp.benchmark.contestants import update_timer
from tf_mamlpp.benchmark.flops import count_gflop

TINY = Case(way=2, tasks=1, image_shape=(4, 4, 1), backbone="mlp", inner_steps=2)


@pytest.mark.slow
def test_a_case_is_timed_with_its_input(monkeypatch):
    monkeypatch.setattr(measure, "matmul_gflops", lambda: 100.0)
    found = measure.run_case(TINY, updates=4)
    assert found["input_share"] == pytest.approx(found["input_milliseconds"] / found["milliseconds"])
    assert 0 < found["input_milliseconds"] < 1000
    assert found["fastest_milliseconds"] <= found["milliseconds"] < 1e3 * found["first_step_seconds"]
    assert found["share_of_matmul_peak"] == pytest.approx(found["gflops_per_second"] / 100)
    assert found["peak_memory_mb"] - found["memory_above_import_mb"] > 100


def test_a_case_is_what_the_learner_does():
    case = Case(way=3, image_shape=(16, 16, 1), filters=2, inner_steps=4, inner_rate=0.2, first_order=True)
    learner = measure.build_learner(case)
    assert (learner.way, learner.inner_steps, learner.phase.second_order, learner.phase.all_steps) == (
        3,
        4,
        False,
        True,
    )
    assert learner.inner_rates.table.numpy() == pytest.approx(0.2)
    assert learner.model.trainable_variables[0].shape == (3, 3, 1, 2)


@pytest.mark.slow
def test_a_rematerialised_case_counts_the_work_without(monkeypatch):
    monkeypatch.setattr(measure, "matmul_gflops", lambda: 100.0)
    again = replace(TINY, rematerialise=True)
    assert measure.build_learner(again).settings.rematerialise
    plain = measure.UpdateTimer(TINY)
    assert measure.run_case(again, updates=1)["gflop"] == count_gflop(plain.learner, plain.batch) > 0


@pytest.mark.slow
def test_ours_does_as_many_updates_as_asked():
    run = update_timer("ours", TINY)
    for count in (1, 2):
        milliseconds, memory = run(count)
        assert len(milliseconds) == count and min(milliseconds) > 0 and memory >= 0
