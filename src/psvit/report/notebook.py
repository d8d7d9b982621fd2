"""A result as a notebook shows it: a small table, in the notebook's own colours."""

from __future__ import annotations

from psvit.records import Result
from psvit.report.figures import figure_rows
from psvit.report.html import escape, signs, table
from psvit.report.units import plural


def result_html(result: Result) -> str:
    """Figures before and after, and how many groups became narrower."""
    rows = [
        (
            escape(row.name),
            *(
                signs(escape(text))
                for text in (
                    _with(row.before, row.intervals[0]),
                    _with(row.after, row.intervals[1]),
                    row.change,
                )
            ),
        )
        for row in figure_rows(result.before, result.after)
    ]
    changed = sum(width.after < width.before for width in result.plan.widths)
    groups = plural(len(result.plan.widths), "group")
    return (
        table(("psvit", "before", "after", "change"), rows, kind="psvit-result")
        + f"<p>{changed} of {groups} of channels narrower.</p>"
    )


def _with(text: str, interval: str) -> str:
    return f"{text} ({interval})" if interval else text
