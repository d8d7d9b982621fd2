"""How a sensitivity analysis scales with processes that share its journal, one thread each.

    python benchmarks/scaling.py [--model spikformer-digits] [--data digits] [--processes 1 2]

Wall time from the moment all processes have loaded model and data until the last is done, the
median of --runs runs, in turns. Every process analyses every point on all --n images (no racing),
so that the work is the same. Checks that all of them come to the same result. Writes
benchmarks/results/scaling-MODEL-<date>.md.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import torch

RESULTS = Path(os.path.relpath(Path(__file__).parent / "results"))


def work(options: argparse.Namespace) -> None:
    """One process: load, wait for the start, take part, and print a hash of the result."""
    import psvit
    from psvit.data import open_data
    from psvit.models import build, find_entry
    from psvit.sensitivity import curves_to_json

    torch.set_num_threads(1)
    entry = find_entry(options.model)
    model = build(options.model)
    recipe = None
    if options.data != "digits":
        from psvit.data import RECIPES

        recipe = RECIPES[entry.recipe]
    loader = open_data(
        options.data,
        split="train",
        recipe=recipe,
        limit=options.n,
        shuffle=True,
        only=recipe is not None,
    )
    batches = [(x, y) for x, y in loader]
    graph = psvit.capture(model, batches[0][0][:2])
    groups = psvit.find_groups(graph)
    scores = psvit.saliency(graph, groups, "l1")
    folder = options.work
    (folder / f"ready-{os.getpid()}").touch()
    while not (folder / "go").exists():
        time.sleep(0.005)
    curves = psvit.sensitivity(
        graph, groups, scores, batches, n=options.n, journal=folder / "journal"
    )
    print(hashlib.sha256(curves_to_json(curves).encode()).hexdigest())


def timed(options: argparse.Namespace, count: int) -> tuple[float, set[str]]:
    """Wall seconds of ``count`` processes, and the hashes of their results."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, __file__, "--work", name, "--model", options.model]
        command += ["--data", options.data, "--n", str(options.n)]
        team = [
            subprocess.Popen(
                command,
                env={
                    **os.environ,
                    "RANK": str(i),
                    "WORLD_SIZE": str(count),
                    "OMP_NUM_THREADS": "1",
                },
                stdout=subprocess.PIPE,
                text=True,
            )
            for i in range(count)
        ]
        while len(list(folder.glob("ready-*"))) < count:
            if any(one.poll() not in (None, 0) for one in team):
                raise SystemExit("a process failed before the start")
            time.sleep(0.05)
        (folder / "go").touch()
        start = time.perf_counter()
        found = {one.communicate()[0].strip() for one in team}
        return time.perf_counter() - start, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--model", default="spikformer-digits")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work is not None:
        work(options)
        return
    seconds: dict[int, list[float]] = {count: [] for count in options.processes}
    results: set[str] = set()
    for _ in range(options.runs):
        for count in options.processes:
            took, found = timed(options, count)
            seconds[count].append(took)
            results |= found
            print(f"{count} processes: {took:.2f} s", flush=True)
    one = statistics.median(seconds[options.processes[0]])
    lines = [
        f"# An analysis in several processes, {options.model}, {date.today()}",
        "",
        f"`{shlex.join(['python', *sys.argv])}` on {platform.machine()}, {os.cpu_count()} cores, "
        f"torch {torch.__version__}, one thread a process; {options.n} images, medians of "
        f"{options.runs} runs in turns. Results of all processes and runs "
        f"{'are the same, byte for byte' if len(results) == 1 else 'DIFFER'}.",
        "",
        "| processes | seconds | speed-up |",
        "|---|---|---|",
    ]
    for count, times in seconds.items():
        middle = statistics.median(times)
        spread = f"{min(times):.2f}-{max(times):.2f}"
        lines.append(f"| {count} | {middle:.2f} ({spread}) | {one / middle:.2f} |")
    path = RESULTS / f"scaling-{options.model}-{date.today()}.md"
    path.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
