"""The report of a study, from folders as runs leave them."""

import re

import pytest

from tf_mamlpp import plotting
from tf_mamlpp.study.report.write_report import write_report


def test_every_figure_of_the_report_is_written_and_embedded(small):
    plan, text = small
    figures = re.findall(r"\((figures/\w+\.png)\)", text)
    assert len(figures) == len(set(figures)) == 9
    for name in figures:
        file = plan.workdir / name
        assert file.stat().st_size > 1000 and file.with_suffix(".svg").stat().st_size > 1000
    page = (plan.workdir / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/svg+xml;base64,") == len(figures)
    assert 'src="figures' not in page and "http://" not in page
    assert str(plan.workdir) not in text + page


def test_a_large_study_has_the_same_figures(whole, small):
    assert set(re.findall(r"figures/\w+", whole[1])) == set(re.findall(r"figures/\w+", small[1]))
    assert str(whole[0].workdir) not in whole[1]


@pytest.mark.slow
def test_the_same_runs_give_the_same_report(small, whole, monkeypatch):
    plan, text = small
    files = sorted(f for f in plan.workdir.rglob("*") if f.suffix in (".md", ".html", ".png", ".svg"))
    before = [f.read_bytes() for f in files]
    assert write_report(plan).read_text(encoding="utf-8") == text
    assert [f.read_bytes() for f in files] == before
    plan, text = whole  # with a run that diverged and one that waits
    monkeypatch.setattr(plotting, "save", lambda *_: None)  # what was drawn once
    assert write_report(plan).read_text(encoding="utf-8") == text


def test_a_study_that_has_not_begun(tmp_path, make_study):
    _, text = make_study(tmp_path, {("maml", 0): "waiting", ("maml++", 0): "waiting"})
    assert "2 runs: 2 unfinished or not begun" in text
    assert "## Stability" not in text


def test_a_regression(small, row):
    _, text = small
    assert "# Ablation of MAML++: sinusoid, 1-shot" in text
    assert row(text, "MAML++")[2] == "0.5"
    assert "paper" not in text
    assert "**MAML + learned rates**" in text
