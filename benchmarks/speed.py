"""Throughput and latency of dense, pruned and masked models, in turns, in several runtimes.

    python -m benchmarks.speed                                 # CPU: a small model, and 224x224
    python -m benchmarks.speed --device cuda                   # both ImageNet models, all batches
    python -m benchmarks.speed --device cuda --quick           # the same in about a minute

Models are pruned uniformly by L1 by each of --save, widths rounded to multiples of each of --align,
and then timed with random images: neither weights nor images change how long a dense kernel takes.
Each table has the ratio of multiply-accumulates beside the measured speed-up, and what share of it
that is. With --profile it also says which kinds of operation the time goes to, in the dense model
and in the pruned ones, how much faster each has become, and what speed-up they allow together.
Writes benchmarks/results/speed-<model>-<device>-<date>.json and .md.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import torch

import psvit
from psvit.bench import RUNTIMES, Bench, Subject, bench, usable_runtimes
from psvit.bench.profiling import time_by_kind
from psvit.bench.timing import CLOCKS
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
    "sdt-8-384": ("sdt", {}),
    "meta-spikeformer-cifar10": ("meta-spikeformer-cifar10", {}),
    "spikformer-cifar10": ("spikformer-cifar10", {}),
    "sdt-cifar10": ("sdt-cifar10", {}),
    "spikformer-digits": ("spikformer-digits", {}),
}
"""Name -> the registry's name, and arguments of the factory."""


def subjects_of(name: str, options: argparse.Namespace) -> tuple[dict[str, Subject], InputSpec]:
    """The dense model, the pruned ones and, if asked for, one with as many weights masked as the
    first of them has fewer."""
    entry, arguments = NAMES[name]
    torch.manual_seed(options.seed)
    model = build(entry, **arguments)
    spec = InputSpec((2, *MODELS[entry].example[1:]))
    say("recording the model")
    graph = psvit.capture(model, torch.rand(spec.shape), check=False)
    groups = psvit.find_groups(graph)
    scores = psvit.saliency(graph, groups)
    before = measure(graph, groups, {})
    subjects = {"dense": Subject(model, before.macs)}
    masked: Subject | None = None
    for save, align in product(options.save, options.align):
        unit, _, share = save.partition("=")
        plan = psvit.allocate(graph, groups, scores, {unit: float(share)}, align=align)
        after = measure(graph, groups, removal_of(graph, plan))
        key = f"{unit} -{float(share):.0%}" + (f", x{align}" if len(options.align) > 1 else "")
        say(f"{key}: {after.params / before.params:.0%} of the parameters, "
            f"{after.macs / before.macs:.0%} of {before.macs / 1e9:.3f} GMACs")  # fmt: skip
        subjects[key] = Subject(psvit.rewrite(graph, plan), after.macs)
        if options.masked and masked is None:
            ghost, _ = mask_smallest(model, 1 - after.params / before.params)
            masked = Subject(ghost, before.macs)
    return {**subjects, **({"masked": masked} if masked else {})}, spec


def say(text: str) -> None:
    """Progress, with the time since the start: a machine may be lent for a minute only."""
    print(f"[{time.perf_counter() - START:6.1f} s] {text}", file=sys.stderr, flush=True)


def table(name: str, found: Bench) -> list[str]:
    """Markdown: a row for each runtime, dtype, batch size and model."""
    ratios = ", ".join(
        f"{found.macs_ratio(key):.2f} of {key}"
        for key, macs in found.macs.items()
        if macs < found.macs["dense"]
    )
    lines = [
        f"MACs {found.macs['dense'] / 1e9:.3f} G of an image; ratios: {ratios}.",
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


def profile_lines(
    subjects: Mapping[str, Subject], spec: InputSpec, options: argparse.Namespace
) -> list[str]:
    """Where the time goes, by kind of operation, and how much faster each kind has become."""
    models = {key: one.model for key, one in subjects.items() if key != "masked"}
    lines = ["## Where the time goes", ""]
    for simplified, batch in product((False, True), options.batches):
        parts = time_by_kind(
            models,
            spec,
            simplified=simplified,
            device=options.device,
            batch=batch,
            clock=options.clock,
        )
        parts = tuple(part for part in parts if part.ms["dense"] > 0)
        whole = {key: sum(part.ms[key] for part in parts) for key in models}
        rows = [*((part.kind, part.ms) for part in parts), ("all", whole)]
        small = [key for key in models if key != "dense"]
        lines += [
            f"{'faster' if simplified else 'eager'}, batch {batch}, operation by operation:",
            "",
            "| operations | dense, ms | of all "
            + "".join(f"| {key}, times | of all " for key in small)
            + "|",
            "|---|---|---|" + "---|---|" * len(small),
        ]
        lines += [
            f"| {kind} | {ms['dense']:.2f} | {ms['dense'] / whole['dense']:.0%} "
            + "".join(
                f"| {ms['dense'] / max(ms[key], 1e-9):.2f} | {ms[key] / whole[key]:.0%} "
                for key in small
            )
            + "|"
            for kind, ms in rows
        ]
        lines.append("")
    return lines


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=NAMES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtypes", nargs="+")
    parser.add_argument("--batches", nargs="+", type=int)
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES)
    parser.add_argument("--save", nargs="+", default=["macs=0.4", "memory=0.5"], metavar="UNIT=X")
    parser.add_argument("--align", nargs="+", type=int, default=[16])
    parser.add_argument("--masked", action="store_true", help="masked weights beside the pruned")
    parser.add_argument("--seconds", type=float, help="a batch size of a runtime, about")
    parser.add_argument("--clock", default="wall", choices=CLOCKS, help="cpu: on a busy machine")
    parser.add_argument("--threads", type=int, help="of a CPU; by default PyTorch's own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and batches")
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
    usable = usable_runtimes(torch.device(options.device))
    # Compiling a whole network takes a minute; the neurons' kernel takes seconds.
    options.runtimes = options.runtimes or [r for r in usable if not (quick and r == "compiled")]
    options.seconds = options.seconds or (0.5 if quick else 10.0)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
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
            clock=options.clock,
            say=say,
        )
        lines = table(name, found)
        if options.profile:
            lines += profile_lines(subjects, spec, options)
        write(options, name, found, lines)
        print("\n".join(lines))


def write(options: argparse.Namespace, name: str, found: Bench, lines: Sequence[str]) -> None:
    """After each model, so that what is cut short has left something."""
    today = date.today().isoformat()
    command = f"python -m benchmarks.speed {shlex.join(sys.argv[1:])}"
    about = ", ".join(f"{key} {value}" for key, value in found.about.items())
    head = [
        f"# Speed of pruned models: {name}, {today}",
        "",
        f"`{command}`, T = 4, pruned uniformly by L1, widths in multiples of "
        f"{', '.join(map(str, options.align))}, seed {options.seed}. {about}.",
        "",
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / f"speed-{name}-{options.device.split(':')[0]}-{today}"
    data = {"command": command, "seed": options.seed, **found.to_dict()}
    stem.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")
    stem.with_suffix(".md").write_text("\n".join([*head, *lines]) + "\n")
    say(f"written to {stem}.md")


START = time.perf_counter()

if __name__ == "__main__":
    main()
