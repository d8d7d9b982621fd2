"""Accuracy, size and latency of a file that `psvit export` wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from psvit.cli.console import note, say
from psvit.cli.inputs import DataOptions
from psvit.cli.measuring import latency_text, note_skipped, time_models, with_accuracy
from psvit.data import Recipe
from psvit.errors import CheckpointError, OptionError
from psvit.export import json_path, open_export
from psvit.records import Figures, InputSpec
from psvit.report.units import bytes_text


def evaluate_export(
    path: Path, data: str | None, options: DataOptions, limit: int | None
) -> dict[str, Any]:
    """Measure it on test images; the file beside it says which, and their preprocessing, if the
    options are silent. Raises OptionError if nothing says what to evaluate on."""
    model = open_export(path)
    told = _told(path).get("settings", {})
    if options.recipe is None and told.get("recipe"):
        options = replace(options, recipe=Recipe.from_dict(told["recipe"]))
    known = told.get("eval_data") or told.get("data")
    source = data or known
    if source is None:
        raise OptionError("nothing says what to evaluate on: give --data DATA")
    if data is None:
        note(f"evaluated on {source}, as when it was exported")
    only = data is not None or told.get("eval_data") is not None
    batches = options.open(source, "eval", only=only, limit=limit)
    cpu = torch.device("cpu")
    figures = Figures(memory_bytes=path.stat().st_size, params=0, macs=0)
    figures = with_accuracy(figures, model, batches, f"on {source}", cpu)
    note_skipped(batches)
    images, _ = next(iter(batches))
    spec = InputSpec(tuple(images.shape), str(images.dtype).removeprefix("torch."))
    latency = time_models([model], spec, cpu)[0]
    say(f"accuracy  {figures.accuracy:.2%} of {figures.n} images, 95 % interval "
        f"{figures.accuracy_low:.2%} to {figures.accuracy_high:.2%}")  # fmt: skip
    say(f"file      {bytes_text(figures.memory_bytes)}")
    say(f"latency   {latency.median_ms:.2f} ms{latency_text(latency)}")
    return {
        "model": str(path),
        "data": source,
        "accuracy": figures.accuracy,
        "accuracy_low": figures.accuracy_low,
        "accuracy_high": figures.accuracy_high,
        "n": figures.n,
        "file_bytes": figures.memory_bytes,
        "latency_ms": latency.median_ms,
    }


def _told(path: Path) -> Mapping[str, Any]:
    """What the JSON beside the file says; nothing where there is none."""
    beside = json_path(path)
    try:
        found = json.loads(beside.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{beside} is damaged ({error}): delete it, or export again"
        ) from error
    return found if isinstance(found, dict) else {}
