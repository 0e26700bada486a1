"""The pictures of a run: a task with its predictions, and the learned rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.patches
import numpy as np
from matplotlib.figure import Figure

from tf_mamlpp.meta.calibration import BINS, expected_calibration_error, log_probabilities, reliability
from tf_mamlpp.plotting import STYLE

_GREEN, _RED, _WHITE = np.array([0.1, 0.65, 0.25]), np.array([0.85, 0.15, 0.15]), np.ones(3)


def task_picture(
    support_images: np.ndarray,
    support_labels: np.ndarray,
    query_images: np.ndarray,
    query_labels: np.ndarray,
    predicted: np.ndarray,
) -> np.ndarray:
    """A task as one picture: a row a class, its support pictures, then its query pictures.

    A query picture has a green border if its class was predicted, else a red one with, beside it, the first support
    picture of the class that was predicted.

    Args:
        support_images, query_images: `[S, H, W, C]` and `[Q, H, W, C]`, any range.
        support_labels, query_labels, predicted: `[S]`, `[Q]` and `[Q]`.

    Returns:
        float32 RGB in 0..1, `[height, width, 3]`.

    Example:
        >>> pictures, labels = np.zeros((2, 6, 6, 1)), np.array([0, 1])
        >>> task_picture(pictures, labels, pictures, labels, predicted=np.array([0, 0])).shape
        (28, 50, 3)
    """
    low, high = support_images.min(), max(support_images.max(), support_images.min() + 1e-6)

    def cell(image: np.ndarray, border: np.ndarray) -> np.ndarray:
        shown = np.broadcast_to(np.clip((image - low) / (high - low), 0, 1), (*image.shape[:2], 3))
        framed = np.full((image.shape[0] + 4, image.shape[1] + 4, 3), border)
        framed[2:-2, 2:-2] = shown
        return np.pad(framed, ((2, 2), (2, 2), (0, 0)), constant_values=1.0)

    first = {label: image for label, image in zip(support_labels[::-1], support_images[::-1], strict=True)}
    rows = []
    for label in sorted(set(support_labels.tolist())):
        row = [cell(image, _WHITE) for image in support_images[support_labels == label]]
        gap = np.ones((row[0].shape[0], 8, 3))
        row.append(gap)
        for image, guess in zip(query_images[query_labels == label], predicted[query_labels == label], strict=True):
            right = guess == label
            row.append(cell(image, _GREEN if right else _RED))
            row.append(np.ones_like(row[0]) if right else cell(first[guess] * 0.5 + low * 0.5, _WHITE))
        rows.append(np.concatenate(row, 1))
    return np.concatenate(rows, 0).astype(np.float32)


def rates_heatmap(table: Mapping[str, Sequence[float]], title: str = "") -> Figure:
    """Learned rates: a row for each tensor, a column for each inner step; darker is larger, negative ones are hatched.

    Args:
        table: the rates of each tensor by its path.
        title: above the figure.

    Example:
        >>> figure = rates_heatmap({"conv0/kernel": [0.1, 0.2], "dense/kernel": [0.3, -0.1]}, "learned rates")
        >>> figure.axes[0].get_title()
        'learned rates'
    """
    values = np.asarray(list(table.values()), np.float64)
    rows, steps = values.shape
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.6 + 0.62 * max(steps, 3), 1.2 + 0.24 * min(rows, 60)), layout="constrained")
        axes = figure.subplots()
        limit = max(float(np.abs(values).max()), 1e-9)
        # Not down to black, on which hatching would not show.
        greys = matplotlib.colors.ListedColormap(matplotlib.colormaps["Greys"](np.linspace(0, 0.75, 256)))
        picture = axes.imshow(np.abs(values), cmap=greys, vmin=0, vmax=limit, aspect="auto")
        for (i, k), value in np.ndenumerate(values):
            if value < 0:
                box = matplotlib.patches.Rectangle((k - 0.5, i - 0.5), 1, 1, fill=False, hatch="////", edgecolor="0.55")
                axes.add_patch(box)
            if rows <= 40:
                dark = abs(value) > 0.7 * limit
                label = axes.text(k, i, f"{value:.2g}".replace("-", "\N{MINUS SIGN}"), ha="center", va="center")
                label.set(fontsize=7.5, color="white" if dark else "black")
                if value < 0:  # on its hatching
                    label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})
                    label.set(color="black", fontweight="bold")
        axes.set_xticks(range(steps), [str(k + 1) for k in range(steps)])
        every = -(-rows // 60)
        axes.set_yticks(range(0, rows, every), list(table)[::every])
        axes.spines[:].set_visible(False)
        axes.set_xlabel("inner step")
        axes.set_title(title)
        figure.colorbar(picture, ax=axes, label="size of the rate", fraction=0.05)
    return figure


def reliability_figure(logits: np.ndarray, labels: np.ndarray, temperature: float) -> Figure:
    """How often answers are right, by how sure they are: on the diagonal where probabilities can be believed.

    Args:
        logits: `[N, way]`.
        labels: `[N]` integers.
        temperature: for the second panel; the first has logits as they are.

    Returns:
        Two panels, each a bar for each bin, as wide as the bin, with the share of the answers that fall into it below.

    Example:
        >>> len(reliability_figure(np.array([[2.0, 0.0]]), np.array([0]), temperature=1.5).axes)
        4
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 4), layout="constrained")
        panels = figure.subplots(2, 2, sharex=True, height_ratios=(3, 1), squeeze=False)
        for (above, below), t in zip(panels.T, (1.0, temperature), strict=True):
            probabilities = np.exp(log_probabilities(logits, t))
            counts, sure, right = reliability(probabilities, labels)
            centres = (np.arange(BINS) + 0.5) / BINS
            above.bar(centres, np.nan_to_num(right), 0.9 / BINS, color="#0072B2")
            above.plot(sure, right, "o", color="#1b1b1f", markersize=3)
            above.plot([0, 1], [0, 1], "--", color="#6a6a72", linewidth=1)
            below.bar(centres, counts / counts.sum(), 0.9 / BINS, color="#6a6a72")
            error = 100 * expected_calibration_error(probabilities, labels)
            above.set_title(f"temperature {t:.3g}: calibration error {error:.1f} %")
            above.set(xlim=(0, 1), ylim=(0, 1))
            below.set_xlabel("largest probability")
        panels[0, 0].set_ylabel("share right")
        panels[1, 0].set_ylabel("share of answers")
    return figure
