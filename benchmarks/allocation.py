"""How long the exact allocation takes to prove its optimum, at the size of large models.

    python benchmarks/allocation.py [--groups 100] [--ratios 8] [--seeds 5] [--budgets 0.224 0.4]

Each instance has as many ties of groups as --groups, with widths from 64 to 512, and sensitivity
curves measured at --ratios ratios: convex and concave, of heights over four orders of magnitude.
Every weight lies between two of them, as in a transformer: in "one stream" each tie shares a
weight with one residual stream, in "four stages" with the stream of its stage, and streams with
one another, in "chain" with the tie before and after it. Budgets in memory and in MACs (to which
weights contribute 1, 4 or 16 times as much) hold at once. Timed is the whole program: building
it, and HiGHS until it has proven the optimum (relative gap 1e-7); prices are given. Writes
benchmarks/results/allocation-<date>.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from psvit.allocate.program import Program, solve

RESULTS = Path(__file__).parent / "results"
SHAPES = ("one stream", "four stages", "chain")
LIMIT_S = 60.0


def pairs_of(shape: str, groups: int) -> list[tuple[int, int]]:
    """The ties that share a weight."""
    if shape == "chain":
        return list(pairwise(range(groups)))
    stages = 1 if shape == "one stream" else 4
    members = [(tie * stages // groups, tie) for tie in range(stages, groups)]
    return [*members, *pairwise(range(stages))]


def instance(shape: str, groups: int, ratios: int, budget: float, seed: int) -> Program:
    """A program with dense weights between the ties of each pair."""
    random = np.random.default_rng(seed)
    width = random.integers(64, 513, groups)
    levels = {
        tie: sorted({0, *(round(r * w) for r in np.linspace(0, 0.95, ratios + 1)[1:])})
        for tie, w in enumerate(width.tolist())
    }
    loss = {}
    for tie, ks in levels.items():
        height, power = 10 ** random.uniform(-3, 1), random.uniform(0.5, 3)
        noisy = height * (np.array(ks) / width[tie]) ** power * random.uniform(0.8, 1.2, len(ks))
        loss[tie] = np.maximum.accumulate(noisy).tolist()
    pairs = pairs_of(shape, groups)
    repeats = {"memory": np.ones(len(pairs)), "macs": random.choice([1, 4, 16], len(pairs))}
    saves: dict[str, dict[int, list[float]]] = {}
    twice: dict[tuple[int, int], dict[str, float]] = {pair: {} for pair in pairs}
    for unit, times in repeats.items():
        each = np.zeros(groups)
        total = 0.0
        for (a, b), n in zip(pairs, times.tolist(), strict=True):
            each[a] += n * width[b]
            each[b] += n * width[a]
            total += n * width[a] * width[b]
            twice[a, b][unit] = n
        saves[unit] = {
            tie: [float(each[tie] / total * k) for k in ks] for tie, ks in levels.items()
        }
        for pair in pairs:
            twice[pair][unit] /= total
    return Program(levels, loss, saves, twice, {"memory": budget, "macs": 0.9 * budget})


def first_uniform(program: Program) -> float:
    """The loss of the first uniform plan that meets the budgets: what the solver starts from."""
    most = max(len(ks) for ks in program.candidates.values())
    for step in range(most):
        picks = {t: min(step, len(ks) - 1) for t, ks in program.candidates.items()}
        level = {t: program.candidates[t][k] for t, k in picks.items()}
        if all(
            sum(program.saves[u][t][k] for t, k in picks.items())
            - sum(share[u] * level[a] * level[b] for (a, b), share in program.twice.items())
            >= goal
            for u, goal in program.goals.items()
        ):
            return sum(program.loss[t][k] for t, k in picks.items())
    raise SystemExit("the budget cannot be met")


def measure(shape: str, budget: float, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds to the proven optimum of one instance."""
    program = instance(shape, arguments.groups, arguments.ratios, budget, seed)
    upper = first_uniform(program)
    start, cpu = time.perf_counter(), time.process_time()
    solved = solve(program, upper, LIMIT_S)
    return {
        "shape": shape,
        "budget": budget,
        "seed": seed,
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "proven": solved.proven,
        "bound": solved.bound,
        "uniform_loss": upper,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line per shape and budget, over the seeds."""
    lines = [
        "| shape | budget | proven | wall s, median | wall s, most | CPU s, median | CPU s, most |",
        "|---|---|---|---|---|---|---|",
    ]
    for shape in SHAPES:
        for budget in sorted({row["budget"] for row in rows}):
            mine = [r for r in rows if r["shape"] == shape and r["budget"] == budget]
            wall = [r["seconds"] for r in mine]
            cpu = [r["cpu_seconds"] for r in mine]
            lines.append(
                f"| {shape} | {budget:.1%} | {sum(r['proven'] for r in mine)}/{len(mine)} | "
                f"{np.median(wall):.2f} | {max(wall):.2f} | {np.median(cpu):.2f} | "
                f"{max(cpu):.2f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=int, default=100)
    parser.add_argument("--ratios", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.1, 0.224, 0.4, 0.5])
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows = []
    for shape in SHAPES:
        for budget in arguments.budgets:
            for seed in range(arguments.seeds):
                rows.append(measure(shape, budget, seed, arguments))
                print(rows[-1], flush=True)
    where = (
        f"{arguments.groups} groups x {arguments.ratios} ratios, budgets in memory and MACs. "
        f"{date.today()}, {platform.machine()}, {os.cpu_count()} CPUs, load "
        f"{os.getloadavg()[0]:.1f}, Python {platform.python_version()}, SciPy {scipy.__version__}"
    )
    text = f"# Allocation: time to the proven optimum\n\n{where}\n\n{table(rows)}\n"
    print(text)
    arguments.out.mkdir(exist_ok=True, parents=True)
    stem = arguments.out / f"allocation-{date.today()}"
    stem.with_suffix(".json").write_text(
        json.dumps({"where": where, "rows": rows}, indent=1) + "\n"
    )
    stem.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
