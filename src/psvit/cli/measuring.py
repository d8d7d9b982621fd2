"""Accuracy and latency of models, with their progress, as figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from psvit.cli.console import note, watch
from psvit.data import Batches
from psvit.evaluate import Latency, accuracy, compare_latency
from psvit.records import Figures, InputSpec
from psvit.report.units import plural

TIMING_S = 6.0
"""About how long timing may take altogether."""
FEWEST_RUNS, MOST_RUNS = 5, 40


def with_accuracy(
    figures: Figures, model: nn.Module, data: Batches, title: str, device: torch.device
) -> Figures:
    """`figures` with the accuracy of `model` on `data`."""
    with watch(f"accuracy {title}") as tick:
        got = accuracy(model, data, device=device, progress=tick)
    low, high = got.interval
    return replace(figures, accuracy=got.top1, accuracy_low=low, accuracy_high=high, n=got.n)


def note_skipped(data: Batches) -> None:
    """Say which images could not be decoded and were left out."""
    if data.skipped:
        count = plural(len(data.skipped), "image")
        were = "was" if len(data.skipped) == 1 else "were"
        note(f"{count} {were} left out, the first: {data.skipped[0]}")


def time_models(
    models: Sequence[nn.Module], spec: InputSpec, device: torch.device
) -> list[Latency]:
    """Latency of one image, the models in turns; as many runs as a few seconds allow."""
    trial = compare_latency(models, spec, batch=1, runs=1, warm_up=1, device=device)
    once_s = sum(one.median_ms for one in trial) / 1e3
    runs = max(FEWEST_RUNS, min(MOST_RUNS, int(TIMING_S / max(once_s, 1e-9))))
    return compare_latency(models, spec, batch=1, runs=runs, warm_up=2, device=device)


def latency_text(latency: Latency) -> str:
    """How a latency was measured, for a table: `, 1 image, cpu, 2 threads`."""
    threads = f", {plural(latency.threads, 'thread')}" if latency.device == "cpu" else ""
    return f", {plural(latency.batch, 'image')}, {latency.device}{threads}"
