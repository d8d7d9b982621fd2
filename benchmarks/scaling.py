"""How work scales with processes that share a journal, one thread each.

    python -m benchmarks.scaling [--model spikformer-digits] [--data digits] [--processes 1 2]

Three jobs: `analysis` looks at every point on all --n images, `race` is what `psvit sensitivity`
does, `evaluation` counts the accuracy on --n images. Wall time from the moment all processes have
loaded model and data until the last has its result: the median of --runs runs, in turns. As many
processes that share nothing, each with the whole job, show what the machine itself gives: with
perfect sharing, N processes are faster by N times the time of one alone over the time of N that run
beside one another. Checks that all processes come to the same result. Writes
benchmarks/results/scaling-MODEL-<date>.md and .json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import astuple
from datetime import date
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(os.path.relpath(Path(__file__).parent / "results"))
JOBS = ("analysis", "race", "evaluation")


def job_of(options: argparse.Namespace) -> Callable[[Path], str]:
    """The job, ready to begin with a journal; it returns its result as text."""
    import psvit
    from psvit.data import RECIPES, open_data
    from psvit.evaluate import accuracy_in_parts
    from psvit.evaluate.parts import part_size
    from psvit.models import build, find_entry
    from psvit.sensitivity import Race, curves_to_json

    entry, model = find_entry(options.model), build(options.model)
    loader = open_data(
        options.data,
        split="train",
        recipe=None if options.data == "digits" else RECIPES[entry.recipe],
        limit=options.n,
        shuffle=True,
        only=options.data != "digits",
    )
    if options.job == "evaluation":
        parts = [list(part) for part in loader.parts(part_size(options.n))]
        return lambda journal: str(astuple(accuracy_in_parts(model, parts, journal, {})))
    batches = [(x, y) for x, y in loader]
    graph = psvit.capture(model, batches[0][0][:2])
    groups = psvit.find_groups(graph)
    scores = psvit.saliency(graph, groups, "l1")
    race = Race() if options.job == "race" else None
    return lambda journal: curves_to_json(
        psvit.sensitivity(graph, groups, scores, batches, n=options.n, journal=journal, race=race)
    )


def work(options: argparse.Namespace) -> None:
    """One process: load, wait for the start, take part; print when it was done, and a hash."""
    torch.set_num_threads(1)
    job, folder = job_of(options), options.work
    (folder / f"ready-{os.getpid()}").touch()
    while not (folder / "go").exists():
        time.sleep(0.005)
    found = job(folder / (f"journal-{os.getpid()}" if options.apart else "journal"))
    print(time.time(), hashlib.sha256(found.encode()).hexdigest())


def timed(options: argparse.Namespace, job: str, count: int, apart: bool) -> tuple[float, set[str]]:
    """Wall seconds of ``count`` processes, and the hashes of their results."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, __file__, "--work", name, "--model", options.model, "--job", job]
        command += ["--data", options.data, "--n", str(options.n), *(["--apart"] if apart else [])]
        team = [
            subprocess.Popen(
                command,
                env={**os.environ, **environment(i, 1 if apart else count)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for i in range(count)
        ]
        while len(list(Path(name).glob("ready-*"))) < count:
            if any(one.poll() not in (None, 0) for one in team):
                raise SystemExit("a process failed before the start")
            time.sleep(0.05)
        (Path(name) / "go").touch()
        start = time.time()
        found = [one.communicate()[0].split() for one in team]
    return max(float(end) for end, _ in found) - start, {result for _, result in found}


def environment(rank: int, count: int) -> dict[str, str]:
    """As torchrun sets it."""
    return {"RANK": str(rank % count), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}


def measure(options: argparse.Namespace, job: str) -> dict[str, Any]:
    """Seconds by number of processes, sharing and apart, and whether all results are the same."""
    counts = options.processes
    kinds = [(n, False) for n in counts] + [(n, True) for n in counts if n > 1]
    seconds: dict[tuple[int, bool], list[float]] = {kind: [] for kind in kinds}
    results: set[str] = set()
    for _ in range(options.runs):
        for kind in kinds:
            took, found = timed(options, job, *kind)
            seconds[kind].append(took)
            results |= found
            print(f"{job}: {kind[0]} {'apart' if kind[1] else 'together'} {took:.2f} s", flush=True)
    one = statistics.median(seconds[counts[0], False])
    rows = [
        {
            "processes": n,
            "seconds": seconds[n, False],
            "speed_up": one / statistics.median(seconds[n, False]),
            "apart_seconds": seconds.get((n, True)),
            "most": n * one / statistics.median(seconds[n, True]) if n > 1 else 1.0,
        }
        for n in counts
    ]
    return {"job": job, "same": len(results) == 1, "rows": rows}


def table(found: list[dict[str, Any]]) -> list[str]:
    """Markdown."""
    lines = [
        "| job | processes | seconds (range) | speed-up | with perfect sharing | results |",
        "|---|---|---|---|---|---|",
    ]
    for job in found:
        same = "the same, byte for byte" if job["same"] else "DIFFER"
        for row in job["rows"]:
            times = row["seconds"]
            lines.append(
                f"| {job['job']} | {row['processes']} | {statistics.median(times):.2f} "
                f"({min(times):.2f}-{max(times):.2f}) | {row['speed_up']:.2f} | {row['most']:.2f} "
                f"| {same} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--model", default="spikformer-digits")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--n", type=int, default=1024)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--apart", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work is not None:
        work(options)
        return
    found = [measure(options, job) for job in options.jobs]
    command = shlex.join(["python", "-m", "benchmarks.scaling", *sys.argv[1:]])
    lines = [
        f"# Work in several processes, {options.model}, {date.today()}",
        "",
        f"`{command}` on {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, "
        f"one thread a process; {options.n:,} images, medians of {options.runs} runs in turns.",
        "",
        *table(found),
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / f"scaling-{options.model}-{date.today()}"
    stem.with_suffix(".json").write_text(
        json.dumps({"command": command, "jobs": found}, indent=1) + "\n"
    )
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
