"""Results as text.  Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def percent(value: float, half_width: float | None = None) -> str:
    """`97.31 ± 0.42 %`."""
    return f"{100 * value:.2f}" + ("" if half_width is None else f" ± {100 * half_width:.2f}") + " %"


def results_table(results: Mapping[str, Any]) -> str:
    """The table that a run or an evaluation ends with."""
    metric = "accuracy" if "accuracy" in results else next(k for k in results if k.endswith("_error"))
    show = percent if metric == "accuracy" else lambda v, h=None: f"{v:.4f}" + ("" if h is None else f" ± {h:.4f}")
    curve = "  ".join(show(v).replace(" %", "") for v in results[f"{metric}_per_inner_step"])
    members = results["ensemble"]
    model = f"ensemble of the best {members} epochs" if members > 1 else "best epoch"
    task = f"{results['way']}-way {results['shot']}-shot" if metric == "accuracy" else f"{results['shot']}-shot"
    permutations = results.get("label_permutations", 1)
    averaged = f", {permutations} label permutations averaged" if permutations > 1 else ""
    rows = [
        ("data", f"{results['dataset']} {results['split']}, {task}, {results['tasks']} tasks"),
        ("method", f"{results['method']}, query statistics '{results['query_statistics']}'{averaged}"),
        (
            "training",
            f"{results['train_steps']} updates in {results['train_seconds'] / 60:.1f} min, seed {results['seed']}",
        ),
        (metric, f"{show(results[metric], results['confidence_95'])}  ({model}; 95 % interval over tasks)"),
    ]
    single = results.get("single_model")
    if single:
        rows.append(("", f"{show(single[metric], single['confidence_95'])}  (best epoch alone)"))
    for key, name, what in (
        ("nearest_pixel", "nearest pixel", "1-NN on raw pixels"),
        ("nearest_class_mean", "nearest mean", "class means of raw pixels"),
    ):
        if key in results:
            rows.append((name, f"{show(results[key]['accuracy'], results[key]['confidence_95'])}  ({what})"))
    if results["inner_steps"]:
        rows.append((f"after 0-{results['inner_steps']} steps", curve))
    width = max(len(name) for name, _ in rows)
    line = "-" * (width + 2 + max(len(text) for _, text in rows))
    return "\n".join([line, *(f"{name:<{width}}  {text}" for name, text in rows), line])


def duration(seconds: float) -> str:
    """`42 s`, `12 min` or `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
