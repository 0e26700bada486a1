"""The report's section on stability: how steady each run was, with its warnings."""

from __future__ import annotations

import numpy as np

from tf_mamlpp.records.run_record import Groups, RunRecord
from tf_mamlpp.study.method_names import title_of
from tf_mamlpp.study.report import figures
from tf_mamlpp.study.report.document import Block, Heading, Items, Paragraph, Table
from tf_mamlpp.study.report.formatting import EMPTY_CELL, FigureFolder


def stability_section(groups: Groups, folder: FigureFolder) -> list[Block]:
    """A row for each run that has begun, its warnings, its gradient norms and its validation curve.

    Args:
        groups: the runs of each method.
        folder: where figures are written.

    Returns:
        The section; nothing if no run has begun.

    Example:
        >>> _ = (tmp_path / "failure.json").write_text('{"error": "the loss is nan", "diverged": true}')
        >>> section = stability_section({"maml": [RunRecord("maml", 0, tmp_path, 100)]}, FigureFolder(tmp_path))
        >>> section[1].rows
        [['MAML', '0', 'diverged', '–', '–', '–', '–']]
        >>> section[3].texts
        ['**warning**: MAML, seed 0: the loss is nan.']
    """
    records = [r for group in groups.values() for r in group if r.rows or r.failure]
    if not records:
        return []
    findings = [text for record in records for text in _findings(record)]
    header = ["method", "seed", "verdict", "gradient norm, median", "largest", "updates clipped", "inner rates"]
    return [
        Heading("Stability"),
        Table(header, [_row(record) for record in records]),
        Paragraph(
            "Verdicts: *diverged*, the loss was no longer finite; *unstable*, loss or gradient leapt far beyond what "
            "they were, or half of what had been learned was lost; *still improving*, validation still rose at the "
            "end, so that more updates would help; *settled*; *not learning*, hardly above chance."
        ),
        *([Items(sorted(findings, key=lambda text: not text.startswith("**")))] if findings else []),
        *folder.save(
            "gradient_norms",
            figures.gradient_norms(groups),
            "Norm of the meta-gradient before clipping, logarithmic: lines are medians of a fortieth of the run, one "
            "style a seed, dots the largest; a dotted vertical line marks a warning.",
        ),
        *folder.save(
            "validation_against_updates",
            figures.validation_curves(groups, "updates"),
            "Validation against updates: black lines are the method's seeds, one style each (a cross: it diverged "
            "there), grey ones the seeds of MAML++.",
        ),
    ]


def _row(record: RunRecord) -> list[str]:
    # Lost lines are NaN, and so is the norm of an update that ended its run.
    norms, clipped = (s[~np.isnan(s)] for s in (record.series["gradient_norm"], record.series["clipped"]))
    norm_cells = [f"{np.median(norms):.3g}", f"{norms.max():.3g}"] if len(norms) else [EMPTY_CELL] * 2
    clipped_cell = f"{100 * (clipped > 0).mean():.1f} %" if len(clipped) else EMPTY_CELL
    table = record.rows[-1].get("inner_rates", {}) if record.rows else {}
    rates = [rate for of_tensor in table.values() for rate in of_tensor]
    rates_cell = f"{min(rates):.3g} to {max(rates):.3g}".replace("-", "\N{MINUS SIGN}") if rates else EMPTY_CELL
    verdict = "failed" if record.state == "failed" else record.diagnosis.verdict
    return [title_of(record.method), str(record.seed), verdict, *norm_cells, clipped_cell, rates_cell]


def _findings(record: RunRecord) -> list[str]:
    """What is to be said about a run, one sentence each; clipping has a column of the table instead."""
    run = f"{title_of(record.method)}, seed {record.seed}"
    texts = [
        f"{'**warning**' if finding.unstable else 'note'}: {run}: {finding.text}."
        for finding in record.diagnosis.findings
        if finding.kind != "clipping"
    ]
    if record.state == "failed" and record.failure:
        texts.append(f"**failed**: {run}: {record.failure['error']}.")
    return texts
