"""Which operations the time of a forward goes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from psvit.capture import capture
from psvit.capture.copying import private_copy
from psvit.inference import for_inference, recorded
from psvit.neurons import reset_state
from psvit.records import InputSpec

TOP = 8


@dataclass(frozen=True)
class Operation:
    """Time spent in an operation itself, in all its calls of one forward."""

    name: str
    ms: float
    share: float
    calls: int


def hot_operations(
    model: nn.Module, spec: InputSpec, *, device: str | torch.device = "cpu", batch: int = 1
) -> Mapping[str, tuple[Operation, ...]]:
    """The operations that take longest, of the model as it is and of ``psvit.faster`` of it.

    By time of the device: of the CPU's operators, or of CUDA's kernels.
    """
    device = torch.device(device)
    x = spec.zeros(batch).to(device)
    stock = private_copy(model).eval().to(device)
    fast = recorded(for_inference(capture(model, spec.zeros(2), check=False))).to(device)

    def eager() -> Any:
        reset_state(stock)
        return stock(x)

    runs: Mapping[str, Callable[[], Any]] = {"eager": eager, "faster": lambda: fast(x)}
    return {name: _profiled(run, device) for name, run in runs.items()}


def _profiled(run: Callable[[], Any], device: torch.device) -> tuple[Operation, ...]:
    cuda = device.type == "cuda"
    with torch.no_grad():
        run()
        with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as found:
            run()
            if cuda:
                torch.cuda.synchronize(device)
    events = found.key_averages()
    own = {e: e.self_device_time_total if cuda else e.self_cpu_time_total for e in events}
    total = sum(own.values()) or 1.0
    slowest = sorted(events, key=lambda e: -own[e])[:TOP]
    return tuple(Operation(e.key, own[e] / 1e3, own[e] / total, int(e.count)) for e in slowest)
