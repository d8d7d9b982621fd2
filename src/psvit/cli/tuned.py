"""Fine-tune a folder's model, measure it beside the dense one, and write both down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from psvit.artefacts import Artefact, save_artefact
from psvit.artefacts.folder import CURVES, CURVES_TABLE, REPORT, TRAINING_LOG, WEIGHTS
from psvit.cli.console import say
from psvit.cli.inputs import DataOptions, data_settings
from psvit.cli.measuring import (
    FIRING_IMAGES,
    latency_text,
    note_skipped,
    time_models,
    with_accuracy,
    with_firing,
)
from psvit.cli.run import versions
from psvit.cli.tuning import log_text, place_of, training_settings, tune
from psvit.cli.typed import typed_command
from psvit.data import Batches
from psvit.errors import OutputError
from psvit.evaluate import Latency
from psvit.finetune import Tuned, Tuning
from psvit.models.load import LoadedModel
from psvit.records import Figures, InputSpec
from psvit.report.page import render
from psvit.report.rebuild import report_data
from psvit.report.tables import figures_table
from psvit.report.units import bytes_text, percent_text
from psvit.team import is_main

FINETUNE = "finetune"


@dataclass(frozen=True)
class Job:
    """What is fine-tuned, by whom it is taught, and on what. ``dense``: None for labels alone."""

    folder: Path
    loaded: LoadedModel
    dense: nn.Module | None
    tuning: Tuning
    options: DataOptions
    data: str
    eval_data: str | None
    device: torch.device

    @property
    def settings(self) -> dict[str, Any]:
        """What the folder has to remember of the data."""
        return data_settings(self.options, self.data, self.eval_data)

    def evaluation(self, limit: int | None) -> Batches:
        """The images that accuracy is measured on."""
        source, only = self.eval_data or self.data, self.eval_data is not None
        return self.options.open(source, "eval", only=only, limit=limit)


def tune_and_save(
    job: Job, train: Batches, example: torch.Tensor, out: Path, *, resume: Path | None, force: bool
) -> Mapping[str, Any] | None:
    """Train, measure, write ``out``, print; returns the JSON. Of several processes one writes."""
    place = place_of(out, resume)
    plan = job.loaded.plan
    if plan is None:
        raise OutputError(f"{job.folder} has no plan: expected a folder that psvit wrote")
    tuned = tune(
        job.loaded.model,
        job.dense,
        train,
        job.tuning,
        place,
        device=job.device,
        settings=training_settings(job.settings),
        force=force,
    )
    if not is_main():
        return None
    note_skipped(train)
    metrics = measured(job, tuned, example)
    save_artefact(
        Artefact(tuned.model, plan, metrics), out, force=force, extras=_extras(job, tuned, out)
    )
    _print(metrics, out, place.run)
    return {"out": str(out), "run": str(place.run), **_short(metrics)}


def measured(job: Job, tuned: Tuned, example: torch.Tensor) -> dict[str, Any]:
    """What metrics.json says afterwards: all that it said, with the figures of the tuned model."""
    old = dict(job.loaded.metrics or {})
    told = old.get("settings", {})
    before, start = Figures(**old["before"]), Figures(**old["after"])
    known = before.accuracy is not None and all(told.get(k) == v for k, v in job.settings.items())

    def judged(figures: Figures, model: nn.Module, title: str) -> Figures:
        images = job.evaluation(job.options.limit)
        return with_accuracy(figures, model, images, title, job.device)

    if not known and job.dense is not None:
        before = judged(before, job.dense, "dense")
    after, firing = with_firing(
        judged(start, tuned.model, "after"),
        tuned.model,
        example,
        job.evaluation(min(job.options.limit or FIRING_IMAGES, FIRING_IMAGES)),
        "after",
        job.device,
        job.tuning.seed,
    )
    control = old.get("dense_recovered")
    if tuned.teacher is not None:
        control = asdict(judged(before, tuned.teacher, "teacher"))
    spec = InputSpec(tuple(example.shape), str(example.dtype).removeprefix("torch."))
    timed = [model for model in (tuned.teacher, tuned.model) if model is not None]
    times = time_models(timed, spec, job.device)
    if tuned.teacher is not None:
        before = replace(before, latency_ms=times[0].median_ms)
    return {
        **old,
        "before": asdict(before),
        "after": asdict(replace(after, latency_ms=times[-1].median_ms)),
        "dense_recovered": control,
        "settings": {
            **told,
            **job.settings,
            "recover": FINETUNE,
            "latency": asdict(times[-1]),
            "command": "\n".join(text for text in (told.get("command"), typed_command()) if text),
            "versions": versions(),
        },
        **{f"{name}_after": value for name, value in firing.items()},
        FINETUNE: {"start": asdict(start) if known else None, **tuned.summary()},
    }


def _extras(job: Job, tuned: Tuned, out: Path) -> dict[str, Callable[[Path], str]]:
    """The files besides weights, plan and metrics: those of OUT that still hold, log, report."""
    kept = {
        name: (job.folder / name).read_text(encoding="utf-8")
        for name in (CURVES, CURVES_TABLE)
        if (job.folder / name).is_file()
    }
    extras: dict[str, Callable[[Path], str]] = {n: partial(_as_it_was, t) for n, t in kept.items()}
    log = log_text(tuned)
    extras[TRAINING_LOG] = lambda folder: log
    extras[REPORT] = lambda folder: render(report_data(folder, name=out.resolve().name))
    return extras


def _as_it_was(text: str, folder: Path) -> str:
    return text


def _short(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {key: metrics[key] for key in ("before", "after", "dense_recovered", FINETUNE)}


def _print(metrics: Mapping[str, Any], out: Path, run: Path) -> None:
    before, after = (Figures(**metrics[key]) for key in ("before", "after"))
    latency = Latency(**metrics["settings"]["latency"])
    told, control = metrics[FINETUNE], metrics["dense_recovered"]
    say(figures_table(before, after, latency_text(latency)))
    start = (told["start"] or {}).get("accuracy")
    if start is not None:
        say(f"the pruned model before fine-tuning: {percent_text(start)} accuracy")
    if control is not None and control["accuracy"] is not None:
        say(f"the unpruned model, its teacher: {percent_text(control['accuracy'])} accuracy")
    say(
        f"kept: the weights of epoch {told['kept_epoch']:g}, the best on "
        f"{told['held_out_images']:,} training images held out"
        if told["held_out_images"]
        else "kept: the last weights, as no images were held out"
    )
    say()
    say(f"written to  {out}/  ({WEIGHTS} {bytes_text((out / WEIGHTS).stat().st_size)})")
    say(f"look at it  {out / REPORT}")
    say(f"the run     {run}/  (checkpoint, best and last weights, log, TensorBoard)")
    say(f'load it     python -c "import psvit; model = psvit.load({str(out)!r})"')
