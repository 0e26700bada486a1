"""The section on cost."""

from tf_mamlpp.study.report.cost import _levels


def test_cost(whole, row):
    _, text = whole
    cost = text[text.index("## Cost") :]
    header = [cell.strip() for cell in cost.splitlines()[2].strip("|").split("|")]
    cells = dict(zip(header, row(cost, "MAML++"), strict=True))
    assert cells["s/update, first order"] == cells["s/update, second order"] == "0.25"
    assert cells["peak memory (MB)"] == "701"
    levels = [name for name in header if name.startswith("minutes to ")]
    assert levels
    for name in levels:  # from 30 % to 90 % in six epochs of 20 s
        level = float(name.removeprefix("minutes to ").removesuffix(" %"))
        assert cells[name] == f"{-(-(level - 30) // 10) * 20 / 60:.1f}"
    assert row(cost, "MAML")[1] == "–"  # no first order


def test_levels_are_between_the_start_and_the_best(whole):
    plan, _ = whole
    levels = _levels({"all": [r for r in plan.records() if r.rows]})
    assert 1 <= len(levels) <= 3
    assert levels == sorted(levels)
    assert all(0.35 < level <= 0.91 for level in levels)
