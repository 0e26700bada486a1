"""The section on the modifications."""

import re

from tf_mamlpp.study.method_names import GROUPS


def test_what_pays_and_over_what_it_is_known(whole, row):
    _, text = whole
    table = text[text.index("## Which modifications pay") :]
    cells = row(table, "learned rates")
    assert re.fullmatch(r"\+\d+\.\d\d ± \d+\.\d\d \(tasks\)", cells[1])
    assert re.fullmatch(r"[+\N{MINUS SIGN}]\d+\.\d\d ± \d+\.\d\d \(tasks\)", cells[2])
    smallest = table[table.index("### The smallest set") :]
    assert "Every other method that was run is worse than MAML++ beyond its interval." in smallest


def test_a_full_ablation_proposes_what_costs(tmp_path, make_study):
    runs = {(m, 0): 0.9 for m in GROUPS["without"]} | {("maml", 0): 0.6}
    runs[("maml++-learned_rates", 0)] = 0.8
    _, text = make_study(tmp_path, runs)
    assert "--methods='maml+learned_rates'" in text
    assert "It rests on 1 seed." in text
