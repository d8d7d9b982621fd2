"""From a folder that psvit wrote to the page about it: nothing else is read or measured."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from psvit.artefacts.folder import BENCH, CURVES, METRICS, PLAN, REPORT, WEIGHTS
from psvit.artefacts.load import read_plan
from psvit.artefacts.save import as_text
from psvit.errors import OutputError, PlanError
from psvit.records import Curves, Figures, Plan
from psvit.report.data import BudgetStep, GroupRow, Rate, ReportData, Trial
from psvit.report.finetuning import finetuning_facts
from psvit.report.page import render
from psvit.report.predict import loss_unit, predicted_loss
from psvit.report.units import latency_check_text, plural
from psvit.sensitivity import read_curves


def write_report(out: str | Path) -> Path:
    """Write `out`/report.html from what `out` holds; returns its path.

    An earlier report is replaced at once, or not at all. Raises OutputError for a folder that
    psvit did not write, that is damaged, or that cannot be written, PlanError for a bad plan.
    """
    folder = Path(out)
    _replace(folder / REPORT, render(report_data(folder)))
    return folder / REPORT


def add_methods(
    out: Path, found: Sequence[Trial], fingerprint: str, told: Mapping[str, Any]
) -> None:
    """Keep the methods of a comparison in `out`, for the frontier of this and later reports.

    `fingerprint` and `told` (settings): of the comparison. Raises PlanError if they are of
    another model or other images, else as `write_report`.
    """
    plan = read_plan(out)
    if plan.fingerprint != fingerprint:
        raise PlanError(
            f"the comparison is of another model (fingerprint {fingerprint}, {out} has "
            f"{plan.fingerprint}): compare the model that {out} was pruned from"
        )
    metrics = _read_metrics(out / METRICS)
    own = metrics.get("settings", {})
    for key in ("data", "eval_data", "limit", "recipe"):
        if own.get(key) != told.get(key):
            raise PlanError(
                f"the comparison was judged on other images (its {key} is {told.get(key)}, {out} "
                f"has {own.get(key)}): compare on the same"
            )
    methods = [asdict(trial) for trial in found]
    _replace(out / METRICS, as_text({**metrics, "methods": methods}))


def _replace(path: Path, text: str) -> None:
    """Write a file anew, at once or not at all."""
    scratch = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


def report_data(out: Path, name: str | None = None) -> ReportData:
    """What the page about the folder `out` shows. ``name``: what the folder will be called.

    Raises OutputError and PlanError as `write_report`.
    """
    plan = read_plan(out)
    metrics = _read_metrics(out / METRICS)
    curves = _read_curves(out / CURVES, plan)
    try:
        return _data(plan, metrics, curves, out, name or out.resolve().name)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise OutputError(
            f"{out / METRICS} is not as psvit writes it "
            f"({type(error).__name__}: {error}): restore it, or prune again"
        ) from error


def _data(
    plan: Plan, metrics: Mapping[str, Any], curves: Curves | None, out: Path, name: str
) -> ReportData:
    settings = metrics.get("settings", {})
    path = metrics.get("path")
    stories = metrics.get("groups", [])
    rows = _rows(plan, stories, path)
    control = metrics.get("dense_recovered")
    return ReportData(
        before=Figures(**metrics["before"]),
        after=Figures(**metrics["after"]),
        title=_title(plan, settings),
        groups=rows,
        path=() if path is None else _steps(path, rows, stories, metrics, curves),
        loss_unit="nats" if curves is None else loss_unit(curves),
        curves=curves,
        trials=tuple(Trial(**trial) for trial in metrics.get("methods", ())),
        rates=_rates(metrics),
        load=_load(plan, name),
        command=str(settings.get("command", "")),
        facts=_facts(plan, settings, metrics, out),
        method=str(settings.get("method", "uniform")),
        recovery=metrics.get("recovery", {}),
        control=None if control is None else Figures(**control),
        tuning=metrics.get("finetune", {}),
        bench=_read_metrics(out / BENCH) if (out / BENCH).is_file() else {},
    )


def _title(plan: Plan, settings: Mapping[str, Any]) -> str:
    model = settings.get("model") or (plan.source and plan.source.factory)
    return str(model) if model else "A pruned model"


def _rows(
    plan: Plan, stories: Sequence[Mapping[str, Any]], path: Mapping[str, Any] | None
) -> tuple[GroupRow, ...]:
    """The groups of the original; what is told of a group is used if it is told of its size."""
    told = {(s["name"], s["role"]): (i, s) for i, s in enumerate(stories)}
    rows = []
    for width in plan.widths:
        i, story = told.get((width.name, width.role), (-1, {}))
        same = story.get("channels") == width.before
        order = path["order"][i] if path is not None and same else ()
        removed = story.get("removed") if same else None
        rows.append(
            GroupRow(
                width.name,
                width.role,
                width.before,
                width.after,
                cells=story.get("cells", 1),
                heads=story.get("heads", 0),
                locked=story.get("locked"),
                removed=None if removed is None else tuple(removed),
                order=tuple(order),
                in_order=story.get("in_order", True),
            )
        )
    return tuple(rows)


def _steps(
    path: Mapping[str, Any],
    rows: Sequence[GroupRow],
    stories: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
    curves: Curves | None,
) -> tuple[BudgetStep, ...]:
    """Where the slider stops: the path, and this folder's plan where it belongs on it."""
    where = {(s["name"], s["role"]): i for i, s in enumerate(stories)}

    def step(saved: Mapping[str, float], widths: Sequence[int], this: bool) -> BudgetStep:
        told = zip(stories, widths, strict=True)
        levels = {s["tie"]: (s["channels"] - width) / s["cells"] for s, width in told}
        loss = None if curves is None else predicted_loss(curves, levels)
        # A path has the groups of the model that was pruned last, the rows those of the original.
        at = [where.get((row.name, row.role)) for row in rows]
        shown = [r.after if i is None else widths[i] for r, i in zip(rows, at, strict=True)]
        return BudgetStep(saved, tuple(shown), loss, this)

    left = {(row.name, row.role): row.after for row in rows}
    own = [left.get((s["name"], s["role"]), s["channels"]) for s in stories]
    steps = [step(_saved(metrics), own, True)]
    steps += [step(s["saved"], s["widths"], False) for s in path["steps"] if s["widths"] != own]
    return tuple(sorted(steps, key=lambda s: (s.saved["memory"], s.saved["macs"])))


def _saved(metrics: Mapping[str, Any]) -> dict[str, float]:
    before, after = metrics["before"], metrics["after"]
    keys = {"memory": "memory_bytes", "params": "params", "macs": "macs"}
    return {unit: 1 - after[key] / max(before[key], 1) for unit, key in keys.items()}


def _rates(metrics: Mapping[str, Any]) -> tuple[Rate, ...]:
    """Of the neurons that were seen both before and after."""
    if "rates_before" not in metrics or "rates_after" not in metrics:
        return ()
    before, after = (metrics[f"rates_{when}"]["neurons"] for when in ("before", "after"))
    return tuple(Rate(name, rate, after[name]) for name, rate in before.items() if name in after)


def _read_curves(path: Path, plan: Plan) -> Curves | None:
    """The sensitivity analysis, where there is one. Raises PlanError for another model's."""
    if not path.is_file():
        return None
    curves = read_curves(path)
    if curves.fingerprint != plan.fingerprint:
        raise PlanError(
            f"{path} is the analysis of another model (fingerprint {curves.fingerprint}, this "
            f"model has {plan.fingerprint}): remove it, or analyse this model"
        )
    return curves


def _load(plan: Plan, name: str) -> str:
    shape = ", ".join(["batch", *(str(s) for s in plan.inputs[0].shape[1:])])
    model = ""
    if plan.source is None:
        model = ", model=original"
    lines = ["import psvit", "", f"model = psvit.load({name!r}{model})"]
    if plan.source is None:
        lines[2] += "  # original: an instance of the model that was pruned"
    return "\n".join([*lines, f"logits = model(images)  # {plan.inputs[0].dtype} [{shape}]"])


def _facts(
    plan: Plan, settings: Mapping[str, Any], metrics: Mapping[str, Any], out: Path
) -> tuple[tuple[str, str], ...]:
    versions = ", ".join(f"{k} {v}" for k, v in settings.get("versions", {}).items())
    budget = ", ".join(f"{unit} {_amount(a)}" for unit, a in settings.get("save", {}).items())
    recipe = settings.get("recipe") or {}
    facts = {
        "budget": budget,
        "accuracy lost at most": _amount(settings.get("max_drop")),
        "accuracy at least": _amount(settings.get("min_accuracy")),
        "method": settings.get("method"),
        "saliency": settings.get("saliency"),
        "channels that never fired": settings.get("never_fired"),
        "recovery": settings.get("recover"),
        "widths": _aligned(settings),
        "latency budget": _checked(metrics.get("latency_check")),
        **finetuning_facts(metrics.get("finetune", {})),
        "seed": settings.get("seed"),
        "data": settings.get("data"),
        "accuracy on": settings.get("eval_data"),
        "preprocessing": ", ".join(f"{k} {_short(v)}" for k, v in recipe.items() if v is not None),
        "latency": _latency(settings.get("latency")),
        "versions": versions,
        "fingerprint": plan.fingerprint,
        f"sha256 of {WEIGHTS}": _sha256(out / WEIGHTS),
        f"sha256 of {PLAN}": _sha256(out / PLAN),
    }
    return tuple((key, str(value)) for key, value in facts.items() if value not in (None, ""))


def _checked(check: Mapping[str, Any] | None) -> str | None:
    """What a budget in latency was predicted and measured to leave."""
    return None if check is None else latency_check_text(check).partition(": ")[2]


def _amount(amount: float | str | None) -> str | None:
    """A fraction in per cent; an amount such as `1.2MB` as it was typed."""
    return f"{100 * amount:.4g} %" if isinstance(amount, int | float) else amount


def _aligned(settings: Mapping[str, Any]) -> str | None:
    align = settings.get("align", 1)
    return f"multiples of {align}" if align > 1 else None


def _latency(latency: Mapping[str, Any] | None) -> str | None:
    if latency is None:
        return None
    return (
        f"median of {plural(latency['runs'], 'run')} in turns, batch of {latency['batch']}, "
        f"{latency['device']}, {plural(latency['threads'], 'thread')}; after pruning "
        f"{latency['fastest_ms']:.1f} to {latency['slowest_ms']:.1f} ms"
    )


def _short(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror or error}") from error


def _read_metrics(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OutputError(
            f"{path} is missing, and the report is made from it: prune again"
        ) from None
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} is damaged ({error}): restore it, or prune again") from error
    if not isinstance(data, dict):
        raise OutputError(f"{path} is damaged: expected an object; restore it, or prune again")
    return data
