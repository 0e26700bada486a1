"""Paired intervals against their closed forms, and the smallest set of modifications."""

from types import SimpleNamespace

import numpy as np
import pytest

from tf_mamlpp.meta.settings import MODIFICATIONS
from tf_mamlpp.study.comparison import compare, simplify, student_95
from tf_mamlpp.study.method_names import GROUPS, name_of


def record(seed, tasks):
    tasks = np.asarray(tasks, float)
    return SimpleNamespace(seed=seed, per_task=None if tasks.size == 0 else {"ensemble": tasks, "single_model": tasks})


@pytest.mark.parametrize(
    ("df", "quantile"), [(1, 12.7062), (2, 4.3027), (4, 2.7764), (5, 2.5706), (7, 2.3646), (10, 2.2281), (30, 2.0423)]
)
def test_student_s_quantiles(df, quantile):
    assert student_95(df) == pytest.approx(quantile, rel=2e-3)


def test_one_seed_gives_an_interval_over_tasks():
    found = compare([record(0, [0.8, 1.0, 0.6])], [record(0, [0.6, 1.0, 0.2])])
    assert (found.value, found.over, found.seeds) == (pytest.approx(0.2), "tasks", 1)
    assert found.half == pytest.approx(1.96 * 0.2 / np.sqrt(3))
    assert (found.low, found.high) == pytest.approx((0.2 - found.half, 0.2 + found.half))


def test_three_seeds_in_common_give_one_over_seeds():
    a = [record(s, np.full(10, v)) for s, v in ((0, 0.8), (1, 0.7), (2, 0.9), (5, 0.1))]
    b = [record(s, np.full(10, v)) for s, v in ((0, 0.7), (1, 0.7), (2, 0.7), (7, 0.9))]
    found = compare(a, b)
    assert (found.value, found.over, found.seeds) == (pytest.approx(0.1), "seeds", 3)
    assert found.half == pytest.approx(4.303 * 0.1 / np.sqrt(3))
    over_tasks = compare(a, b, over_tasks=True)
    assert (over_tasks.value, over_tasks.half) == (pytest.approx(0.1), pytest.approx(0))


def test_nothing_in_common_is_no_difference():
    assert compare([record(0, [0.5, 0.6])], [record(1, [0.5, 0.6])]) is None
    assert compare([record(0, [0.5, 0.6])], [record(0, [])]) is None
    assert compare([record(0, [0.5, 0.6])], [record(0, [0.5, 0.6, 0.7])]) is None
    assert compare([], []) is None


def groups(**accuracies):
    """Methods with one seed each, all tasks at their accuracy but for noise that pairs leave."""
    noise = np.random.default_rng(0).normal(0, 0.02, (20, 400))
    return {name: [record(0, a + noise[i])] for i, (name, a) in enumerate(accuracies.items())}


def without(m):
    return name_of(frozenset(MODIFICATIONS) - {m})


def test_the_smallest_set_that_is_not_worse():
    one, two = "maml+learned_rates", "maml+multi_step_loss+learned_rates"
    found = simplify(groups(**{"maml": 0.7, one: 0.85, two: 0.9, without("cosine_annealing"): 0.92, "maml++": 0.9}))
    assert found.smallest == two
    assert set(found.against) == {"maml", one, two, without("cosine_annealing")}
    assert found.against["maml"].high < 0
    assert found.untested is None  # not all removals were run


def test_a_loss_that_the_tasks_show_counts_though_three_seeds_leave_it_open():
    generator = np.random.default_rng(0)
    full = [record(s, np.full(200, 0.9)) for s in range(3)]
    weak = [record(s, v + generator.normal(0, 0.02, 200)) for s, v in enumerate((0.8, 0.88, 0.84))]
    assert compare(weak, full).high > 0
    assert compare(weak, full, over_tasks=True).high < 0
    assert simplify({"maml": weak, "maml++": full}).smallest is None


def test_everything_worse_leaves_the_full_method():
    assert simplify(groups(**{"maml": 0.7, "maml++": 0.9})).smallest is None
    assert simplify(groups(**{"maml": 0.7})).against == {}


def test_errors_are_better_when_smaller():
    found = simplify(groups(**{"maml": 0.7, "maml+learned_rates": 0.2, "maml++": 0.5}), minimise=True)
    assert found.smallest == "maml+learned_rates"


def test_what_costs_when_it_is_removed_is_proposed():
    costly = {"multi_step_loss", "per_step_statistics"}
    rows = {without(m): 0.8 if m in costly else 0.9 for m in MODIFICATIONS}
    assert set(rows) == set(GROUPS["without"]) - {"maml++"}
    found = simplify(groups(**rows, **{"maml++": 0.9}))
    assert found.untested == "maml+multi_step_loss+per_step_statistics"
    assert simplify(groups(**rows, **{"maml++": 0.9, found.untested: 0.9})).untested is None
