"""A comparison as the frontier that the report of a pruned model shows."""

from __future__ import annotations

from psvit.compare.verdicts import Comparison, verdicts
from psvit.report.data import Trial


def trials_of(comparison: Comparison) -> tuple[Trial, ...]:
    """Accuracy by memory saved of every method that makes the model smaller: masks do not.

    With a recovery its name stands beside the method's: these models are not the bare ones.
    """
    recover = comparison.settings.get("recover", "none")
    also = "" if recover == "none" else f" + {recover}"
    return tuple(
        Trial(
            method=verdict.cell.method + also,
            saved=verdict.saved["memory"],
            accuracy=verdict.cell.figures.accuracy or 0.0,
            low=verdict.cell.figures.accuracy_low or 0.0,
            high=verdict.cell.figures.accuracy_high or 0.0,
        )
        for verdict in verdicts(comparison)
        if verdict.cell.zeroed is None
    )
