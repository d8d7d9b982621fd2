"""Train a named model, from scratch or from earlier weights, and say how good it became."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from psvit.artefacts.checkpoint import load_weights
from psvit.data import RECIPES, Recipe, open_data
from psvit.errors import DataError, OptionError
from psvit.evaluate import Accuracy, accuracy
from psvit.models import build, find_entry
from psvit.places import without_place
from psvit.train.batches import InMemory, read_into_memory
from psvit.train.checkpoint import write_atomically
from psvit.train.config import TrainConfig
from psvit.train.loop import fit
from psvit.train.progress import Status
from psvit.train.score import Score

WEIGHTS = "model.safetensors"
REPORT = "report.json"


@dataclasses.dataclass(frozen=True)
class ReferenceRun:
    """Which model, on which data.

    ``held_out`` is the share of the training images that is not trained on but watched.
    ``eval_data`` None: the evaluation split of ``data``. ``start``: a checkpoint to begin with,
    such as the weights that an earlier run left; None: fresh weights.
    """

    name: str
    data: str
    config: TrainConfig
    eval_data: str | None = None
    held_out: float = 0.0
    start: Path | None = None
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise OptionError(
                f"training: held-out is {self.held_out}, expected 0 or more, less than 1"
            )


def train_reference(
    run: ReferenceRun,
    out: Path,
    *,
    command: str,
    device: str = "cpu",
    workers: int = 0,
    evaluate: bool = True,
    progress: Callable[[Status], None] | None = None,
) -> dict[str, Any]:
    """Train, or go on training, and write weights and report into ``out``; returns the report.

    The evaluation split is read once, at the very end, and not at all if ``evaluate`` is False.
    Where ``run.start`` has a report beside it, the new report keeps that one as ``before``.
    Raises CheckpointError for a checkpoint to start from that does not fit the model.
    """
    entry = find_entry(run.name)
    if entry.recipe not in RECIPES:
        raise DataError(f"{run.name} has no recipe to prepare images with")
    recipe = RECIPES[entry.recipe]
    with torch.random.fork_rng():
        torch.manual_seed(run.config.seed)
        model = build(run.name, weights=False, **run.arguments)
    start = {}
    if run.start is not None:
        load_weights(model, run.start)
        start["start"] = hashlib.sha256(run.start.read_bytes()).hexdigest()
    data = _memory(run, recipe, workers)
    data = data.to(device)
    monitor = None
    if run.held_out:
        data, watched = data.split_off(run.held_out, run.config.seed)

        def monitor(model: nn.Module) -> Score:
            return Score(accuracy(model, watched.plain(), device=device).top1)

    lines = fit(
        model,
        data,
        run.config,
        out=out,
        settings={
            "model": run.name,
            "arguments": dict(run.arguments),
            "data": run.data,
            "recipe": recipe.to_dict(),
            "images": len(data),
            "held_out": run.held_out,
            **start,
        },
        monitor=monitor,
        progress=progress,
        device=device,
    )
    model.to("cpu")
    write_atomically(out / WEIGHTS, save(model.state_dict()))
    report: dict[str, Any] = {
        "model": run.name,
        "arguments": dict(run.arguments),
        "command": command,
        "data": without_place(run.data),
        "recipe": recipe.to_dict(),
        "config": run.config.to_dict(),
        "train_images": len(data),
        "params": sum(p.numel() for p in model.parameters()),
        "train_seconds": lines[-1]["seconds"] if lines else 0.0,
        "device": _device_name(device),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": _versions(),
    }
    if run.start is not None:
        report |= {**start, "before": _report_beside(run.start)}
    if evaluate:
        batches = open_data(
            run.eval_data or run.data,
            split="eval",
            recipe=recipe,
            batch_size=256,
            only=run.eval_data is not None,
        )
        report["eval"] = _figures(accuracy(model, batches, device=device))
    write_atomically(out / REPORT, (json.dumps(report, indent=1) + "\n").encode())
    return report


def _memory(run: ReferenceRun, recipe: Recipe, workers: int) -> InMemory:
    """The training images as 8-bit pixels at the model's size: decoded once, by ``workers``."""
    loader = open_data(
        run.data,
        split="train",
        recipe=recipe,
        batch_size=256,
        workers=workers,
        only=run.eval_data is not None,
    )
    return read_into_memory(loader, mean=recipe.mean, std=recipe.std, batch=run.config.batch)


def _report_beside(weights: Path) -> dict[str, Any] | None:
    """How ``weights`` came about, where that is on record: their card, or their run's report."""
    for place in (weights.with_suffix(".json"), weights.with_name(REPORT)):
        if place.exists():
            found: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
            return found
    return None


def _figures(result: Accuracy) -> dict[str, Any]:
    low, high = result.interval
    return {
        "accuracy": result.top1,
        "correct": result.correct,
        "n": result.n,
        "low_95": low,
        "high_95": high,
    }


def _versions() -> dict[str, str]:
    names = ("torch", "spikingjelly", "numpy", "scikit-learn", "pillow")
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _device_name(device: str) -> str:
    """What the device calls itself; of a CPU, its architecture."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.machine()
