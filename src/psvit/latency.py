"""Measure what layers take on this machine, at several widths; keep it for the next time.

A few smaller models are made, all groups cut by the same share or every other one by half, and
their forwards are run operation by operation, in turns, so that a slow moment meets all of them.
The fastest of several runs counts: what a busy machine adds comes and goes, and is no layer's.
Kernels are made for round widths, and an odd one can take longer than a round one above it. So
such widths are tried as a plan may have: aligned ones where plans are aligned, else odd ones.

The table lies in the user's cache folder (``psvit.places``), under a name that its machine,
versions, threads, dtype, batch and layers decide: a table of another machine is never taken for
this one's. Clocks and neighbours change, too: a table that was measured before is taken at the pace
at which the dense model runs now.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from psvit.allocate import Levels, build_ladders
from psvit.capture.program import Program, inputs_of, prepare_program, walk
from psvit.capture.replay import RecordedModel
from psvit.cost import Latency, LatencyTable, Meter, TimedNode, list_nodes, make_latency
from psvit.errors import OutputError, PlanError
from psvit.evaluate import compare_latency
from psvit.groups import make_plan
from psvit.memory import memory_given_back
from psvit.places import cache_folder
from psvit.records import Figures, Graph, Groups, InputSpec, IntArray, Removal
from psvit.rewrite import resized
from psvit.sensitivity.files import write_whole

VERSION = 2
SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Shares of every group's channels that are cut."""
ROUNDS = 15
"""How often each model is timed."""
SECONDS = 60.0
"""About how long timing may take; slow models get fewer rounds, but FEWEST."""
FEWEST = 3
CHECKS = 40
"""Runs, at most, that a prediction is checked by."""
PACES = 200
"""Runs, at most, that tell the pace: more, as slow moments last a second or two."""

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A smaller model, ready to run: as a program, and whole."""

    removal: Removal
    program: Program
    model: nn.Module


def with_latency(
    meter: Meter,
    graph: Graph,
    groups: Groups,
    *,
    device: str | torch.device = "cpu",
    batch: int = 1,
    align: int = 1,
    say: Say | None = None,
) -> Meter:
    """The meter with latency as one more figure, from the table of this machine.

    It is measured if there is none. ``batch``: images of a forward. ``align``: what plans will be
    aligned to.
    """
    place = torch.device(device)
    nodes = list_nodes(graph, meter.operations)
    machine = describe_machine(place, graph)
    path = table_path(machine, nodes, batch, align)
    table, pace = read_table(path, machine), 1.0
    if table is None:
        if say is not None:
            say("measuring how long layers of several widths take")
        table = measure_table(meter, graph, groups, nodes, machine, place, batch, align)
        with suppress(OutputError):  # a cache that cannot be written costs time, nothing else
            write_whole(path, _to_json(table))
    else:
        pace = _dense_ms(graph, groups, place, batch) / table.models[0][1]
    fields = groups.labels.fields.get("eval", {})
    latency = replace(make_latency(table, nodes, graph, fields), pace=pace)
    return replace(meter, latency=latency)


def _dense_ms(graph: Graph, groups: Groups, device: torch.device, batch: int) -> float:
    """The fastest of a few forwards of the dense model, now."""
    root, forwards = resized(graph, make_plan(graph, groups, {}))
    model, spec = RecordedModel(root, forwards).eval(), graph.inputs[0]
    once = compare_latency([model], spec, batch=batch, runs=1, warm_up=1, device=device)[0]
    runs = _affordable(once.median_ms, SECONDS / 12, most=PACES)
    return compare_latency([model], spec, batch=batch, runs=runs, device=device)[0].fastest_ms


def _affordable(once_ms: float, seconds: float, most: int = CHECKS) -> int:
    """How many runs so many seconds allow, from FEWEST to ``most``."""
    return max(FEWEST, min(most, int(1e3 * seconds / max(once_ms, 1e-6))))


def describe_machine(device: torch.device, graph: Graph) -> dict[str, Any]:
    """What decides how long a layer takes, besides the layer."""
    from importlib.metadata import version

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "device": device.type,
        "name": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "dtype": graph.inputs[0].dtype if graph.inputs else "float32",
        "torch": torch.__version__,
        "psvit": version("psvit"),
        "system": f"{platform.system()} {platform.machine()}",
    }


def table_path(
    machine: Mapping[str, Any], nodes: Sequence[TimedNode], batch: int, align: int = 1
) -> Path:
    """The file of a table; its name says all that it depends on."""
    about = [VERSION, machine, batch, align, [node.kind for node in nodes]]
    text = json.dumps(about, sort_keys=True)
    return cache_folder() / "latency" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def read_table(path: Path, machine: Mapping[str, Any]) -> LatencyTable | None:
    """The table in a file; None if there is none, it is damaged, or of another machine."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["psvit_latency"] != VERSION or data["machine"] != json.loads(json.dumps(machine)):
            return None
        curves = {str(kind): _pairs(curve) for kind, curve in data["curves"].items()}
        return LatencyTable(curves, _pairs(data["models"]), data["machine"], int(data["batch"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _pairs(data: Any) -> list[tuple[float, float]]:
    pairs = [(float(one), float(two)) for one, two in data]
    if not pairs or not all(np.isfinite(pairs).ravel()):
        raise ValueError("a curve without numbers")
    return pairs


def _to_json(table: LatencyTable) -> str:
    data = {
        "psvit_latency": VERSION,
        "machine": dict(table.machine),
        "batch": table.batch,
        "models": table.models,
        "curves": dict(table.curves),
    }
    return json.dumps(data, indent=1) + "\n"


def measure_table(
    meter: Meter,
    graph: Graph,
    groups: Groups,
    nodes: Sequence[TimedNode],
    machine: Mapping[str, Any],
    device: torch.device,
    batch: int,
    align: int = 1,
) -> LatencyTable:
    """Time the operations of models of several widths, and the models as wholes."""
    spec = graph.inputs[0]
    x = spec.zeros(batch).to(device)
    with torch.no_grad():
        candidates = list(_candidates(graph, groups, x, device, align))
        times = _time_nodes(candidates, x, device)
        whole = compare_latency(
            [one.model for one in candidates],
            spec,
            batch=batch,
            runs=2 * len(times[0][0]),
            warm_up=1,
            device=device,
        )
    curves: dict[str, list[tuple[float, float]]] = {}
    sums = []
    fields = groups.labels.fields.get("eval", {})
    dense_shapes = {n: tuple(p.shape) for n, p in graph.module.named_parameters()}
    dense = [node.work(fields, dense_shapes, None) for node in nodes]
    for candidate, series in zip(candidates, times, strict=True):
        shapes, dead = meter.left(candidate.removal)
        ms = _by_node(candidate, series)
        total = 0.0
        found: dict[tuple[str, float], list[float]] = {}
        for node, work in zip(nodes, dense, strict=True):
            share = node.work(fields, shapes, dead) / max(work, 1)
            taken = ms.get(node.node.name, 0.0)
            total += taken
            found.setdefault((node.kind, share), []).append(taken)
        sums.append(total)
        for (kind, share), many in found.items():
            curves.setdefault(kind, []).append((share, statistics.median(many)))
    models = [(one, two.fastest_ms) for one, two in zip(sums, whole, strict=True)]
    return LatencyTable({k: sorted(c) for k, c in curves.items()}, models, machine, batch)


def check_latency(
    latency: Latency,
    before: Figures,
    after: Figures,
    dense: nn.Module,
    small: nn.Module,
    device: str | torch.device,
) -> dict[str, Any]:
    """What was predicted of a pruned model beside what it takes, as plain data.

    Both models are timed in turns; the fastest forwards are compared, as in the table (medians
    stand beside them). ``error`` is relative to what was measured.
    """
    batch = latency.table.batch
    spec = InputSpec(latency.shape, str(latency.table.machine["dtype"]))
    first = compare_latency([dense, small], spec, batch=batch, runs=1, warm_up=1, device=device)
    runs = _affordable(sum(one.median_ms for one in first), SECONDS / 4)
    whole, left = compare_latency([dense, small], spec, batch=batch, runs=runs, device=device)
    wanted, got = after.latency_ms or 0.0, left.fastest_ms
    return {
        "predicted_ms": wanted,
        "measured_ms": got,
        "error": wanted / got - 1,
        "dense_predicted_ms": before.latency_ms,
        "dense_measured_ms": whole.fastest_ms,
        "saved_predicted": 1 - wanted / (before.latency_ms or 1.0),
        "saved_measured": 1 - got / whole.fastest_ms,
        "medians_ms": [whole.median_ms, left.median_ms],
        "runs": runs,
        "batch": batch,
        "machine": dict(latency.table.machine),
    }


def _candidates(
    graph: Graph, groups: Groups, x: torch.Tensor, device: torch.device, align: int
) -> Iterator[_Candidate]:
    """The dense model first."""
    ladders = build_ladders(graph, groups, align)
    ties = [tie for tie, rungs in ladders.rungs.items() if len(rungs) > 1]

    def level(tie: int, share: float) -> int:
        """The rung next to a share, with an odd number left if plans may be so."""
        cell, rungs = ladders.cell[tie], ladders.rungs[tie][1:]
        odd = [rung for rung in rungs if (cell - rung) % 2 and align == 1]
        return min(odd or rungs, key=lambda rung: abs(rung - share * cell))

    choices: list[Levels] = [{}]
    choices += [{tie: level(tie, share) for tie in ties} for share in SHARES]
    choices += [{tie: level(tie, 0.5) for tie in ties[start::2]} for start in (0, 1)]
    for levels in choices:
        removal = _first_channels(groups, levels)
        try:
            plan = make_plan(graph, groups, removal)
        except PlanError:  # these widths leave some tensor no shape
            continue
        root, forwards = resized(graph, plan)
        root.to(device).eval()
        program = prepare_program(root, forwards["eval"], (x,))
        yield _Candidate(removal, program, RecordedModel(root, forwards).eval())


def _first_channels(groups: Groups, levels: Levels) -> dict[int, list[int]]:
    """Which channels go does not matter to time."""
    removal: dict[int, list[int]] = {}
    for group in groups:
        count = levels.get(group.tie, 0)
        if count:
            cells: list[IntArray] = [np.sort(np.asarray(cell))[:count] for cell in group.cells]
            removal[group.id] = [int(c) for c in np.sort(np.concatenate(cells))]
    return removal


@memory_given_back()
def _time_nodes(
    candidates: Sequence[_Candidate], x: torch.Tensor, device: torch.device
) -> list[list[list[float]]]:
    """Milliseconds by candidate, node and round."""
    times: list[list[list[float]]] = [[[] for _ in one.program.nodes] for one in candidates]
    rounds, start = ROUNDS, time.perf_counter()
    done = -1  # the first round warms up
    while done < rounds:
        for candidate, series in zip(candidates, times, strict=True):
            taken = _run_timed(candidate.program, x, device)
            if done >= 0:
                for one, ms in zip(series, taken, strict=True):
                    one.append(ms)
        done += 1
        if time.perf_counter() - start > SECONDS / 2:
            rounds = max(done, FEWEST)
    return times


def _run_timed(program: Program, x: torch.Tensor, device: torch.device) -> list[float]:
    marks = []
    for _ in walk(program, inputs_of(program, (x,)), 0, len(program.nodes)):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        marks.append(time.perf_counter())
    marks.append(time.perf_counter())
    return [1e3 * (after - before) for before, after in pairwise(marks)]


def _by_node(candidate: _Candidate, series: Sequence[Sequence[float]]) -> dict[str, float]:
    return {node.name: min(one) for node, one in zip(candidate.program.nodes, series, strict=True)}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
