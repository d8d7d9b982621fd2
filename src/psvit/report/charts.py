"""Charts: what losses were measured and predicted, as data that the script draws to fit.

Each chart is a table as well, for those who do not look at pictures.
"""

from __future__ import annotations

import math
from typing import Any

from psvit.records import Curves, Point
from psvit.report.data import ReportData, Trial
from psvit.report.html import escape, section, table
from psvit.report.units import percent_text, plural, points_text


def chart_data(data: ReportData) -> dict[str, Any]:
    """The frontier of the methods tried, and the loss predicted along the path."""
    charts: dict[str, Any] = {}
    if data.trials:
        series: dict[str, list[Trial]] = {}
        for trial in sorted(data.trials, key=lambda t: t.saved):
            series.setdefault(trial.method, []).append(trial)
        charts["frontier"] = {
            "caption": "Accuracy of the methods tried, with 95 % intervals",
            "x": "memory saved, %",
            "y": "accuracy, %",
            "reference": None if data.before.accuracy is None else 100 * data.before.accuracy,
            "own": _own_point(data),
            "series": [
                {"name": name, "points": [_trial_point(t) for t in trials]}
                for name, trials in series.items()
            ],
        }
    # Where another method chose this model's plan, it lies beside the curve of uniform plans.
    apart = data.method != "uniform"
    known = [(s, s.loss) for s in data.path if s.loss is not None]
    losses = [(s.saved["memory"], loss) for s, loss in known if not (s.this and apart)]
    own = [(s.saved["memory"], loss) for s, loss in known if s.this and apart]
    if len(losses) > 1:
        points = data.loss_unit == "points"
        charts["predicted"] = {
            "caption": "Predicted loss of uniform plans, from the sensitivity of each tie",
            "x": "memory saved, %",
            "y": "accuracy lost, points" if points else "KL divergence, nats",
            "reference": None,
            "own": _loss_point(*own[0], points) if own else None,
            "series": [
                {
                    "name": "uniform",
                    "points": [_loss_point(saved, loss, points) for saved, loss in losses],
                }
            ],
        }
    return charts


def methods_table(data: ReportData) -> str:
    """The frontier in numbers."""
    if not data.trials:
        return ""
    rows = [
        (
            escape(t.method),
            percent_text(t.saved),
            percent_text(t.accuracy),
            f"{100 * t.low:.1f}–{100 * t.high:.1f} %",
        )
        for t in data.trials
    ]
    titles = ("method", "memory saved", "accuracy", "95 % interval")
    return f"<details><summary>In numbers</summary>{table(titles, rows, kind='numbers')}</details>"


def sensitivity_section(data: ReportData) -> str:
    """A cell for each tie and ratio, the darker the more is lost."""
    heat = heat_data(data)
    if heat is None or data.curves is None:
        return ""
    head = "".join(f'<th scope="col">{escape(ratio)}</th>' for ratio in heat["ratios"])
    rows = []
    for name, cells in zip(heat["names"], heat["cells"], strict=True):
        tds = "".join("<td></td>" if cell is None else _cell(cell) for cell in cells)
        rows.append(f'<tr><th scope="row"><code>{escape(name)}</code></th>{tds}</tr>')
    toggle = ""
    if heat["drop"]:
        toggle = (
            '<fieldset class="toggle" hidden><legend>Show</legend>'
            '<label><input type="radio" name="heat" value="kl" checked><span>KL divergence</span>'
            '</label><label><input type="radio" name="heat" value="drop"><span>accuracy drop</span>'
            "</label></fieldset>"
        )
    counts = [p.n for p in data.curves.points]
    images = plural(max(counts), "image")
    seen = images if min(counts) == max(counts) else f"{min(counts):,} to {images}"
    body = (
        f"<p>What pruning one tie of groups alone does to the model, measured on "
        f"{seen}. Columns are the percentage of channels removed.</p>"
        f'<div class="heatbar">{toggle}{_scale("kl", heat["kl"])}{_scale("drop", heat["drop"])}'
        "</div>"
        f'<table class="heat"><thead><tr><th scope="col">% removed</th>{head}</tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table><p class="readout" aria-live="polite">Point at a '
        "cell, or move through them with the arrow keys.</p>"
    )
    return section("sensitivity", "Sensitivity", body)


def _scale(kind: str, ends: list[str] | None) -> str:
    if ends is None:
        return ""
    hidden = " hidden" if kind != "kl" else ""
    return (
        f'<div class="scale" data-scale="{kind}" aria-hidden="true"{hidden}><span>{ends[0]}</span>'
        f"<i></i><span>{ends[1]}</span></div>"
    )


def heat_data(data: ReportData) -> dict[str, Any] | None:
    """Cells by tie and ratio, each with its shade and its words; None without an analysis."""
    if data.curves is None or not data.curves.points:
        return None
    curves = data.curves
    ties = list(dict.fromkeys(p.tie for p in curves.points))
    ratios = sorted({p.ratio for p in curves.points})
    at = {(p.tie, p.ratio): p for p in curves.points}
    positive = [p.kl for p in curves.points if p.kl > 0] or [1.0]
    low, high = max(min(positive), 1e-4 * max(positive)), max(positive)
    drops = [p.accuracy_drop for p in curves.points if p.accuracy_drop is not None]
    worst = max([*drops, 0.001])
    return {
        "names": [curves.names.get(tie, f"tie {tie}") for tie in ties],
        "ratios": [f"{100 * r:.3g}" for r in ratios],
        "drop": [points_text(0), points_text(worst)] if len(drops) == len(curves.points) else None,
        "kl": [f"{low:.2g}", f"{high:.2g} nats"],
        "cells": [
            [_cell_data(curves, at.get((tie, ratio)), low, high, worst) for ratio in ratios]
            for tie in ties
        ],
    }


def _cell_data(
    curves: Curves, point: Point | None, low: float, high: float, worst: float
) -> dict[str, Any] | None:
    if point is None:
        return None
    # KL spans orders of magnitude, so its shade is logarithmic; a drop's is linear.
    span = math.log(high / low) or 1.0
    shade = math.log(max(point.kl, low) / low) / span
    parts = [
        f"{100 * point.ratio:.3g} % removed",
        f"KL {point.kl:.3g} nats ({point.kl_low:.3g} to {point.kl_high:.3g})",
    ]
    cell: dict[str, Any] = {"kl": round(shade, 3)}
    if point.accuracy_drop is not None:
        interval = ""
        if point.accuracy_drop_low is not None and point.accuracy_drop_high is not None:
            interval = (
                f" ({100 * point.accuracy_drop_low:.1f} to {100 * point.accuracy_drop_high:.1f})"
            )
        parts.append(f"accuracy drop {points_text(point.accuracy_drop)}{interval}")
        cell["drop"] = round(max(point.accuracy_drop, 0.0) / worst, 3)
    if "memory" in point.saved:
        memory = max(curves.dense.memory_bytes, 1)
        parts.append(f"saves {percent_text(point.saved['memory'] / memory, 2)} of memory")
    return {**cell, "tip": "; ".join(parts)}


def _cell(cell: dict[str, Any]) -> str:
    return (
        f'<td data-kl="{cell["kl"]}" data-drop="{cell.get("drop", "")}" style="--v:{cell["kl"]}">'
        f"<span>{escape(cell['tip'])}</span></td>"
    )


def _trial_point(trial: Trial) -> dict[str, Any]:
    return {
        "x": 100 * trial.saved,
        "y": 100 * trial.accuracy,
        "low": 100 * trial.low,
        "high": 100 * trial.high,
        "tip": f"{trial.method}: {percent_text(trial.accuracy)} "
        f"({100 * trial.low:.1f}–{100 * trial.high:.1f} %) at {percent_text(trial.saved)} saved",
    }


def _own_point(data: ReportData) -> dict[str, Any] | None:
    after = data.after
    if after.accuracy is None or after.accuracy_low is None or after.accuracy_high is None:
        return None
    saved = 1 - after.memory_bytes / max(data.before.memory_bytes, 1)
    own = Trial("this model", saved, after.accuracy, after.accuracy_low, after.accuracy_high)
    return _trial_point(own)


def _loss_point(saved: float, loss: float, points: bool) -> dict[str, Any]:
    text = points_text(loss) if points else f"{loss:.3g} nats"
    tip = f"{text} predicted at {percent_text(saved)} saved"
    return {"x": 100 * saved, "y": 100 * loss if points else loss, "tip": tip}
