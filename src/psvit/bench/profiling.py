"""Which kinds of operation the time of a forward goes to, and what pruning does to each."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from psvit.bench.timing import CLOCKS, wait_for
from psvit.capture import capture
from psvit.capture.copying import private_copy
from psvit.capture.program import Program, inputs_of, prepare_program, walk
from psvit.inference import fastest, for_inference
from psvit.inference.layout import Pointwise
from psvit.records import InputSpec

KINDS = ("convolutions and linear layers", "neurons", "norms", "products", "pooling", "the rest")
_PRODUCTS = frozenset({"matmul", "bmm", "mm", "einsum", "__matmul__"})


@dataclass(frozen=True)
class Part:
    """Milliseconds of a forward that go to operations of a kind, by model."""

    kind: str
    ms: Mapping[str, float]


def time_by_kind(
    models: Mapping[str, nn.Module],
    spec: InputSpec,
    *,
    simplified: bool,
    device: str | torch.device = "cpu",
    batch: int = 1,
    rounds: int = 9,
    clock: str = "wall",
) -> tuple[Part, ...]:
    """Where the time of each model's forward goes, operation by operation, in turns; medians.

    ``simplified``: of ``psvit.faster`` of each. What Python itself takes counts with the operation
    that it calls.
    """
    device = torch.device(device)
    x = spec.zeros(batch).to(device)
    with torch.no_grad():
        programs = {key: _program(m, spec, simplified, device) for key, m in models.items()}
        times: dict[str, list[list[float]]] = {key: [] for key in programs}
        for _ in range(rounds + 1):
            for key, program in programs.items():
                times[key].append(_run(program, x, device, clock))
    found: dict[str, dict[str, float]] = {kind: dict.fromkeys(models, 0.0) for kind in KINDS}
    for key, program in programs.items():
        for node, own in zip(program.nodes, zip(*times[key][1:], strict=True), strict=True):
            found[_kind(program, node)][key] += statistics.median(own)
    return tuple(Part(kind, ms) for kind, ms in found.items())


def _program(model: nn.Module, spec: InputSpec, simplified: bool, device: torch.device) -> Program:
    example = spec.zeros(2).to(device)
    graph = capture(private_copy(model).to(device), example, check=False)
    run = fastest(for_inference(graph), example) if simplified else graph.module.eval()
    return prepare_program(run, graph.forwards["eval"], (example,))


def _run(program: Program, x: torch.Tensor, device: torch.device, clock: str) -> list[float]:
    read, marks = CLOCKS[clock], []
    for _ in walk(program, inputs_of(program, (x,)), 0, len(program.nodes)):
        wait_for(device)
        marks.append(read())
    marks.append(read())
    return [1e3 * (after - before) for before, after in pairwise(marks)]


def _kind(program: Program, node: fx.Node) -> str:
    module = program.modules.get(node)
    if module is None:
        name = str(getattr(node.target, "__name__", node.target))
        return "products" if name in _PRODUCTS else "the rest"
    if hasattr(module, "v_threshold"):
        return "neurons"
    if isinstance(module, _ConvNd | Pointwise | nn.Linear):
        return "convolutions and linear layers"
    if isinstance(module, _BatchNorm | nn.LayerNorm | nn.GroupNorm):
        return "norms"
    return "pooling" if "Pool" in type(module).__name__ else "the rest"
