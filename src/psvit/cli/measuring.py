"""Accuracy, firing and latency of models, with their progress, as figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from psvit.capture import capture
from psvit.cli.console import note, stages, watch
from psvit.cost import energy_pj, observe
from psvit.data import Batches
from psvit.errors import MissingExtra, ModelError
from psvit.evaluate import Latency, accuracy, compare_latency
from psvit.records import Figures, InputSpec
from psvit.report.units import plural

TIMING_S = 6.0
"""About how long timing may take altogether."""
FEWEST_RUNS, MOST_RUNS = 5, 40
FIRING_IMAGES = 256
"""Images on which firing rates are measured: rates vary little from image to image."""
TOP5_CLASSES = 100
"""With fewer, top-5 accuracy is not customary."""
MEMORY_IMAGES = 8
"""Images on which SpikingJelly counts memory traffic, which is slow."""


def with_accuracy(
    figures: Figures, model: nn.Module, data: Batches, title: str, device: torch.device
) -> Figures:
    """`figures` with the accuracy of `model` on `data`."""
    with watch(f"accuracy {title}") as tick:
        got = accuracy(model, data, device=device, progress=tick)
    low, high = got.interval
    figures = replace(figures, accuracy=got.top1, accuracy_low=low, accuracy_high=high, n=got.n)
    if got.classes < TOP5_CLASSES or got.interval_top5 is None:
        return figures
    low, high = got.interval_top5
    return replace(figures, top5=got.top5, top5_low=low, top5_high=high)


def with_firing(
    figures: Figures,
    model: nn.Module,
    example: torch.Tensor,
    data: Batches,
    title: str,
    device: torch.device,
    seed: int,
) -> tuple[Figures, Mapping[str, Any]]:
    """`figures` with SOPs and energy of `model` on `data`, and what they come from.

    That is `rates` (`psvit.cost.Rates` as plain data) and, where SpikingJelly is installed,
    `memory_energy` (`psvit.cost.jelly`). Nothing of a model that cannot be recorded or run so:
    that is noted.
    """
    try:
        with watch(f"firing rates {title}, images") as tick:
            graph = capture(model, example, check=False)
            images = data.info.images or FIRING_IMAGES
            rates = observe(
                graph,
                data,
                limit=min(images, FIRING_IMAGES),
                seed=seed,
                device=device,
                progress=tick,
            ).rates
    except ModelError as error:
        note(f"SOPs and energy are not measured: {error}")
        return figures, {}
    found: dict[str, Any] = {"rates": rates.to_dict()}
    try:
        # Here, not above: it needs SpikingJelly, which a user's own neurons do without.
        from psvit.cost.jelly import memory_energy

        with stages() as stage:
            stage(f"memory traffic {title}")
            traffic = memory_energy(model, data, limit=MEMORY_IMAGES, device=device)
        found["memory_energy"] = traffic.to_dict()
    except (MissingExtra, ModelError) as error:
        note(f"memory traffic is not counted: {error}")
    energy = energy_pj(rates.macs, rates.sops)
    return replace(figures, sops=rates.sops, energy_pj=energy), found


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
    with stages() as stage:
        stage("latency of one image")
        trial = compare_latency(models, spec, batch=1, runs=1, warm_up=1, device=device)
        once_s = sum(one.median_ms for one in trial) / 1e3
        runs = max(FEWEST_RUNS, min(MOST_RUNS, int(TIMING_S / max(once_s, 1e-9))))
        return compare_latency(models, spec, batch=1, runs=runs, warm_up=2, device=device)


def latency_text(latency: Latency) -> str:
    """How a latency was measured, for a table: `, 1 image, cpu, 2 threads`."""
    threads = f", {plural(latency.threads, 'thread')}" if latency.device == "cpu" else ""
    return f", {plural(latency.batch, 'image')}, {latency.device}{threads}"
