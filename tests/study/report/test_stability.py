"""The section on stability."""


def test_every_run_has_a_verdict_and_every_finding_a_line(whole, row):
    plan, text = whole
    stability = text[text.index("## Stability") : text.index("## Cost")]
    lines = [line for line in stability.splitlines() if line.startswith("| MAML")]
    begun = [r for r in plan.records() if r.rows]
    assert len(lines) == len(begun) == len(plan.runs) - 1
    _, _, verdict, *norms, clipped, _ = row(stability, "MAML + multi-step loss")
    assert (verdict, clipped) == ("diverged", "0.0 %")
    assert [1 < float(norm) < 3 for norm in norms] == [True, True]  # without the last update's, which is no number
    assert "**warning**: MAML + multi-step loss, seed 0: the loss is nan at update 301." in stability
    assert "note: MAML++, seed 0: a learned rate turned negative by update 150" in stability
