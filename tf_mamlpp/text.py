"""Results as text.  Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def percent(value: float, half_width: float | None = None) -> str:
    """A fraction in percent, with its interval.

    Args:
        value: in 0 to 1.
        half_width: half the width of its interval; None without one.

    Example:
        >>> percent(0.97312, 0.0042)
        '97.31 ± 0.42 %'
    """
    return f"{100 * value:.2f}" + ("" if half_width is None else f" ± {100 * half_width:.2f}") + " %"


def _error(value: float, half_width: float | None = None) -> str:
    return f"{value:.4f}" + ("" if half_width is None else f" ± {half_width:.4f}")


# What a cell begins with that spreadsheets take for a formula, in both widths of East Asian fonts.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")


def csv_cell(path: str) -> str:
    """A path as a cell that no spreadsheet runs as a formula; with `./` before it, it is the same path.

    Example:
        >>> csv_cell("=1+1"), csv_cell("pets/cat")
        ('./=1+1', 'pets/cat')
    """
    return f"./{path}" if path.startswith(_FORMULA) else path


_BASELINES = (
    ("nearest_pixel", "nearest pixel", "1-NN on raw pixels"),
    ("nearest_class_mean", "nearest mean", "class means of raw pixels"),
    ("nearest_spectrogram", "nearest spectrogram", "1-NN on the spectrograms"),
    ("nearest_mean_spectrogram", "nearest mean", "class means of the spectrograms"),
    ("nearest_example", "nearest example", "1-NN on the inputs"),
    ("nearest_example_mean", "nearest mean", "class means of the inputs"),
)


def results_table(results: Mapping[str, Any]) -> str:
    """The table that a run or an evaluation ends with.

    Args:
        results: the content of a run's `results.json`.

    Example:
        >>> results = {"dataset": "glyphs", "split": "test", "way": 5, "shot": 1, "tasks": 600, "inner_steps": 1}
        >>> results |= {"method": "maml", "query_statistics": "batch", "ensemble": 1, "seed": 0}
        >>> results |= {"accuracy": 0.5, "confidence_95": 0.01, "accuracy_per_inner_step": [0.2, 0.5]}
        >>> results |= {"train_steps": 100, "train_seconds": 90.0}
        >>> print(results_table(results))
        ----...
        data             glyphs test, 5-way 1-shot, 600 tasks
        method           maml, query statistics 'batch'
        training         100 updates in 1.5 min, seed 0
        accuracy         50.00 ± 1.00 %  (best epoch; 95 % interval over tasks)
        after 0-1 steps  20.00  50.00
        ----...
    """
    metric = "accuracy" if "accuracy" in results else next(k for k in results if k.endswith("_error"))
    show = percent if metric == "accuracy" else _error
    members, single = results["ensemble"], results.get("single_model")
    model = f"ensemble of the best {members} epochs" if members > 1 else "best epoch"
    task = f"{results['way']}-way {results['shot']}-shot" if metric == "accuracy" else f"{results['shot']}-shot"
    permutations = results.get("label_permutations", 1)
    averaged = f", {permutations} label permutations averaged" if permutations > 1 else ""
    if copies := results.get("support_augmentations"):
        averaged += f", {copies} {'copy' if copies == 1 else 'copies'} of each support picture"
    minutes = f"{results['train_seconds'] / 60:.1f} min"
    trained_on = f" on {results['trained_on']}" if "trained_on" in results else ""
    dataset = " ".join(filter(None, [results["dataset"], results.get("dataset_path")]))
    split = f"{results['split']} classes" if results["split"] == "all" else results["split"]
    rows = [
        ("data", f"{dataset} {split}, {task}, {results['tasks']} tasks"),
        ("method", f"{results['method']}, query statistics '{results['query_statistics']}'{averaged}"),
        ("training", f"{results['train_steps']} updates{trained_on} in {minutes}, seed {results['seed']}"),
        (metric, f"{show(results[metric], results['confidence_95'])}  ({model}; 95 % interval over tasks)"),
    ]
    if single:
        rows.append(("", f"{show(single[metric], single['confidence_95'])}  (best epoch alone)"))
    for key, name, explanation in _BASELINES:
        if key in results:
            interval = show(results[key]["accuracy"], results[key]["confidence_95"])
            rows.append((name, f"{interval}  ({explanation})"))
    if pretraining := results.get("pretraining"):
        interval = show(pretraining["accuracy"], pretraining["confidence_95"])
        took = f"{pretraining['epoch']} epochs in {duration(pretraining['train_seconds'])}"
        rows.append(("pretraining", f"{interval}  (its features alone by nearest class mean, {took})"))
    if confidence := results.get("confidence"):
        rows += _confidence_rows(confidence)
    if chosen := results.get("inner_steps_chosen"):
        most = len(chosen[f"{metric}_per_inner_step"]) - 1
        where = f"{chosen['tasks']} {chosen['split']} tasks of {chosen['dataset']}"
        rows.append(("inner steps", f"{results['inner_steps']}  (the best of 0 to {most} on {where})"))
    if results["inner_steps"]:
        curve = "  ".join(show(value).replace(" %", "") for value in results[f"{metric}_per_inner_step"])
        rows.append((f"after 0-{results['inner_steps']} steps", curve))
    width = max(len(name) for name, _ in rows)
    line = "-" * (width + 2 + max(len(text) for _, text in rows))
    return "\n".join([line, *(f"{name:<{width}}  {text}" for name, text in rows), line])


def _confidence_rows(confidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    error, known = confidence["expected_calibration_error"], confidence["known"]
    fitted = f"temperature {confidence['temperature']:.3g}, best epoch alone"
    rows = [("calibration error", f"{percent(error['before'])}, calibrated {percent(error['after'])}  ({fitted})")]
    if known:
        score, words = known["score"], known["score"].replace("_", " ")
        kept, found = percent(known["known_kept"]), percent(known["unknown_found"])
        told = f"AUROC {known['auroc'][score]:.3f}, keeps {kept} of known ones, finds {found} of unknown ones"
        rows.append(("known at all", f"{told}  ({words})"))
    return rows


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever is short.

    Example:
        >>> duration(42), duration(600), duration(9000)
        ('42 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
