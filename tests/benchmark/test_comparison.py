import json
from dataclasses import asdict, replace

import pytest
from hypothesis import strategies as st

from tf_mamlpp.benchmark import comparison
from tf_mamlpp.benchmark.cases import Case
from tf_mamlpp.errors import UserError

MEASURED = {
    "device": "CPU",
    "milliseconds": 200.0,
    "fastest_milliseconds": 190.0,
    "first_step_seconds": 8.0,
    "gflop": 46.0,
    "share_of_matmul_peak": 0.5,
    "peak_memory_mb": 900.0,
    "memory_above_import_mb": 400.0,
    "matmul_gflops_per_second": 220.0,
}
CASE = Case(way=3)


def results(case=CASE, machine=None, **changes):
    entry = {"case": asdict(case), **MEASURED, **changes}
    # As they come back from a file.
    return json.loads(json.dumps({"machine": machine or comparison.machine(), "cases": {"small": entry}}))


def test_reads_what_a_json_run_printed(tmp_path):
    file = tmp_path / "earlier.txt"
    file.write_text("a table\n" + json.dumps(results()) + "\n")
    earlier = comparison.load_results(file)
    comparison.check_comparable(earlier, {"small": CASE})
    assert earlier["cases"]["small"]["milliseconds"] == 200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a table",
        "[]",
        "null",
        '{"growth": 1}',
        '{"machine": 1, "cases": 1}',
        '{"machine": {"cores": 2}, "cases": {}}',
        '{"machine": {"cores": 2}, "cases": [{}]}',
        '{"machine": [1], "cases": {"small": {}}}',
        "[" * 100_000,
        "\udcff",
    ],
)
def test_refuses_a_file_without_cases(tmp_path, text):
    (tmp_path / "earlier").write_text(text, errors="surrogateescape")
    with pytest.raises(UserError, match="has no timed cases.*--json"):
        comparison.load_results(tmp_path / "earlier")


@pytest.mark.parametrize("key", ["case", "device"])
@pytest.mark.parametrize("value", [None, 1, [], {}])
def test_refuses_a_case_that_is_not_described(tmp_path, key, value):
    file, damaged = tmp_path / "earlier", results()
    damaged["cases"]["small"][key] = value
    file.write_text(json.dumps(damaged))
    with pytest.raises(UserError, match="earlier' does not say what case 'small' was: it has to be .*--json"):
        comparison.load_results(file)


@pytest.mark.parametrize("key", comparison._COLUMNS.values())
@pytest.mark.parametrize("value", [None, 0, -1, "1", True, [1], float("nan"), float("inf"), 10**400])
def test_refuses_a_number_that_nothing_can_be_a_multiple_of(tmp_path, key, value):
    file = tmp_path / "earlier"
    file.write_text(json.dumps(results(**{key: value})))
    with pytest.raises(UserError, match=f"has no number above 0 as {key} of case 'small': it has to be .*--json"):
        comparison.load_results(file)


@pytest.mark.slow
def test_what_is_read_can_be_compared(fuzz, tmp_path):
    leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    tree = st.recursive(leaf, lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(), t, max_size=3))
    good = results()["cases"]["small"]
    found = st.fixed_dictionaries({key: st.just(value) | tree for key, value in good.items()}) | tree
    one = st.sampled_from(sorted(good)).flatmap(lambda key: tree.map(lambda value: {**good, key: value}))
    cases = st.dictionaries(st.just("small") | st.text(), st.just(good) | one | found, max_size=2) | tree
    whole = st.fixed_dictionaries({"machine": st.just(comparison.machine()) | tree, "cases": cases}) | tree
    file = tmp_path / "earlier"

    def check(text):
        file.write_text(text, encoding="utf-8", errors="replace")
        try:
            earlier = comparison.load_results(file)
            comparison.check_comparable(earlier, {"small": CASE})
            comparison.comparison_table(earlier, results())
        except UserError as error:
            assert str(error)

    fuzz(check, 300, text=whole.map(json.dumps) | st.text())


def test_refuses_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot read .*No such file"):
        comparison.load_results(tmp_path / "none")


def test_results_from_before_a_field_existed_had_its_default():
    earlier = results()
    del earlier["cases"]["small"]["case"]["rematerialise"]
    comparison.check_comparable(earlier, {"small": CASE})
    with pytest.raises(UserError, match="rematerialise=False, now True"):
        comparison.check_comparable(earlier, {"small": replace(CASE, rematerialise=True)})


def test_refuses_another_machine_or_case():
    other = {**comparison.machine(), "cores": 999}
    with pytest.raises(UserError, match="the machine had cores=999, now"):
        comparison.check_comparable(results(machine=other), {"small": CASE})
    with pytest.raises(UserError, match="case 'small' had way=3, now 4"):
        comparison.check_comparable(results(), {"small": replace(CASE, way=4)})
    with pytest.raises(UserError, match="no case 'large', only small"):
        comparison.check_comparable(results(), {"large": CASE})
    with pytest.raises(UserError, match="case 'small' had device='GPU', now 'CPU'"):
        comparison.comparison_table(results(device="GPU"), results())


def test_compares_case_by_case():
    header, row = comparison.comparison_table(results(), results(milliseconds=100.0, memory_above_import_mb=500.0))
    columns = dict(zip(comparison._COLUMNS, row.split()[1:], strict=True))
    assert header.startswith("now / earlier")
    assert columns == {**dict.fromkeys(columns, "1.00"), "ms": "0.50", "above import": "1.25"}
