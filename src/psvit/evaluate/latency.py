"""How long one forward takes: the median of several runs, after a warm-up.

On a busy machine the speed drifts, so two models are timed in turns, run by run, and not one
after the other.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from psvit.evaluate.accuracy import logits_of
from psvit.memory import memory_given_back
from psvit.neurons import reset_state
from psvit.records import InputSpec


@dataclass(frozen=True)
class Latency:
    """Times of one forward of `batch` images, all T steps, in milliseconds."""

    median_ms: float
    fastest_ms: float
    slowest_ms: float
    runs: int
    batch: int
    threads: int
    device: str


def latency(
    model: nn.Module,
    spec: InputSpec,
    *,
    batch: int = 1,
    runs: int = 20,
    warm_up: int = 3,
    device: str | torch.device = "cpu",
) -> Latency:
    """Time eval-mode forwards of `model` on zeros shaped like `spec`.

    Raises ModelError if the forward fails on them.
    """
    return compare_latency([model], spec, batch=batch, runs=runs, warm_up=warm_up, device=device)[0]


@memory_given_back()
def compare_latency(
    models: Sequence[nn.Module],
    spec: InputSpec,
    *,
    batch: int = 1,
    runs: int = 20,
    warm_up: int = 3,
    device: str | torch.device = "cpu",
) -> list[Latency]:
    """Time several models in turns, so that a slow moment meets all of them.

    Modes, devices and neuron states are restored.
    """
    device = torch.device(device)
    x = spec.zeros(batch).to(device)
    times: list[list[float]] = [[] for _ in models]
    saved = [{module: module.training for module in model.modules()} for model in models]
    homes = [next((p.device for p in model.parameters()), device) for model in models]
    try:
        for model in models:
            model.to(device).eval()
        with torch.no_grad():
            for model in models:
                reset_state(model)
                logits_of(model, x)  # tells a wrong shape in words, once
            for run in range(warm_up + runs):
                for model, series in zip(models, times, strict=True):
                    elapsed = _time_ms(model, x, device)
                    if run >= warm_up:
                        series.append(elapsed)
    finally:
        for model, modes, home in zip(models, saved, homes, strict=True):
            reset_state(model)
            for module, mode in modes.items():
                module.training = mode
            model.to(home)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    threads = torch.get_num_threads()
    return [
        Latency(statistics.median(s), min(s), max(s), runs, batch, threads, name) for s in times
    ]


def _time_ms(model: nn.Module, x: torch.Tensor, device: torch.device) -> float:
    reset_state(model)
    _wait(device)
    start = time.perf_counter()
    model(x)
    _wait(device)
    return (time.perf_counter() - start) * 1e3


def _wait(device: torch.device) -> None:
    """Kernels of an accelerator run behind the program's back: wait for them."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
