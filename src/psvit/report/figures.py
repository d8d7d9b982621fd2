"""The figures of a result as rows of text, for a page and for a notebook."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from psvit.records import Figures
from psvit.report.tables import interval_text, top5_interval_text
from psvit.report.units import (
    bytes_text,
    change_text,
    count_text,
    energy_text,
    percent_text,
    points_text,
)


@dataclass(frozen=True)
class FigureRow:
    """A figure before and after, as text.

    ``share``: after / before, where less is meant. ``intervals``: 95 %, before and after.
    """

    name: str
    note: str
    before: str
    after: str
    change: str
    share: float | None = None
    intervals: tuple[str, str] = ("", "")


def figure_rows(before: Figures, after: Figures) -> list[FigureRow]:
    """Every figure that was measured of both."""
    rows = []
    if before.accuracy is not None and after.accuracy is not None:
        rows.append(
            FigureRow(
                "accuracy",
                f"top-1, {after.n:,} images",
                percent_text(before.accuracy),
                percent_text(after.accuracy),
                points_text(after.accuracy - before.accuracy, signed=True),
                intervals=(interval_text(before), interval_text(after)),
            )
        )
    if before.top5 is not None and after.top5 is not None:
        rows.append(
            FigureRow(
                "top-5 accuracy",
                f"{after.n:,} images",
                percent_text(before.top5),
                percent_text(after.top5),
                points_text(after.top5 - before.top5, signed=True),
                intervals=(top5_interval_text(before), top5_interval_text(after)),
            )
        )
    numbers: tuple[tuple[str, str, float | None, float | None, Callable[[float], str]], ...] = (
        ("memory", "parameters and buffers", before.memory_bytes, after.memory_bytes, _bytes),
        ("parameters", "", before.params, after.params, _count),
        ("MACs", "an image, all time steps, dense", before.macs or None, after.macs, _count),
        ("SOPs", "an image, accumulates that spikes trigger", before.sops, after.sops, _count),
        ("energy", "an image, 45 nm convention", before.energy_pj, after.energy_pj, energy_text),
        ("latency", "an image, median", before.latency_ms, after.latency_ms, _ms),
    )
    for name, note, old, new, text in numbers:
        if old is not None and new is not None:
            share = new / old if old else None
            rows.append(FigureRow(name, note, text(old), text(new), change_text(old, new), share))
    return rows


def _bytes(value: float) -> str:
    return bytes_text(round(value))


def _count(value: float) -> str:
    return count_text(round(value))


def _ms(value: float) -> str:
    return f"{value:.1f} ms"
