"""The figures of a study: what they draw, that no text overlaps, that none needs colours."""

import itertools
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from tf_mamlpp import plotting
from tf_mamlpp.records.run_files import UPDATE_LOGS
from tf_mamlpp.records.run_record import RunRecord, by_method
from tf_mamlpp.study import method_names
from tf_mamlpp.study.comparison import Difference
from tf_mamlpp.study.method_names import GROUPS
from tf_mamlpp.study.report import figures, run_figures
from tf_mamlpp.training import pictures


def row(epoch, accuracy, steps=5):
    rates = {f"conv{i}/kernel": [0.1 - 0.03 * epoch + 0.02 * k for k in range(steps)] for i in range(4)}
    drift = {f"norm{i}/{w}": [0.01 * epoch * k for k in range(steps)] for i in range(4) for w in ("gamma", "beta")}
    return {
        "update": 100 * (epoch + 1),
        "seconds": 40.0 * (epoch + 1),
        "val_accuracy": accuracy,
        "val_step_0": 0.2,
        "val_loss": 1.0,
        "second_order": epoch > 2,
        "learning_rate": 1e-3 / (epoch + 1),
        "loss_weights": [0.0] * (steps - 1) + [1.0] if epoch > 3 else [1 / steps] * steps,
        "inner_rates": rates,
        "batch_norm_drift": drift,
    }


def record(method, seed=0, epochs=6, results=True, **settings):
    """A run whose files need not be there."""
    made = RunRecord(method, seed, Path("nowhere"), 600)
    generator = np.random.default_rng(seed)
    norms = generator.lognormal(0, 0.3, 100 * epochs)
    vars(made).update(
        rows=[row(e, 0.5 + 0.07 * e, **settings) for e in range(epochs)],
        series={"update": np.arange(1, 100 * epochs + 1), **{name: norms for name in UPDATE_LOGS}},
        results={"accuracy": 0.9, "accuracy_per_inner_step": [0.2, 0.6, 0.7, 0.8, 0.85, 0.9]} if results else None,
        failure=None if results else {"error": "the loss is nan", "diverged": True},
    )
    return made


@pytest.fixture(scope="module")
def groups():
    records = [
        record(method, seed) for method in GROUPS["all"] for seed in ((0, 1, 2) if method in GROUPS["core"] else (0,))
    ]
    return by_method([*records, record("maml", 3, results=False)])


@pytest.fixture(scope="module")
def drawn(groups):
    full = groups["maml++"][0]
    against = {
        m: Difference(-0.01 * i, 0.02, "seeds" if i % 2 else "tasks", 3) for i, m in enumerate(GROUPS["all"][:-1])
    }
    return {
        "updates": figures.validation_curves(groups),
        "time": figures.validation_curves(groups, "time"),
        "steps": figures.inner_step_curves(groups),
        "norms": figures.gradient_norms(groups),
        "differences": figures.differences(against),
        "rates": pictures.rates_heatmap(full.rows[-1]["inner_rates"], "rates"),
        "drift": run_figures.drift_curves(full),
        "schedules": run_figures.schedules(full),
    }


@pytest.fixture(scope="module")
def canvases(drawn):
    return {name: draw(figure) for name, figure in drawn.items()}


def draw(figure):
    with matplotlib.rc_context(plotting.STYLE):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return canvas


def texts(canvas):
    """Every visible text of a figure with its box on the canvas."""
    figure, renderer = canvas.figure, canvas.get_renderer()
    ticks = [(t, axis) for a in figure.axes for axis in (a.xaxis, a.yaxis) for t in axis.get_majorticklabels()]
    # Ticks beyond the axes' ends are not drawn.
    beyond = {
        id(label)
        for label, axis in ticks
        if not min(axis.get_view_interval())
        <= label.get_position()[axis.axis_name == "y"]
        <= max(axis.get_view_interval())
    }
    found = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    return [(t.get_text(), t.get_window_extent(renderer)) for t in found if id(t) not in beyond]


NAMES = ("updates", "time", "steps", "norms", "differences", "rates", "drift", "schedules")


@pytest.mark.parametrize("name", NAMES)
def test_no_text_overlaps_another_or_leaves_the_figure(canvases, name):
    boxes = texts(canvases[name])
    width, height = canvases[name].get_width_height()
    assert len(boxes) > 5
    for text, box in boxes:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, text
    for (a, one), (b, two) in itertools.combinations(boxes, 2):
        apart = one.x1 <= two.x0 + 1 or two.x1 <= one.x0 + 1 or one.y1 <= two.y0 + 1 or two.y1 <= one.y0 + 1
        assert apart, (a, b)


@pytest.mark.parametrize("name", NAMES)
def test_axes_are_labelled(drawn, name):
    figure = drawn[name]
    shared = bool(figure.get_supxlabel() and figure.get_supylabel())
    for axes in figure.axes[: 2 if name == "schedules" else 1]:
        assert shared or axes.get_xlabel()
        assert shared or axes.get_ylabel() or name in ("differences", "rates")  # their rows have names


@pytest.mark.parametrize("name", NAMES)
def test_nothing_depends_on_colour(canvases, name):
    pixels = np.asarray(canvases[name].buffer_rgba())[..., :3].astype(int)
    assert (pixels.max(-1) - pixels.min(-1)).max() == 0


def test_a_panel_a_method_and_a_line_a_seed(drawn, groups):
    figure = drawn["updates"]
    assert [a.get_title().replace("\n", " ") for a in figure.axes] == [method_names.title_of(m) for m in groups]
    lines = {a.get_title(): a.lines for a in figure.axes}
    assert len(lines["MAML"]) == 3 + 4 + 1  # MAML++ in grey, its own seeds, the cross of the diverged one
    assert len({str(line.get_linestyle()) for line in lines["MAML"][3:7]}) == 4
    assert len(lines["MAML++"]) == 3
    np.testing.assert_allclose(lines["MAML++"][0].get_xdata(), 100 * np.arange(1, 7))
    np.testing.assert_allclose(lines["MAML++"][0].get_ydata(), 100 * (0.5 + 0.07 * np.arange(6)))
    time = {a.get_title(): a.lines for a in drawn["time"].axes}["MAML++"][0]
    np.testing.assert_allclose(time.get_xdata(), 40 / 60 * np.arange(1, 7))
    assert "min" in drawn["time"].get_supxlabel()


def test_negative_rates_are_hatched_and_have_a_minus(groups):
    table = {"a": [0.1, -0.02], "b": [-0.3, 0.2]}
    axes = pictures.rates_heatmap(table).axes[0]
    assert [p.get_xy() for p in axes.patches if p.get_hatch()] == [(0.5, -0.5), (-0.5, 0.5)]
    assert [t.get_text() for t in axes.texts] == ["0.1", "\N{MINUS SIGN}0.02", "\N{MINUS SIGN}0.3", "0.2"]


def test_a_large_network_s_rates_still_fit():
    figure = pictures.rates_heatmap({f"block{i}/kernel": [0.1, 0.2] for i in range(300)})
    assert figure.get_figheight() < 20
    assert not figure.axes[0].texts
    boxes = texts(draw(figure))
    assert len(boxes) > 30
    for (a, one), (b, two) in itertools.combinations(boxes, 2):
        assert not one.overlaps(two), (a, b)


def test_differences_are_in_points_with_their_intervals():
    figure = figures.differences(
        {"maml": Difference(-0.05, 0.02, "seeds", 3), "maml++-learned_rates": Difference(0.01, 0.03, "tasks", 1)}
    )
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["MAML++ without learned rates", "MAML"]
    (tasks, _, (bars,)), (seeds, *_) = axes.containers
    assert (tasks.get_xdata()[0], seeds.get_xdata()[0]) == pytest.approx((1.0, -5.0))
    assert bars.get_segments()[0][:, 0] == pytest.approx([-2.0, 4.0])
    assert (tasks.get_markerfacecolor(), seeds.get_markerfacecolor()) == ("white", "black")


def test_schedules_hold_from_the_epoch_s_start(drawn):
    left, right = drawn["schedules"].axes
    np.testing.assert_allclose(right.lines[0].get_xdata(), [0, 100, 200, 300, 400, 500, 600])
    np.testing.assert_allclose(right.lines[0].get_ydata()[:2], [1e-3, 5e-4])
    assert left.lines[-1].get_xdata()[0] == 300  # the first epoch of second order is the fourth


def test_updates_without_a_norm_are_passed_over():
    broken = record("maml")
    broken.series["gradient_norm"] = np.r_[np.nan, np.arange(1.0, 80), np.nan]
    (axes,) = figures.gradient_norms({"maml": [broken]}).axes
    np.testing.assert_array_equal(axes.lines[0].get_xdata()[[0, -1]], [3, 80])
    np.testing.assert_array_equal(axes.lines[0].get_ydata()[[0, -1]], [1.5, 79])
    assert np.isfinite(axes.lines[1].get_ydata()).all()


def test_layers_that_lack_gamma_or_beta_have_a_panel_for_the_other():
    one = record("maml++")
    for each in one.rows:
        del each["batch_norm_drift"]["norm0/gamma"], each["batch_norm_drift"]["norm3/beta"]
    titles = [a.get_title() for a in run_figures.drift_curves(one).axes]
    assert titles == [f"norm{i} beta" for i in (0, 1, 2)] + [f"norm{i} gamma" for i in (1, 2, 3)]


def test_nothing_to_draw():
    empty = {"maml": [record("maml", epochs=0, results=False)]}
    assert figures.validation_curves(empty) is None
    assert figures.inner_step_curves(empty) is None
    assert figures.gradient_norms(empty) is None
    assert figures.differences({}) is None
    assert run_figures.drift_curves(empty["maml"][0]) is None
    assert run_figures.schedules(empty["maml"][0]) is None
