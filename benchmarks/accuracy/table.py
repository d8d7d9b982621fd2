"""Results as a table, JSON and pictures: points lost, paired with the control, with intervals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.accuracy.cells import DENSE, Key, read, unpacked
from psvit.evaluate import paired_drop
from psvit.report.svg import chart_svg

RESULTS = Path(__file__).parents[1] / "results"
CONTROLS = {"none": "none", "obs": "none", "lsq": "none"}
"""Which recovery the unpruned model has that a pruned one is compared with; of others, bn."""

PICTURED = (
    ("uniform", "l1", "none"),
    ("psvit", "l1", "none"),
    ("optimal", "l1", "none"),
    ("uniform", "obs", "obs"),
    ("optimal", "obs", "obs"),
    ("optimal", "obs", "auto"),
)
RIVALS = ("uniform", "psvit", "primesvt")


def write(paths: Sequence[Path]) -> None:
    """benchmarks/results/accuracy-DATE.md, .json, and a picture for each model."""
    cells = read(*paths)
    stem = RESULTS / f"accuracy-{date.today()}"
    models = list(dict.fromkeys(key[0] for key in cells))
    parts = [HEAD.format(day=date.today(), machine=_machines(cells)), *_commands(cells)]
    for model in models:
        rows = _rows(cells, model)
        parts.append(_section(cells, model, rows))
        picture = stem.with_name(f"{stem.name}-{model}.svg")
        picture.write_text(chart_svg(_chart(model, rows)))
    stem.with_suffix(".md").write_text("\n".join(parts))
    stem.with_suffix(".json").write_text(
        json.dumps([dict(cells[key]) for key in sorted(cells)], indent=0) + "\n"
    )
    print(f"written to {stem}.md")


HEAD = """# What pruning costs of accuracy

{day}, {machine}, by `python -m benchmarks.accuracy`.

Points of top-1 lost on the same test images, paired, with 95 % intervals: without recovery, and
with `obs` or `lsq`, against the unpruned model; with `bn` or `auto` against the unpruned one after
batch-norm re-estimation. Rankings, analyses
(256 images) and recoveries (1,024) saw training images only, without labels. On a GPU convolutions
run in TF32, alike for every model.
"""


def _rows(cells: dict[Key, Any], model: str) -> list[dict[str, Any]]:
    rows = []
    for key, cell in cells.items():
        if key[0] != model or key[1] == DENSE or "failed" in cell:
            continue
        control = cells[model, DENSE, "", CONTROLS.get(key[3], "bn"), "0%"]
        lost, low, high = paired_drop(unpacked(control), unpacked(cell))
        rows.append({**cell, "lost": lost, "low": low, "high": high})
    return rows


def _section(cells: dict[Key, Any], model: str, rows: list[dict[str, Any]]) -> str:
    levels = sorted({row["level"] for row in rows}, key=lambda text: float(text[:-1]))
    dense = {key[3]: cell for key, cell in cells.items() if key[:2] == (model, DENSE)}
    said = ", ".join(f"{how} {cell['accuracy']:.2%}" for how, cell in dense.items())
    lines = [
        f"\n## {model}\n",
        f"Unpruned, by recovery: {said}, of {dense['none']['n']:,} images; neurons fire at "
        f"{dense['none']['rate']:.1%}.\n",
        f"| method | ranking | recovery | {' | '.join(levels)} |",
        "|---" * (3 + len(levels)) + "|",
    ]
    for method, ranking, how in sorted({(r["method"], r["saliency"], r["recover"]) for r in rows}):
        found = {
            r["level"]: f"{100 * r['lost']:.2f} ({100 * r['low']:.1f} to {100 * r['high']:.1f})"
            for r in rows
            if (r["method"], r["saliency"], r["recover"]) == (method, ranking, how)
        }
        cells_ = " | ".join(found.get(level, "") for level in levels)
        lines.append(f"| {method} | {ranking or '-'} | {how} | {cells_} |")
    failed = {(k[1], c["failed"]) for k, c in cells.items() if k[0] == model and "failed" in c}
    lines += [f"\n{method}: {reason}." for method, reason in sorted(failed)]
    beside = _beside(rows, levels)
    costs = _costs(rows, levels, dense["none"]["figures"])
    return "\n".join([*lines, "", *([beside, ""] if beside else []), costs, ""])


def _beside(rows: list[dict[str, Any]], levels: list[str]) -> str:
    """How much more rivals lose than optimal, without recovery; nothing if no rival was run."""
    plain = {
        (r["method"], r["level"]): r
        for r in rows
        if (r["saliency"], r["recover"]) == ("l1", "none")
    }
    if not any(method in RIVALS for method, _ in plain):
        return ""
    lines = [
        "Points that rivals lose more than `optimal`, paired, no recovery (l1):\n",
        f"| rival | {' | '.join(levels)} |",
        "|---" * (1 + len(levels)) + "|",
    ]
    for rival in RIVALS:
        cells = []
        for level in levels:
            best, other = plain.get(("optimal", level)), plain.get((rival, level))
            if best is None or other is None:
                cells.append("")
                continue
            more, low, high = paired_drop(unpacked(best), unpacked(other))
            cells.append(f"{100 * more:.2f} ({100 * low:.1f} to {100 * high:.1f})")
        lines.append(f"| {rival} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _costs(rows: list[dict[str, Any]], levels: list[str], whole: dict[str, float]) -> str:
    """What optimal's models save of the ``whole``, and the seconds that they took."""
    lines = [
        "Models of `optimal` with `auto`: shares saved (SOPs and energy at the firing rates of the "
        "unpruned model), firing rate afterwards, milliseconds of 32 images in eager mode (in "
        "brackets: of the unpruned model, in turns), seconds of the choice and of the recovery, on "
        "the machine above:\n",
        "| saved | memory | MACs | SOPs | energy | firing rate | 32 images | choosing | recovery |",
        "|---" * 9 + "|",
    ]
    for level in levels:
        for r in rows:
            if (r["method"], r["recover"], r["level"]) != ("optimal", "auto", level):
                continue
            shares = [
                f"{1 - r['figures'][unit] / whole[unit]:.1%}"
                for unit in ("memory_bytes", "macs", "sops", "energy_pj")
            ]
            lines.append(
                f"| {level} | {' | '.join(shares)} | {r['rate']:.1%} | {_timed(r)} | "
                f"{r['allocation_seconds']:.1f} | {r['recovery_seconds']:.1f} |"
            )
    return "\n".join(lines)


def _timed(row: dict[str, Any]) -> str:
    return f"{row['ms']:.1f} ({row['dense_ms']:.1f})" if "ms" in row else ""


def _chart(model: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    run = {(r["method"], r["saliency"], r["recover"]) for r in rows}
    return {
        "caption": f"{model}: accuracy lost by memory saved",
        "x": "memory saved, %",
        "y": "points of accuracy lost",
        "reference": 0.0,
        "series": [
            {
                "name": f"{method}, {ranking}, recover {how}",
                "points": sorted(
                    (
                        {
                            "x": float(r["level"][:-1]),
                            "y": 100 * r["lost"],
                            "low": 100 * r["low"],
                            "high": 100 * r["high"],
                        }
                        for r in rows
                        if (r["method"], r["saliency"], r["recover"]) == (method, ranking, how)
                    ),
                    key=lambda point: point["x"],
                ),
            }
            for method, ranking, how in PICTURED
            if (method, ranking, how) in run
        ],
    }


def _commands(cells: dict[Key, Any]) -> list[str]:
    """What was typed, where that is on record."""
    typed = dict.fromkeys(c["command"] for c in cells.values() if "command" in c)
    return ["\n".join(f"    {command}" for command in typed) + "\n"] if typed else []


def _machines(cells: dict[Key, Any]) -> str:
    named = {f"{c['device']}, torch {c['torch']}" for c in cells.values() if "device" in c}
    return "; ".join(sorted(named))
