"""The section on accuracy."""

from tf_mamlpp.study.method_names import GROUPS


def test_means_and_deviations_over_seeds(whole, row):
    _, text = whole
    cells = row(text, "MAML++")
    assert cells[1:5] == ["3", "90.50 ± 0.50", "89.50 ± 0.50", "± 1.55"]
    assert row(text, "MAML")[1:3] == ["3", "71.00 ± 1.00"]
    learned_rates = 90 - GROUPS["all"].index("maml+learned_rates")
    assert row(text, "MAML + learned rates")[1:3] == ["1", f"{learned_rates:.2f}"]
    assert row(text, "MAML + multi-step loss")[1:3] == ["0, 1 diverged", "–"]
    assert row(text, "MAML + cosine annealing")[1] == "1, 1 waiting"
    assert "ensemble of 3 (%)" in text


def test_the_paper_s_row_is_beside_it_and_says_what_is_recalled(whole, row):
    _, text = whole
    assert "paper, Omniglot 20-way 1-shot" in text
    assert row(text, "MAML++")[-1] == "97.65 ± 0.05†"
    assert row(text, "MAML + per-step statistics + per-step weights")[-1] == "95.35 ± 0.23†"
    assert row(text, "MAML++ without learned rates")[-1] == "–"
    assert "† is quoted from memory and not confirmed" in text
