"""Studies in folders as runs leave them, and their reports."""

import json

import numpy as np
import pytest

from tf_mamlpp import plotting
from tf_mamlpp.config import Config, Data, Training
from tf_mamlpp.study.method_names import GROUPS, modifications_of
from tf_mamlpp.study.plan import open_plan
from tf_mamlpp.study.report.write_report import write_report

METRICS = {"glyphs": "accuracy", "sinusoid": "mean_squared_error"}


def _write_run(folder, method, seed, value, metric="accuracy", epochs=6, tasks=40, diverged=False):
    """A run that ends at the test metric `value`."""
    folder.mkdir(parents=True)
    chosen, generator = modifications_of(method), np.random.default_rng(seed)
    start = 0.3 if metric == "accuracy" else 4.0
    with open(folder / "metrics.jsonl", "w") as file:
        for epoch in range(1, epochs + 1):
            value_now = start + (value - start) * epoch / epochs
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
                f"val_{metric}": value_now,
                "val_step_0": 0.2 if metric == "accuracy" else 4.0,
                "val_step_1": value_now,
                "val_step_2": value_now,
            }
            file.write(json.dumps(row) + "\n")
    lines = [f"{i},{generator.uniform(0.5, 2):.6g},{generator.uniform(1, 3):.6g},0" for i in range(1, 50 * epochs + 1)]
    if diverged:
        lines.append(f"{50 * epochs + 1},nan,nan,nan")
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
    results = {
        metric: value,
        "confidence_95": 0.0155,
        f"{metric}_per_inner_step": [0.2, value - 0.05, value],
        "ensemble": 3,
        "train_steps": 300,
        "single_model": {metric: value - 0.01},
    }
    (folder / "results.json").write_text(json.dumps(results))


def _make_study(folder, runs, data="glyphs", draw=False):
    base = Config(data=Data(name=data), training=Training(epochs=6, updates=50))
    plan = open_plan(folder / "study", base, list(dict.fromkeys(m for m, _ in runs)), [])
    plan.workdir.mkdir()
    object.__setattr__(plan, "runs", tuple(runs))
    for (method, seed), value in runs.items():
        if value != "waiting":
            _write_run(plan.folder(method, seed), method, seed, value or 0.5, METRICS[data], diverged=value is None)
    with pytest.MonkeyPatch.context() as patch:
        if not draw:
            patch.setattr(plotting, "save", _save_nothing)
        return plan, write_report(plan).read_text(encoding="utf-8")


def _save_nothing(figure, folder, name):
    """In place of drawing a figure, which takes most of a report's time."""
    folder.mkdir(exist_ok=True)
    for suffix in ("svg", "png"):
        (folder / f"{name}.{suffix}").touch()


@pytest.fixture(scope="session")
def make_study():
    """make_study(folder, {(method, seed): test metric, None for one that diverged, or "waiting"}): the plan and the
    text of its report; figures are drawn with draw=True alone."""
    return _make_study


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """Three seeds of MAML and of MAML++, one of every other method; one run diverged, one has not begun."""
    values = {m: 0.9 - 0.01 * i for i, m in enumerate(GROUPS["all"])}
    runs = {(m, s): 0.70 + 0.01 * s for m in ("maml",) for s in (0, 1, 2)}
    runs |= {("maml++", s): 0.90 + 0.005 * s for s in (0, 1, 2)}
    runs |= {(m, 0): v for m, v in values.items() if m not in ("maml", "maml++")}
    runs[("maml+multi_step_loss", 0)] = None
    runs[("maml+cosine_annealing", 1)] = "waiting"
    return _make_study(tmp_path_factory.mktemp("report"), runs)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A regression with three methods, its figures drawn."""
    runs = {("maml", 0): 1.5, ("maml++", 0): 0.5, ("maml+learned_rates", 0): 0.4}
    return _make_study(tmp_path_factory.mktemp("small"), runs, data="sinusoid", draw=True)


@pytest.fixture(scope="session")
def row():
    """row(text, name): the cells of the first table row of this name."""

    def cells(text, name):
        line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        return [cell.strip() for cell in line.strip("|").split("|")]

    return cells
