"""Prune, measure, save, print: what `psvit prune` and `psvit demo` have in common."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from psvit.artefacts import save
from psvit.artefacts.folder import CURVES, CURVES_TABLE, REPORT, WEIGHTS
from psvit.cli.console import note, say, stages, watch
from psvit.cli.measuring import (
    latency_text,
    note_skipped,
    time_models,
    with_accuracy,
    with_firing,
)
from psvit.cli.resume import analysis_journal, resumable
from psvit.cli.tuning import Place, place_of, training_settings, tune
from psvit.cli.typed import typed_command
from psvit.data import Batches
from psvit.evaluate import Latency
from psvit.finetune import Tuning
from psvit.measured import plans_file
from psvit.models.load import LoadedModel
from psvit.prune import Trainer, prune
from psvit.records import Curves, InputSpec, Result
from psvit.recover import TRAINED
from psvit.report.page import render
from psvit.report.rebuild import report_data
from psvit.report.tables import figures_table, recovery_table, widths_table
from psvit.report.units import (
    bytes_text,
    latency_check_text,
    percent_text,
    plural,
    points_text,
)
from psvit.sensitivity import curves_to_csv, curves_to_json
from psvit.train import Status, status_text


@dataclass(frozen=True)
class Choice:
    """What to prune by."""

    save: Mapping[str, float | str]
    saliency: str | None = None
    method: str = "uniform"
    align: int = 1
    seed: int = 0
    max_drop: float | None = None
    min_accuracy: float | None = None
    n: int = 256
    recover: str = "none"
    epochs: float = 1.0


@dataclass(frozen=True)
class Training:
    """What `--recover finetune` trains on, and where it keeps its state."""

    data: Batches
    place: Place
    settings: Mapping[str, Any]
    force: bool


def prune_and_save(
    loaded: LoadedModel,
    example: torch.Tensor,
    choice: Choice,
    out: Path,
    *,
    force: bool,
    eval_data: Batches | None,
    firing_data: Batches | None,
    device: torch.device,
    settings: Mapping[str, Any],
    train: Batches | None = None,
    curves: Curves | None = None,
    tuning_data: Batches | None = None,
) -> Mapping[str, Any]:
    """Prune `loaded`, measure it before and after, write `out`, print; returns the JSON.

    `train`: images to analyse and calibrate on; `tuning_data`: those that fine-tuning trains on.
    """
    journal = analysis_journal(out)
    with resumable(journal, plans_file(journal)):
        result = _measured(
            loaded, example, choice, journal, eval_data=eval_data, firing_data=firing_data,
            device=device, settings=settings, train=train, curves=curves,
            tuning=None if tuning_data is None else Training(
                tuning_data, place_of(out, None), dict(settings), force
            ),
        )  # fmt: skip
        extras: dict[str, Callable[[Path], str]] = {}
        if result.curves is not None:
            made_on = {"data": settings.get("data"), **result.curves.settings}
            told = replace(result.curves, settings=made_on)
            text, table = curves_to_json(told), curves_to_csv(told)
            extras |= {CURVES: lambda folder: text, CURVES_TABLE: lambda folder: table}
        extras[REPORT] = lambda folder: render(report_data(folder, name=out.resolve().name))
        save(result, out, force=force, extras=extras)
    _print(result, out)
    return as_data(result, out)


def _measured(
    loaded: LoadedModel,
    example: torch.Tensor,
    choice: Choice,
    journal: Path,
    *,
    eval_data: Batches | None,
    firing_data: Batches | None,
    device: torch.device,
    settings: Mapping[str, Any],
    train: Batches | None,
    curves: Curves | None,
    tuning: Training | None,
) -> Result:
    """The pruned model, with what both models cost and how well they do."""
    with stages() as tell, watch("measuring smaller models, images") as tick:
        result = prune(
            loaded.model,
            example,
            save=choice.save,
            saliency=choice.saliency,
            method=choice.method,
            align=choice.align,
            seed=choice.seed,
            max_drop=choice.max_drop,
            min_accuracy=choice.min_accuracy,
            data=train,
            n=choice.n,
            curves=curves,
            recover=choice.recover,
            device=device,
            source=loaded.source,
            progress=tell,
            tick=tick,
            journal=journal,
            trainer=_trainer(choice, tuning, device, tell),
        )
    before, after = result.before, result.after
    if eval_data is not None:
        before = with_accuracy(before, loaded.model, eval_data, "before", device)
        after = with_accuracy(after, result.model, eval_data, "after", device)
        if result.control is not None:
            control = before
            if not _same_tensors(loaded.model, result.control):
                control = with_accuracy(
                    result.before, result.control, eval_data, "unpruned, same recovery", device
                )
            result = replace(result, dense_recovered=control)
        note_skipped(eval_data)
    firing: dict[str, Any] = {}
    if firing_data is not None:
        before, found = with_firing(
            before, loaded.model, example, firing_data, "before", device, choice.seed
        )
        after, left = with_firing(
            after, result.model, example, firing_data, "after", device, choice.seed
        )
        firing = {f"{name}_before": value for name, value in found.items()}
        firing |= {f"{name}_after": value for name, value in left.items()}
    spec = InputSpec(tuple(example.shape), str(example.dtype).removeprefix("torch."))
    times = time_models([loaded.model, result.model], spec, device)
    return replace(
        result,
        before=replace(before, latency_ms=times[0].median_ms),
        after=replace(after, latency_ms=times[1].median_ms),
        measured={**result.measured, **firing},
        settings={
            **result.settings,
            **settings,
            "latency": asdict(times[1]),
            "command": typed_command(),
            "versions": versions(),
        },
    )


def _same_tensors(model: nn.Module, copy: nn.Module) -> bool:
    """Whether a copy still holds the values of its model, and need not be measured again."""
    ours, theirs = (dict([*m.named_parameters(), *m.named_buffers()]) for m in (model, copy))
    return all(
        torch.equal(ours[name], value.to(ours[name].device)) for name, value in theirs.items()
    )


def _trainer(
    choice: Choice, tuning: Training | None, device: torch.device, tell: Callable[[str], None]
) -> Trainer | None:
    """What `--recover finetune` does, with the run folder of `psvit finetune`."""
    if choice.recover != TRAINED or tuning is None:
        return None
    data = tuning.data
    how = Tuning(epochs=choice.epochs, batch=data.batch_size or Tuning.batch, seed=choice.seed)

    def show(status: Status) -> None:
        tell(f"fine-tuning  {status_text(status)}")

    return lambda small, dense: tune(
        small,
        dense,
        data,
        how,
        tuning.place,
        device=device,
        settings=training_settings(tuning.settings),
        student=asdict(choice),
        force=tuning.force,
        # The stage's own line shows it where lines are redrawn.
        progress=show if sys.stderr.isatty() else None,
    )


def versions() -> dict[str, str]:
    """What computed the result: Python, and the packages that decide its numbers."""
    found = {"python": platform.python_version()}
    for package in ("psvit", "torch", "numpy", "spikingjelly"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def as_data(result: Result, out: Path) -> Mapping[str, Any]:
    """What `--json` prints."""
    return {
        "out": str(out),
        "before": asdict(result.before),
        "after": asdict(result.after),
        "dense_recovered": None
        if result.dense_recovered is None
        else asdict(result.dense_recovered),
        "groups": [asdict(width) for width in result.plan.widths],
        "settings": dict(result.settings),
    }


def _print(result: Result, out: Path) -> None:
    latency_note = latency_text(Latency(**result.settings["latency"]))
    changed = [width for width in result.plan.widths if width.after != width.before]
    kept = len(result.plan.widths) - len(changed)
    say(widths_table(changed))
    if kept:
        say(f"unchanged: {plural(kept, 'group')} (`psvit inspect` says why)")
    say()
    say(figures_table(result.before, result.after, latency_note))
    control = result.dense_recovered
    if control is not None and control.accuracy is not None:
        accuracy = percent_text(control.accuracy)
        tuned = result.settings["recover"] == TRAINED
        what = ", its teacher" if tuned else " after the same recovery"
        say(f"the unpruned model{what}: {accuracy} accuracy")
    bound = result.measured.get("bound")
    if bound is not None:
        say(
            f"the bound: {points_text(bound['accuracy_lost'])} lost on {bound['n']:,} training "
            f"images, with 95 % confidence at most {points_text(bound['at_most'])}"
        )
    check = result.measured.get("latency_check")
    if check is not None:
        say(latency_check_text(check))
    silent = result.settings.get("never_fired")
    if silent:
        say(f"{plural(silent, 'channel')} never fired on the images that channels were ranked on")
    recovery = result.measured.get("recovery", {})
    if recovery.get("steps"):
        say(recovery_table(recovery))
    for line in dict.fromkeys(
        [*result.settings.get("calibration_notes", ()), *recovery.get("notes", ())]
    ):
        note(line)
    say()
    say(f"written to  {out}/  ({WEIGHTS} {bytes_text((out / WEIGHTS).stat().st_size)})")
    say(f"look at it  {out / REPORT}")
    say(f'load it     python -c "import psvit; model = psvit.load({str(out)!r})"')
