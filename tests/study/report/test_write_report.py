"""The report of a study, from folders as runs leave them."""

import json
import re

import numpy as np
import pytest

from tf_mamlpp.config import Config, Data, Training
from tf_mamlpp.study.method_names import GROUPS, modifications_of
from tf_mamlpp.study.plan import open_plan
from tf_mamlpp.study.report import published_results
from tf_mamlpp.study.report.behaviour import _levels
from tf_mamlpp.study.report.formatting import number, over_seeds
from tf_mamlpp.study.report.write_report import write_report

METRICS = {"glyphs": "accuracy", "sinusoid": "mean_squared_error"}


def write_run(folder, method, seed, value, metric="accuracy", epochs=6, tasks=40, diverged=False):
    """A run that ends at the test metric `value`."""
    folder.mkdir(parents=True)
    chosen, generator = modifications_of(method), np.random.default_rng(seed)
    start = 0.3 if metric == "accuracy" else 4.0
    with open(folder / "metrics.jsonl", "w") as file:
        for epoch in range(1, epochs + 1):
            now = start + (value - start) * epoch / epochs
            rates = [0.1, 0.1 - 0.04 * epoch] if "learned_rates" in chosen else [0.1, 0.1]
            drift = {"norm0/gamma": [0.0, 0.01 * epoch]} if "per_step_weights" in chosen else {}
            row = {
                "update": 50 * epoch,
                "seconds": 20.0 * epoch,
                "seconds_per_update": 0.25,
                "learning_rate": 1e-3,
                "second_order": "derivative_order_annealing" not in chosen or epoch > 3,
                "loss_weights": [0.5, 0.5] if "multi_step_loss" in chosen and epoch < 3 else [0.0, 1.0],
                "inner_rates": {"conv0/kernel": rates},
                "batch_norm_drift": drift,
                "val_loss": 1.0,
                f"val_{metric}": now,
                "val_step_0": 0.2 if metric == "accuracy" else 4.0,
                "val_step_1": now,
                "val_step_2": now,
            }
            file.write(json.dumps(row) + "\n")
    lines = [f"{i},{generator.uniform(0.5, 2):.6g},{generator.uniform(1, 3):.6g},0" for i in range(1, 50 * epochs + 1)]
    (folder / "updates.csv").write_text("\n".join(["update,update_loss,gradient_norm,clipped", *lines, ""]))
    (folder / "process.json").write_text(
        json.dumps({"peak_memory_mb": 700.0 + seed, "cores": 2, "device": "x86_64", "tensorflow": "2.21.0"})
    )
    if diverged:
        (folder / "failure.json").write_text(json.dumps({"error": "the loss is nan at update 301", "diverged": True}))
        return
    noise = generator.normal(0, 0.05, tasks)
    ensemble = value + noise - noise.mean()
    table = [f"{i},{a},{a - 0.01}" for i, a in enumerate(ensemble)]
    (folder / "test_tasks.csv").write_text("\n".join(["task,ensemble,single_model", *table, ""]))
    curve = [row_value for row_value in (0.2, value - 0.05, value)]
    results = {
        metric: value,
        "confidence_95": 0.0155,
        f"{metric}_per_inner_step": curve,
        "ensemble": 3,
        "train_steps": 300,
        "single_model": {metric: value - 0.01},
    }
    (folder / "results.json").write_text(json.dumps(results))


def make_study(tmp_path, runs, data="glyphs", **settings):
    """A plan with these runs, {(method, seed): test metric or None for one that diverged}, and its report's text."""
    base = Config(data=Data(name=data), training=Training(epochs=6, updates=50), **settings)
    plan = open_plan(tmp_path / "study", base, list(dict.fromkeys(m for m, _ in runs)), [])
    plan.workdir.mkdir()
    object.__setattr__(plan, "runs", tuple(runs))
    for (method, seed), value in runs.items():
        if value != "waiting":
            folder = plan.folder(method, seed)
            write_run(folder, method, seed, value or 0.5, METRICS[data], diverged=value is None)
    return plan, write_report(plan).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Three seeds of both ends, one of every other row, one diverged, one not begun."""
    values = {m: 0.9 - 0.01 * i for i, m in enumerate(GROUPS["all"])}
    runs = {(m, s): 0.70 + 0.01 * s for m in ("maml",) for s in (0, 1, 2)}
    runs |= {("maml++", s): 0.90 + 0.005 * s for s in (0, 1, 2)}
    runs |= {(m, 0): v for m, v in values.items() if m not in ("maml", "maml++")}
    runs[("maml+multi_step_loss", 0)] = None
    runs[("maml+cosine_annealing", 1)] = "waiting"
    return make_study(tmp_path_factory.mktemp("report"), runs)


def row(text, name):
    """The first table row of a method, as cells."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_means_and_deviations_over_seeds(whole):
    _, text = whole
    cells = row(text, "MAML++")
    assert cells[1:5] == ["3", "90.50 ± 0.50", "89.50 ± 0.50", "± 1.55"]
    assert row(text, "MAML")[1:3] == ["3", "71.00 ± 1.00"]
    assert row(text, "MAML + learned rates")[1:3] == ["1", f"{90 - GROUPS['all'].index('maml+learned_rates'):.2f}"]
    assert row(text, "MAML + multi-step loss")[1:3] == ["0, 1 diverged", "–"]
    assert row(text, "MAML + cosine annealing")[1] == "1, 1 waiting"
    assert "ensemble of 3 (%)" in text


def test_the_paper_s_row_is_beside_it_and_says_what_is_recalled(whole):
    _, text = whole
    assert "paper, Omniglot 20-way 1-shot" in text
    assert row(text, "MAML++")[-1] == "97.65 ± 0.05†"
    assert row(text, "MAML + per-step statistics + per-step weights")[-1] == "95.35 ± 0.23†"
    assert row(text, "MAML++ without learned rates")[-1] == "–"
    assert "† is quoted from memory and not confirmed" in text


def test_what_pays_and_over_what_it_is_known(whole):
    _, text = whole
    table = text[text.index("## Which modifications pay") :]
    cells = row(table, "learned rates")
    assert re.fullmatch(r"\+\d+\.\d\d ± \d+\.\d\d \(tasks\)", cells[1])
    assert re.fullmatch(r"[+\N{MINUS SIGN}]\d+\.\d\d ± \d+\.\d\d \(tasks\)", cells[2])
    smallest = table[table.index("### The smallest set") :]
    assert "no proof that they are equal" in smallest or "worse than MAML++" in smallest


def test_every_run_has_a_verdict_and_every_finding_a_line(whole):
    plan, text = whole
    stability = text[text.index("## Stability") : text.index("## Cost")]
    lines = [line for line in stability.splitlines() if line.startswith("| MAML")]
    begun = [r for r in plan.records() if r.rows]
    assert len(lines) == len(begun) == len(plan.runs) - 1
    assert row(stability, "MAML + multi-step loss")[2] == "diverged"
    assert "**warning**: MAML + multi-step loss, seed 0: the loss is nan at update 301." in stability
    assert "note: MAML++, seed 0: a learned rate turned negative by update 150" in stability


def test_cost(whole):
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
        assert cells[name] in (f"{-(-(level - 30) // 10) * 20 / 60:.1f}", "–")
    assert row(cost, "MAML")[1] == "–"  # no first order


def test_the_files_are_whole(whole):
    plan, text = whole
    figures = re.findall(r"\((figures/\w+\.png)\)", text)
    assert len(figures) == len(set(figures)) == 9
    for name in figures:
        file = plan.workdir / name
        assert file.stat().st_size > 1000 and file.with_suffix(".svg").exists()
    page = (plan.workdir / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/svg+xml;base64,") == len(figures)
    assert 'src="figures' not in page and "http://" not in page
    assert str(plan.workdir) not in text + page


def test_the_same_runs_give_the_same_report(whole):
    plan, text = whole
    files = sorted(f for f in plan.workdir.rglob("*") if f.suffix in (".md", ".html", ".png", ".svg"))
    before = [f.read_bytes() for f in files]
    assert write_report(plan).read_text(encoding="utf-8") == text
    assert [f.read_bytes() for f in files] == before


def test_a_study_that_has_not_begun(tmp_path):
    _, text = make_study(tmp_path, {("maml", 0): "waiting", ("maml++", 0): "waiting"})
    assert "2 runs: 2 unfinished or not begun" in text
    assert "## Stability" not in text


def test_a_regression(tmp_path):
    runs = {("maml", 0): 1.5, ("maml++", 0): 0.5, ("maml+learned_rates", 0): 0.4}
    plan, text = make_study(tmp_path, runs, data="sinusoid")
    assert "# Ablation of MAML++: sinusoid, 1-shot" in text
    assert row(text, "MAML++")[2] == "0.5"
    assert "paper" not in text
    assert "**MAML + learned rates**" in text


def test_a_full_ablation_proposes_what_costs(tmp_path):
    runs = {(m, 0): 0.9 for m in GROUPS["without"]} | {("maml", 0): 0.6}
    runs[("maml++-learned_rates", 0)] = 0.8
    _, text = make_study(tmp_path, runs)
    assert "--methods='maml+learned_rates'" in text
    assert "It rests on 1 seed." in text


@pytest.mark.parametrize(
    ("data", "heads"),
    [
        (("omniglot", 20, 1), ["paper, Omniglot 20-way 1-shot"]),
        (("tfds:omniglot", 5, 1), ["paper, Omniglot 5-way 1-shot", "paper, Omniglot 20-way 1-shot"]),
        (("mini_imagenet", 5, 5), ["paper, mini-ImageNet 5-way 5-shot", "paper, Omniglot 20-way 1-shot"]),
        (("glyphs", 5, 1), ["paper, Omniglot 20-way 1-shot"]),
    ],
)
def test_the_paper_s_columns(data, heads):
    found = published_results.columns(*data)
    assert list(found) == heads
    assert all(modifications_of(m) is not None for column in found.values() for m in column)
    assert found["paper, Omniglot 20-way 1-shot"]["maml"] == "91.27 ± 1.07†"


def test_numbers():
    assert number(0.1234, "accuracy") == "12.34"
    assert number(-0.05, "accuracy", sign=True) == "\N{MINUS SIGN}5.00"
    assert number(0.123456, "mean_squared_error") == "0.1235"
    assert over_seeds([], "accuracy") == "–"
    assert over_seeds([0.5], "accuracy") == "50.00"
    assert over_seeds([0.5, 0.7], "accuracy") == "60.00 ± 14.14"


def test_levels_are_between_the_start_and_the_best(whole):
    plan, _ = whole
    levels = _levels({"all": [r for r in plan.records() if r.rows]})
    assert 1 <= len(levels) <= 3
    assert levels == sorted(levels)
    assert all(0.35 < level <= 0.91 for level in levels)
