"""Throughput and latency of dense, pruned and masked models, in turns, in several runtimes.

    python -m benchmarks.speed                                 # CPU: a small model, and 224x224
    python -m benchmarks.speed --device cuda                   # both ImageNet models, all batches
    python -m benchmarks.speed --device cuda --quick           # the same in about a minute

Models are pruned uniformly by L1, widths rounded to multiples of --align, and then timed with
random images: neither weights nor images change how long a dense kernel takes. Each table has the
ratio of multiply-accumulates beside the measured speed-up, and what share of it that is. With
--profile it also says which operations the time goes to. Writes
benchmarks/results/speed-<device>-<date>.json and .md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

import psvit
from psvit.bench import RUNTIMES, Bench, Subject, bench, usable_runtimes
from psvit.bench.profiling import hot_operations
from psvit.compare.masks import mask_smallest
from psvit.cost import measure
from psvit.groups import removal_of
from psvit.models import build
from psvit.models.registry import MODELS
from psvit.records import InputSpec

RESULTS = Path(__file__).parent / "results"
EIGHT_512: dict[str, Any] = {"embed_dims": 512, "num_heads": 8, "depths": 8}
NAMES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "spikformer-8-512": ("spikformer", EIGHT_512),
    "meta-spikeformer-31m": ("meta-spikeformer-31m", {}),
    "meta-spikeformer-cifar10": ("meta-spikeformer-cifar10", {}),
    "spikformer-digits": ("spikformer-digits", {}),
}
"""Name -> the registry's name, and arguments of the factory."""


def subjects_of(name: str, options: argparse.Namespace) -> tuple[dict[str, Subject], InputSpec]:
    """The dense model, the pruned one and, if asked for, one with as many weights masked."""
    entry, arguments = NAMES[name]
    torch.manual_seed(options.seed)
    model = build(entry, **arguments)
    spec = InputSpec((2, *MODELS[entry].example[1:]))
    say("recording the model")
    graph = psvit.capture(model, torch.rand(spec.shape), check=False)
    say("pruning it")
    groups = psvit.find_groups(graph)
    scores = psvit.saliency(graph, groups)
    plan = psvit.allocate(graph, groups, scores, {options.unit: options.share}, align=options.align)
    small = psvit.rewrite(graph, plan)
    before = measure(graph, groups, {})
    after = measure(graph, groups, removal_of(graph, plan))
    subjects = {"dense": Subject(model, before.macs), "pruned": Subject(small, after.macs)}
    if "masked" in options.subjects:
        masked, _ = mask_smallest(model, 1 - after.params / before.params)
        subjects["masked"] = Subject(masked, before.macs)
    for key, figures in (("dense", before), ("pruned", after)):
        say(f"{key}: {figures.params / 1e6:.2f}M parameters, {figures.macs / 1e9:.3f} GMACs")
    return {key: subjects[key] for key in options.subjects}, spec


def say(text: str) -> None:
    """Progress, with the time since the start: a machine may be lent for a minute only."""
    print(f"[{time.perf_counter() - START:6.1f} s] {text}", file=sys.stderr, flush=True)


def table(name: str, found: Bench) -> list[str]:
    """Markdown: a row for each runtime, dtype, batch size and model."""
    ratio = found.macs_ratio("pruned")
    lines = [
        f"## {name}",
        "",
        f"MACs {found.macs['dense'] / 1e9:.3f} G, pruned {found.macs['pruned'] / 1e9:.3f} G: "
        f"a ratio of {ratio:.2f}.",
        "",
        "| runtime | dtype | batch | model | median ms (quartiles) | images/s "
        "| speed-up (quartiles) | share of the ratio | peak MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found.rows:
        head = f"| {row.runtime} | {row.dtype} | {row.batch} | {row.model} "
        if row.median_ms is None:
            lines.append(f"{head}| {row.failed} | | | | |")
            continue
        own = found.macs_ratio(row.model)
        speedup, share = "", ""
        if row.speedup is not None and row.model != "dense":
            speedup = f"{row.speedup:.2f} ({row.speedup_low:.2f}-{row.speedup_high:.2f})"
            share = f"{row.speedup / own:.0%}" if own else ""
        peak = "" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:,.0f}"
        lines.append(
            f"{head}| {row.median_ms:.2f} ({row.low_ms:.2f}-{row.high_ms:.2f}) "
            f"| {row.images_per_s:,.1f} | {speedup} | {share} | {peak} |"
        )
    return [*lines, ""]


def profile_lines(name: str, subjects: Mapping[str, Subject], spec: InputSpec, device: str) -> Any:
    """Where the time of the dense model goes, as it is and simplified."""
    found = hot_operations(subjects["dense"].model, spec, device=device)
    lines = [f"### {name}: where the time goes, batch 1", ""]
    lines += ["| model | operation | ms | share | calls |", "|---|---|---|---|---|"]
    lines += [
        f"| {kind} | {op.name} | {op.ms:.2f} | {op.share:.0%} | {op.calls} |"
        for kind, operations in found.items()
        for op in operations
    ]
    return [*lines, ""]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=NAMES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtypes", nargs="+")
    parser.add_argument("--batches", nargs="+", type=int)
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES)
    parser.add_argument("--subjects", nargs="+", choices=("dense", "pruned", "masked"))
    parser.add_argument("--unit", default="macs", help="of the budget")
    parser.add_argument("--share", type=float, default=0.45, help="what pruning saves of it")
    parser.add_argument("--align", type=int, default=16)
    parser.add_argument("--seconds", type=float, help="a batch size of a runtime, about")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, batches and subjects")
    parser.add_argument("--profile", action="store_true", help="also where the time goes")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    cuda, quick = options.device.startswith("cuda"), options.quick
    options.models = options.models or (
        ["spikformer-8-512", "meta-spikeformer-31m"]
        if cuda
        else ["spikformer-digits", "meta-spikeformer-cifar10", "spikformer-8-512"]
    )
    options.dtypes = options.dtypes or (["float32", "bfloat16"] if cuda else ["float32"])
    options.batches = options.batches or (
        ([1, 32, 256] if quick else [1, 8, 32, 128, 256]) if cuda else [1, 8 if quick else 32]
    )
    options.subjects = options.subjects or ["dense", "pruned", *([] if quick else ["masked"])]
    usable = usable_runtimes(torch.device(options.device))
    # Compiling a whole network takes a minute; the neurons' kernel takes seconds.
    options.runtimes = options.runtimes or [r for r in usable if not (quick and r == "compiled")]
    options.seconds = options.seconds or (0.5 if quick else 10.0)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    results: dict[str, Any] = {}
    lines: list[str] = []
    about: Mapping[str, Any] = {}
    for name in options.models:
        say(name)
        subjects, spec = subjects_of(name, options)
        found = bench(
            subjects,
            spec,
            runtimes=options.runtimes,
            batches=options.batches,
            dtypes=options.dtypes,
            device=options.device,
            seconds=options.seconds,
            fewest=3 if options.quick else 7,
            say=say,
        )
        results[name], about = found.to_dict(), found.about
        lines += table(name, found)
        if options.profile:
            lines += profile_lines(name, subjects, spec, options.device)
        write(options, about, results, lines)
    print("\n".join(lines))


def write(
    options: argparse.Namespace,
    about: Mapping[str, Any],
    results: Mapping[str, Any],
    lines: Sequence[str],
) -> None:
    """After each model, so that what is cut short has left something."""
    today = date.today().isoformat()
    head = [
        f"# Speed of pruned models, {today}",
        "",
        f"`python -m benchmarks.speed {' '.join(sys.argv[1:])}`, T = 4, {options.share:.0%} of "
        f"{options.unit} pruned uniformly by L1, widths in multiples of {options.align}, seed "
        f"{options.seed}. {', '.join(f'{k} {v}' for k, v in about.items())}.",
        "",
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / f"speed-{options.device.split(':')[0]}-{today}"
    stem.with_suffix(".json").write_text(
        json.dumps({"about": about, "command": sys.argv[1:], "models": results}, indent=1) + "\n"
    )
    stem.with_suffix(".md").write_text("\n".join([*head, *lines]))
    say(f"written to {stem}.md")


START = time.perf_counter()

if __name__ == "__main__":
    main()
