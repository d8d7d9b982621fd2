"""Results as a table, JSON and pictures: points lost, paired with the control, with intervals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from textwrap import fill
from typing import Any

from benchmarks.accuracy.cells import DENSE, Key, key_of, read, unpacked
from psvit.evaluate import paired_drop
from psvit.report.svg import chart_svg

Cell = dict[str, Any]
"""A result: a line of a file."""

RESULTS = Path(__file__).parents[1] / "results"
CONTROLS = {"bn": "bn"}
"""Which recovery the unpruned model has that a pruned one is compared with; of others, none."""

PICTURED = (
    ("uniform", "l1", "none"),
    ("psvit", "l1", "none"),
    ("optimal", "l1", "none"),
    ("uniform", "obs", "obs"),
    ("optimal", "obs", "obs"),
    ("optimal", "obs", "auto"),
)
RIVALS = ("uniform", "psvit", "primesvt")


def write(paths: Sequence[Path], note: str = "") -> None:
    """benchmarks/results/accuracy-DATE.md, .json, and a picture for each model.

    ``note``: what a reader has to know of these results in particular.
    """
    cells = _read_all(paths)
    stem = RESULTS / f"accuracy-{date.today()}"
    models = list(dict.fromkeys(cell["model"] for cell in cells))
    head = HEAD.format(day=date.today(), machine=_machines(cells))
    parts = [head, *([fill(note, 100) + "\n"] if note else []), *_commands(cells)]
    for model in models:
        rows = _rows(cells, model)
        parts.append(_section(cells, model, rows))
        picture = stem.with_name(f"{stem.name}-{model}.svg")
        picture.write_text(chart_svg(_chart(model, rows)))
    stem.with_suffix(".md").write_text("\n".join(parts))
    stem.with_suffix(".json").write_text(
        json.dumps(sorted(cells, key=lambda c: (key_of(c), _device(c))), indent=0) + "\n"
    )
    print(f"written to {stem}.md")


HEAD = """# What pruning costs of accuracy

{day}, {machine}, by `python -m benchmarks.accuracy`.

Points of top-1 lost on the same test images, paired, with 95 % intervals, against the unpruned
model; with `bn`, against the unpruned one after the same. Rankings, analyses (256 images),
recoveries (1,024) and fine-tuning (all) saw training images only, without labels. On a GPU
convolutions run in TF32, alike for every model; results of other devices are marked.
"""


def _read_all(paths: Sequence[Path]) -> list[Cell]:
    """The results in files; of one that several have from the same device, the first file's.

    A file is of ``run``, or the .json of an earlier table.
    """
    found: dict[tuple[Key, str], Cell] = {}
    for path in paths:
        earlier = path.suffix == ".json"
        for cell in json.loads(path.read_text()) if earlier else read(path).values():
            found.setdefault((key_of(cell), _device(cell)), cell)
    return list(found.values())


def _rows(cells: list[Cell], model: str) -> list[Cell]:
    """The results of pruned models, with what they lose against the unpruned one on their device.

    Of a result that several devices gave, the first one's.
    """
    dense = {(_device(c), c["recover"]): c for c in cells if _is_dense(c, model)}
    rows: dict[Key, Cell] = {}
    for cell in cells:
        key = key_of(cell)
        if cell["model"] != model or cell["method"] == DENSE or "failed" in cell or key in rows:
            continue
        control = dense[_device(cell), CONTROLS.get(cell["recover"], "none")]
        lost, low, high = paired_drop(unpacked(control), unpacked(cell))
        rows[key] = {**cell, "lost": lost, "low": low, "high": high}
    return list(rows.values())


def _is_dense(cell: Cell, model: str) -> bool:
    return (cell["model"], cell["method"]) == (model, DENSE)


def _device(cell: Cell) -> str:
    return cell.get("device", "")


def _section(cells: list[Cell], model: str, rows: list[Cell]) -> str:
    levels = sorted({row["level"] for row in rows}, key=lambda text: float(text[:-1]))
    dense = [cell for cell in cells if _is_dense(cell, model)]
    marks = dict(zip(dict.fromkeys(map(_device, dense)), ("", r"\*", r"\+", r"\#"), strict=False))
    lines = [
        f"\n## {model}\n",
        *(_unpruned(dense, device, marks[device]) for device in marks),
        f"| method | ranking | recovery | {' | '.join(levels)} |",
        "|---" * (3 + len(levels)) + "|",
    ]
    for method, ranking, how in sorted({(r["method"], r["saliency"], r["recover"]) for r in rows}):
        found = {
            r["level"]: f"{100 * r['lost']:.2f} ({100 * r['low']:.1f} to {100 * r['high']:.1f})"
            + marks[_device(r)]
            for r in rows
            if (r["method"], r["saliency"], r["recover"]) == (method, ranking, how)
        }
        cells_ = " | ".join(found.get(level, "") for level in levels)
        lines.append(f"| {method} | {ranking or '-'} | {how} | {cells_} |")
    failed = {(c["method"], c["failed"]) for c in cells if c["model"] == model and "failed" in c}
    lines += [f"\n{method}: {reason}." for method, reason in sorted(failed)]
    beside = _beside(rows, levels)
    costs = _costs(rows, levels, dense[0]["figures"], marks)
    return "\n".join([*lines, "", *([beside, ""] if beside else []), costs, ""])


def _unpruned(dense: list[Cell], device: str, mark: str) -> str:
    """What the unpruned model does on one device."""
    found = {c["recover"]: c for c in dense if _device(c) == device}
    said = ", ".join(f"{how} {cell['accuracy']:.2%}" for how, cell in found.items())
    where = f" on {device} (where {mark} stands below)" if mark else ""
    return (
        f"Unpruned{where}, by recovery: {said}, of {found['none']['n']:,} images; neurons fire at "
        f"{found['none']['rate']:.1%}.\n"
    )


def _beside(rows: list[Cell], levels: list[str]) -> str:
    """How much more rivals lose than optimal, without recovery; nothing if no rival was run."""
    plain = {
        (r["method"], r["level"]): r
        for r in rows
        if (r["saliency"], r["recover"]) == ("l1", "none")
    }
    methods = {method for method, _ in plain}
    if "optimal" not in methods or not methods & set(RIVALS):
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
            if best is None or other is None or _device(best) != _device(other):
                cells.append("")
                continue
            more, low, high = paired_drop(unpacked(best), unpacked(other))
            cells.append(f"{100 * more:.2f} ({100 * low:.1f} to {100 * high:.1f})")
        lines.append(f"| {rival} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _costs(
    rows: list[Cell], levels: list[str], whole: dict[str, float], marks: dict[str, str]
) -> str:
    """What optimal's models save of the ``whole``, and the seconds that they took."""
    lines = [
        "Models of `optimal` with `auto`: shares saved (SOPs and energy at the firing rates of the "
        "unpruned model), firing rate afterwards, milliseconds of 32 images in eager mode (in "
        "brackets: of the unpruned model, in turns), seconds of the choice and of the recovery:\n",
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
                f"| {level}{marks[_device(r)]} | {' | '.join(shares)} | {r['rate']:.1%} | "
                f"{_timed(r)} | {r['allocation_seconds']:.1f} | {r['recovery_seconds']:.1f} |"
            )
    return "\n".join(lines)


def _timed(row: dict[str, Any]) -> str:
    return f"{row['ms']:.1f} ({row['dense_ms']:.1f})" if "ms" in row else ""


def _chart(model: str, rows: list[Cell]) -> dict[str, Any]:
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


def _commands(cells: list[Cell]) -> list[str]:
    """What was typed, where that is on record."""
    typed = dict.fromkeys(c["command"] for c in cells if "command" in c)
    return ["\n".join(f"    {command}" for command in typed) + "\n"] if typed else []


def _machines(cells: list[Cell]) -> str:
    named = {f"{c['device']}, torch {c['torch']}" for c in cells if "device" in c}
    return "; ".join(sorted(named))
