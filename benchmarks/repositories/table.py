"""The page that a run writes, and its figures as JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from benchmarks.repositories.catalogue import LEFT_OUT
from benchmarks.repositories.published import Published

Row = tuple[Published, int, dict[str, Any]]

_EXPECTED = ("the model's output", "a kernel's spatial axis", "held by constants only")
"""Locks that every model has, and that nobody would lift."""


def write_figures(path: Path, rows: Sequence[Row], every: int, commit: str) -> None:
    """Write everything that was found as JSON."""
    models = [
        {
            "model": published.name,
            "repository": published.repository,
            "file": published.file,
            "inputs": published.sizes(T, 2),
            "T": T,
            **found,
        }
        for published, T, found in rows
    ]
    figures = {
        "date": date.today().isoformat(),
        "psvit": commit,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "every": every,
        "models": models,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n")


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
        f"{len(exact)} of {len(rows)} configurations are exact, from {len(good)} of "
        f"{len(repositories)} repositories. Their files are loaded as their authors wrote them, "
        "through `psvit.compat`, at small sizes and with random weights that were made to fire. "
        f"Checked in float64, in eval and train mode, at two batch sizes: {checked}, and all "
        "groups together at about 22.4 % of the parameters.",
        "",
        "- *groups*: prunable of those found; *heads*: attention heads that can go one by one.",
        "- *prunable*: share of the parameters that have an axis in a prunable group.",
        "- *eval*, *train*: the largest difference of any output from the original with the "
        "removed channels set to zero.",
        "- *noticed*: how often the same check saw that one channel had been swapped for another "
        "(a channel that makes no difference cannot be missed).",
        "",
        "| model | repository, commit | file | T | groups | heads | prunable | eval | train "
        "| noticed | exact |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(row) for row in rows]
    lines += ["", "## What stays whole, and why", ""]
    lines += [f"- {text}" for text in dict.fromkeys(filter(None, map(_locks, rows)))]
    lines += ["", "## What had to be installed", ""]
    lines += _needed(rows) or ["Nothing beside psvit and SpikingJelly."]
    lines += ["", "## What psvit stood in for", ""]
    lines += [f"- {text}" for text in _standins(rows)]
    lines += ["", "## Read, and not examined", ""]
    lines += [f"- [{name}](https://github.com/{name}): {why}" for name, why in LEFT_OUT]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def _line(row: Row) -> str:
    published, T, found = row
    link = f"[{published.repository}](https://github.com/{published.repository})"
    at = f"| {published.name} | {link} `{found.get('commit', '')}` | `{published.file}` | {T} "
    if "error" in found:
        return f"{at}| | | | | | | no: {found['error']} |"
    return (
        f"{at}| {found['prunable']} of {found['groups']} | {found['heads']} "
        f"| {found['prunable_share']:.1%} | {found['error_eval']:.1e} | {found['error_train']:.1e} "
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


def _needed(rows: Sequence[Row]) -> list[str]:
    """Packages that some of the files compute with, and which repositories need each."""
    users: dict[str, set[str]] = {}
    for published, _, found in rows:
        for name, version in found.get("needed", {}).items():
            users.setdefault(f"{name}=={version}", set()).add(published.repository)
    return [
        f"- `pip install --no-deps {what}` ({', '.join(sorted(using))})"
        for what, using in sorted(users.items())
    ]


def _standins(rows: Sequence[Row]) -> list[str]:
    """Each stand-in, and how many of the files needed it."""
    files: dict[str, set[str]] = {}
    for published, _, found in rows:
        for line in found.get("stand_ins", ()):
            names, _, why = line.partition(": ")
            for name in names.split(", "):
                files.setdefault(f"`{name}`: {why}", set()).add(published.repository)
    by_use = sorted(files.items(), key=lambda item: (-len(item[1]), item[0]))
    return [f"{what} ({len(using)} repositories)" for what, using in by_use]
