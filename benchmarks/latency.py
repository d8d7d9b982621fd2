"""How near the predicted latency of random plans comes to the measured one.

    python -m benchmarks.latency [MODEL ...] [--plans 12] [--batch 1] [--device cpu] [--align 1]

For each model the table of its layers is measured anew (psvit.latency), then plans that cut every
group by a random number of channels are predicted, made and timed, beside the dense model in turns;
each prediction by itself, as `psvit prune --save latency=` makes one.
Reported are the relative errors of the predicted time, and of the predicted share that is left,
which a drifting clock of the machine touches less. Writes benchmarks/results/latency-<date>.md and
.json. About two minutes a model on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import torch

import psvit
from psvit.allocate import pose
from psvit.cli.inputs import open_model
from psvit.cost import prepare
from psvit.groups import make_plan
from psvit.latency import check_latency, with_latency
from psvit.models.registry import MODELS

RESULTS = Path(__file__).parent / "results"


def examine(name: str, plans: int, batch: int, device: str, align: int = 1) -> list[dict[str, Any]]:
    """The checks of random plans of a model."""
    loaded = open_model(name, [], None, allow_partial=False, seed=0)
    graph = psvit.capture(loaded.model, torch.rand(2, *MODELS[name].example[1:]))
    groups = psvit.find_groups(graph)
    scores, plain = psvit.saliency(graph, groups), prepare(graph, groups)
    problem = pose(graph, groups, scores, {"memory": 0.5}, align)
    draw, checks = random.Random(0), []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PSVIT_CACHE"] = folder
        with_latency(plain, graph, groups, device=device, batch=batch, align=align)
        while len(checks) < plans:
            levels = {tie: draw.choice(rungs) for tie, rungs in problem.ladders.rungs.items()}
            removal = problem.removal(levels)
            small = psvit.rewrite(graph, make_plan(graph, groups, removal))
            meter = with_latency(plain, graph, groups, device=device, batch=batch, align=align)
            assert meter.latency is not None
            figures = meter.measure({}), meter.measure(removal)
            checks.append(check_latency(meter.latency, *figures, loaded.model, small, device))
            print(f"{name}: {checks[-1]['error']:+.1%}", file=sys.stderr, flush=True)
    return checks


def summary(name: str, checks: list[dict[str, Any]]) -> str:
    """A row of the table."""
    errors = [abs(c["error"]) for c in checks]
    shares = [abs((1 - c["saved_predicted"]) / (1 - c["saved_measured"]) - 1) for c in checks]
    return (
        f"| {name} | {checks[0]['dense_measured_ms']:.1f} | {statistics.median(errors):.1%} "
        f"| {max(errors):.1%} | {statistics.median(shares):.1%} | {max(shares):.1%} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="*", default=["sdt-cifar10", "meta-spikeformer-15m"])
    parser.add_argument("--plans", type=int, default=12)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--align", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    names = options.models or ["sdt-cifar10", "meta-spikeformer-15m"]
    found = {
        n: examine(n, options.plans, options.batch, options.device, options.align) for n in names
    }
    machine = next(iter(found.values()))[0]["machine"]
    lines = [
        f"# Predicted latency of random plans, {date.today().isoformat()}",
        "",
        f"`python -m benchmarks.latency {' '.join(names)} --plans {options.plans} --batch "
        f"{options.batch} --device {options.device} --align {options.align}` on {machine['name']}, "
        f"{machine['threads']} thread(s), torch {machine['torch']}, {platform.system()}. "
        "Relative errors; of the time, and of the share of the dense model's time that is left.",
        "",
        "| model | dense, ms | time: median | worst | share: median | worst |",
        "|---|---|---|---|---|---|",
        *(summary(name, checks) for name, checks in found.items()),
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / f"latency-{date.today().isoformat()}"
    stem.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
