"""The page that a run writes: one table, and what stays whole and why."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from benchmarks.repositories.catalogue import Published

Row = tuple[Published, int, dict[str, Any]]

_EXPECTED = ("the model's output", "a kernel's spatial axis", "held by constants only")
"""Locks that every model has, and that nobody would lift."""


def write_page(path: Path, rows: Sequence[Row], every: int) -> None:
    """Write the page as Markdown."""
    exact = [row for row in rows if row[2].get("exact")]
    repositories = {published.repository for published, _, _ in rows}
    good = {published.repository for published, _, _ in exact}
    checked = "every group and head alone" if every == 1 else f"every {every}th group and head"
    lines = [
        "# Public repositories, unmodified",
        "",
        f"`python -m benchmarks.repositories --every {every}`, {date.today().isoformat()}, "
        f"torch {torch.__version__}, {platform.machine()}.",
        "",
        f"{len(exact)} of {len(rows)} models are exact, from {len(good)} of {len(repositories)} "
        "repositories. Their files are loaded as their authors wrote them, through "
        "`psvit.compat`, at small sizes and with random weights that were made to fire. Checked "
        f"in float64, in eval and train mode, at two batch sizes: {checked}, and all groups "
        "together at about 22.4 % of the parameters. *Error* is the largest difference of any "
        "output from the original with the removed channels zeroed; *noticed*, how often the "
        "same check saw that one channel had been swapped for another (a channel that makes no "
        "difference cannot be missed).",
        "",
        "| model | repository | T | groups | heads | prunable | error | noticed | exact |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(row) for row in rows]
    lines += ["", "## What stays whole, and why", ""]
    lines += [f"- {text}" for text in dict.fromkeys(filter(None, map(_locks, rows)))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def _line(row: Row) -> str:
    published, T, found = row
    link = f"[{published.repository}](https://github.com/{published.repository})"
    at = f"{link} `{found.get('commit', '')}`"
    if "error" in found:
        return f"| {published.name} | {at} | {T} | | | | | | no: {found['error']} |"
    return (
        f"| {published.name} | {at} | {T} | {found['prunable']} of {found['groups']} "
        f"| {found['heads']} | {found['prunable_share']:.1%} | {found['worst_error']:.1e} "
        f"| {found['noticed']} of {found['checked']} | {'yes' if found['exact'] else 'NO'} |"
    )


def _locks(row: Row) -> str:
    published, _, found = row
    reasons = [
        f"{reason} ({count})"
        for reason, count in found.get("locked", {}).items()
        if reason not in _EXPECTED
    ]
    notes = [*found.get("fixed", ()), *(f"{name} has no rule" for name in found.get("unknown", ()))]
    return f"{published.name}: {'; '.join(reasons + notes)}" if reasons or notes else ""
