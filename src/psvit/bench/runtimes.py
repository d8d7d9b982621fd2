"""What runs a model: PyTorch in several ways, ONNX Runtime, OpenVINO.

Each turns a model into a function of images ``[B, C, H, W]`` that starts from neurons at rest.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from psvit.errors import OptionError
from psvit.export import format_of, trace
from psvit.inference.layout import channels_last
from psvit.neurons import reset_state

Forward = Callable[[torch.Tensor], Any]


@dataclass(frozen=True)
class Runtime:
    """``prepare`` takes a model, in eval mode where it is to run, and two example images.

    ``simplified``: it gets ``psvit.faster`` of the model. ``packages``: what has to be installed.
    ``device``: the one kind of device that it is timed on; None for any.
    """

    prepare: Callable[[nn.Module, torch.Tensor], Forward]
    simplified: bool = True
    packages: tuple[str, ...] = ()
    device: str | None = None


def _eager(model: nn.Module, example: torch.Tensor) -> Forward:
    """The model as it is, its neurons reset before each forward."""

    def run(x: torch.Tensor) -> Any:
        reset_state(model)
        return model(x)

    return run


def _faster(model: nn.Module, example: torch.Tensor) -> Forward:
    """``psvit.faster``: norms folded, neurons in one pass, on a CPU channels last."""
    if example.device.type == "cpu":
        channels_last(model, [example])
    return model


def _compiled(model: nn.Module, example: torch.Tensor) -> Forward:
    """``torch.compile`` of that, for one shape at a time."""
    compiled: Forward = torch.compile(model, dynamic=False)
    return compiled


def _cuda_graph(model: nn.Module, example: torch.Tensor) -> Forward:
    """That as a CUDA graph, one for each shape: no time between kernels."""
    graphs: dict[torch.Size, tuple[torch.cuda.CUDAGraph, torch.Tensor, Any]] = {}

    def run(x: torch.Tensor) -> Any:
        if x.shape not in graphs:
            graphs.clear()  # the memory of the last shape is not needed any more
            graphs[x.shape] = _recorded(model, x)
        graph, held, out = graphs[x.shape]
        held.copy_(x)
        graph.replay()
        return out

    return run


def _exported(format: str, model: nn.Module, example: torch.Tensor) -> Forward:
    """What runs it once it is written in a format of ``psvit.export``."""
    chosen = format_of(format)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{chosen.suffix}"
        chosen.write(trace(model, example), path)
        return chosen.read(path)


def _recorded(model: Forward, x: torch.Tensor) -> tuple[torch.cuda.CUDAGraph, torch.Tensor, Any]:
    held = x.clone()
    side = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(x.device))
    with torch.cuda.stream(side):  # what is chosen and compiled at first use
        for _ in range(2):
            model(held)
    torch.cuda.current_stream(x.device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = model(held)
    return graph, held, out


RUNTIMES: Mapping[str, Runtime] = {
    "eager": Runtime(_eager, simplified=False),
    "faster": Runtime(_faster),
    "compiled": Runtime(_compiled),
    "cuda-graph": Runtime(_cuda_graph, device="cuda"),
    "onnxruntime": Runtime(
        partial(_exported, "onnx"), packages=("onnx", "onnxscript", "onnxruntime"), device="cpu"
    ),
    "openvino": Runtime(
        partial(_exported, "openvino"),
        packages=("openvino", "onnx", "onnxscript", "onnxruntime"),
        device="cpu",
    ),
}
"""Name -> how a model is made ready for it."""


def usable_runtimes(device: torch.device) -> tuple[str, ...]:
    """The runtimes that run here, on ``device``."""
    return tuple(name for name in RUNTIMES if why_unusable(name, device) is None)


def why_unusable(name: str, device: torch.device) -> str | None:
    """Why a runtime does not run here; None if it does. Raises OptionError for an unknown one."""
    if name not in RUNTIMES:
        raise OptionError(f"no runtime is called {name!r}: expected some of {', '.join(RUNTIMES)}")
    runtime = RUNTIMES[name]
    if runtime.device not in (None, device.type):
        return f"it is timed on {runtime.device} only"
    missing = [p for p in runtime.packages if importlib.util.find_spec(p) is None]
    extra = "openvino" if name == "openvino" else "onnx"
    return f"{missing[0]} is missing: pip install 'psvit[{extra}]'" if missing else None
