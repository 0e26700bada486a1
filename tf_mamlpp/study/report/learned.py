"""The report's section on what was learned: inner steps, learned rates, batch-norm weights, schedules."""

from __future__ import annotations

from tf_mamlpp.records.run_record import Groups, metric_of
from tf_mamlpp.study.method_names import title_of
from tf_mamlpp.study.report import figures, run_figures
from tf_mamlpp.study.report.document import Block, Heading
from tf_mamlpp.study.report.formatting import FigureFolder
from tf_mamlpp.training import pictures


def learned_section(groups: Groups, folder: FigureFolder) -> list[Block]:
    """Figures of what the methods learned; of single runs, the first seed's.

    Args:
        groups: the runs of each method.
        folder: where figures are written.

    Returns:
        The section; nothing if there is no figure to draw.

    Example:
        >>> import json
        >>> from tf_mamlpp.records.run_record import RunRecord
        >>> row = {"update": 10, "seconds": 5.0, "inner_rates": {"dense/kernel": [0.1, 0.05]}}
        >>> _ = (tmp_path / "metrics.jsonl").write_text(json.dumps(row))
        >>> section = learned_section({"maml++": [RunRecord("maml++", 0, tmp_path, 10)]}, FigureFolder(tmp_path))
        >>> [block.name for block in section[1:]]
        ['rates_full']
    """
    metric = metric_of(groups)
    blocks = [
        *folder.save(
            "inner_steps",
            figures.inner_step_curves(groups),
            f"Test {metric.replace('_', ' ')} of the ensemble after each inner step, mean over seeds; grey: MAML++.",
        ),
        *_learned_rates(groups, "maml++", "rates_full", folder),
        *_learned_rates(groups, "maml+learned_rates", "rates_alone", folder),
        *_drift_and_schedules(groups, folder),
    ]
    return [Heading("What was learned"), *blocks] if blocks else []


def _learned_rates(groups: Groups, method: str, file: str, folder: FigureFolder) -> list[Block]:
    record = next((r for r in groups.get(method, ()) if r.rows and r.rows[-1].get("inner_rates")), None)
    if record is None:
        return []
    name, last = title_of(method), record.rows[-1]
    return folder.save(
        file,
        pictures.rates_heatmap(last["inner_rates"], f"{name}, seed {record.seed}, after update {last['update']}"),
        f"Learned rates of {name}: a row a tensor, a column an inner step. Darker is larger; hatched is negative.",
    )


def _drift_and_schedules(groups: Groups, folder: FigureFolder) -> list[Block]:
    record = next((r for r in groups.get("maml++", ()) if r.rows), None)
    if record is None:
        return []
    return [
        *folder.save(
            "batch_norm_drift",
            run_figures.drift_curves(record),
            "How far each inner step's batch-norm weights have drifted from the first step's: MAML++, seed "
            f"{record.seed}.",
        ),
        *folder.save(
            "schedules",
            run_figures.schedules(record),
            f"Schedules as they were applied: MAML++, seed {record.seed}.",
        ),
    ]
