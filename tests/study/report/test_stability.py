"""The section on stability."""


def test_every_run_has_a_verdict_and_every_finding_a_line(whole, row):
    plan, text = whole
    stability = text[text.index("## Stability") : text.index("## Cost")]
    lines = [line for line in stability.splitlines() if line.startswith("| MAML")]
    begun = [r for r in plan.records() if r.rows]
    assert len(lines) == len(begun) == len(plan.runs) - 1
    assert row(stability, "MAML + multi-step loss")[2] == "diverged"
    assert "**warning**: MAML + multi-step loss, seed 0: the loss is nan at update 301." in stability
    assert "note: MAML++, seed 0: a learned rate turned negative by update 150" in stability
