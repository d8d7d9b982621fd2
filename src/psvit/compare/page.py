"""A comparison as a page of one file, in the style of the report, and as a picture."""

from __future__ import annotations

from typing import Any

from psvit.compare.levels import budget_text
from psvit.compare.rows import UNSTRUCTURED
from psvit.compare.table import by_budget, notes
from psvit.compare.verdicts import Comparison, Difference, Verdict, best_cells, verdicts
from psvit.report.html import code_block, escape, section, signs, table
from psvit.report.page import fill
from psvit.report.svg import chart_svg
from psvit.report.units import percent_text, seconds_text

CLOSER = 4
"""Methods that the closer look shows."""


def page(comparison: Comparison) -> str:
    """The page as text; it asks nothing of the network."""
    charts = charts_of(comparison)
    figures = "".join(
        f'<figure class="chart" data-chart="{key}"><figcaption>{escape(chart["caption"])}'
        "</figcaption></figure>"
        for key, chart in charts.items()
    )
    parts = [
        section("result", "Result", f'<p class="lede">{escape(_sentence(comparison))}</p>'
                f'<div class="charts wide">{figures}</div>'),
        section("numbers", "In numbers", _notes(comparison) + _tables(comparison)),
        section("reproduce", "Reproduce it", _reproduce(comparison)),
    ]  # fmt: skip
    model = comparison.settings.get("model", "a model")
    script = {"steps": [], "groups": [], "charts": charts}
    return fill(f"Methods compared: {model}", "\n".join(parts), script, "psvit compare")


def picture(comparison: Comparison) -> str:
    """The first chart as SVG, for documents."""
    return chart_svg(next(iter(charts_of(comparison).values())))


def charts_of(comparison: Comparison) -> dict[str, Any]:
    """Accuracy by saving of every method; and points lost of those that keep most accuracy."""
    judged = verdicts(comparison)
    unit = next(iter(comparison.cells[0].budget))
    names = list(dict.fromkeys(cell.method for cell in comparison.cells))
    dense = comparison.control or comparison.dense
    all_of = {name: [v for v in judged if v.cell.method == name] for name in names}
    x = f"{unit} saved, %" if UNSTRUCTURED not in names else f"{unit} saved (or masked), %"
    charts = {
        "accuracy": {
            "caption": "Accuracy, with 95 % intervals",
            "x": x,
            "y": "accuracy, %",
            "reference": 100 * (dense.figures.accuracy or 0.0),
            "own": None,
            "dodge": 3,
            "series": [
                {"name": name, "points": [_accuracy_point(v, unit) for v in found]}
                for name, found in all_of.items()
            ],
        }
    }
    kept = {name: sum(v.cell.figures.accuracy or 0.0 for v in all_of[name]) for name in names}
    closest = sorted(names, key=lambda name: -kept[name])[:CLOSER]
    if len(names) > CLOSER:
        charts["lost"] = {
            "caption": f"A closer look: the {CLOSER} methods that keep most, paired intervals",
            "x": x,
            "y": "points lost",
            "reference": None,
            "own": None,
            "dodge": 4,
            "series": [
                {
                    "name": name,
                    "colour": names.index(name),
                    "points": [_lost_point(v, unit) for v in all_of[name]],
                }
                for name in names
                if name in closest
            ],
        }
    return charts


def _accuracy_point(verdict: Verdict, unit: str) -> dict[str, Any]:
    figures = verdict.cell.figures
    low, high = 100 * (figures.accuracy_low or 0.0), 100 * (figures.accuracy_high or 0.0)
    return {
        "x": 100 * _at(verdict, unit),
        "y": 100 * (figures.accuracy or 0.0),
        "low": low,
        "high": high,
        "tip": f"{verdict.cell.method} at {budget_text(verdict.cell.budget)}: "
        f"{percent_text(figures.accuracy or 0.0)} ({low:.1f}–{high:.1f} %)",
    }


def _lost_point(verdict: Verdict, unit: str) -> dict[str, Any]:
    lost = _lost(verdict)
    return {
        "x": 100 * _at(verdict, unit),
        "y": 100 * lost.drop,
        "low": 100 * lost.low,
        "high": 100 * lost.high,
        "tip": f"{verdict.cell.method} at {budget_text(verdict.cell.budget)}: "
        f"{_points(lost)} points lost ({_ends(lost)})",
    }


def _at(verdict: Verdict, unit: str) -> float:
    """What is saved; of masks, the share of the weights that they take."""
    cell = verdict.cell
    if cell.zeroed is None:
        return verdict.saved[unit]
    return cell.zeroed / max(cell.figures.params, 1)


def _sentence(comparison: Comparison) -> str:
    """What happened at the largest saving."""
    budget, found = list(by_budget(comparison))[-1]
    best = best_cells(comparison).get(tuple(budget.items()))
    if best is None:
        return f"Masks at {budget_text(budget)}, on {comparison.dense.figures.n:,} images."
    lost = next(_lost(v) for v in found if v.cell is best)
    beside = "the dense model" if comparison.control is None else "the recovered dense model"
    close = [v.cell.method for v in found if _tied(v)]
    also = f" Within chance of it: {', '.join(close)}." if close else ""
    return (
        f"At the largest saving ({budget_text(budget)}), {best.method} keeps the most accuracy: "
        f"{percent_text(best.figures.accuracy or 0.0)} of {best.figures.n:,} images, "
        f"{_points(lost)} points ({_ends(lost)}) below {beside}.{also}"
    )


def _tied(verdict: Verdict) -> bool:
    """Whether a smaller model is not told apart from the best."""
    behind = verdict.behind
    return behind is not None and verdict.cell.zeroed is None and behind.low <= 0 <= behind.high


def _notes(comparison: Comparison) -> str:
    n = comparison.dense.figures.n or 0
    beside = "the dense model" if comparison.control is None else f"“{comparison.control.method}”"
    lines = [
        f"{n:,} images. Points lost against {beside}, and behind the best smaller model at the "
        "same budget: paired on the same images, with 95 % intervals, each for one difference",
        *notes(comparison)[1:],
    ]
    return "".join(f"<p>{escape(line[0].upper() + line[1:])}.</p>" for line in lines)


def _tables(comparison: Comparison) -> str:
    titles = ("method", "accuracy", "points lost", "behind", "saved", "time")
    parts = []
    for budget, found in by_budget(comparison):
        rows = [
            (
                escape(v.cell.method),
                percent_text(v.cell.figures.accuracy or 0.0),
                _cell(_lost(v)),
                "best" if v.behind is None else _cell(v.behind),
                percent_text(v.saved[next(iter(budget))]) if v.cell.zeroed is None else "masks",
                seconds_text(v.cell.seconds),
            )
            for v in found
        ]
        parts.append(
            f"<h3>{escape(budget_text(budget))}</h3>"
            f'<div class="scroll" tabindex="0">{table(titles, rows, kind="numbers")}</div>'
        )
    return "".join(parts)


def _cell(lost: Difference) -> str:
    return f'{signs(_points(lost))}<span class="note">{signs(_ends(lost))}</span>'


def _reproduce(comparison: Comparison) -> str:
    settings = comparison.settings
    command = settings.get("command")
    shown = {key: value for key, value in settings.items() if key != "command"}
    facts = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(_text(value))}</dd></div>"
        for key, value in {**shown, "fingerprint": comparison.fingerprint}.items()
        if value not in (None, "", {})
    )
    code = code_block(str(command), "Shell command") if command else ""
    return f'{code}<dl class="facts">{facts}</dl>'


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items() if item is not None)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _lost(verdict: Verdict) -> Difference:
    """Against the control, where there is one: the dense model after the same recovery."""
    return verdict.lost if verdict.lost_to_control is None else verdict.lost_to_control


def _points(lost: Difference) -> str:
    return _fixed(lost.drop)


def _ends(lost: Difference) -> str:
    return f"{_fixed(lost.low)} to {_fixed(lost.high)}"


def _fixed(share: float) -> str:
    text = f"{100 * share:.1f}"
    return "0.0" if text == "-0.0" else text
