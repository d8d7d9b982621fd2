"""What a sensitivity analysis costs, and whether it ranks as the naive one does, in one run.

    python benchmarks/analysis.py [--model spikformer-digits] [--data digits] [--n 1024]
    python benchmarks/analysis.py --model sdt-cifar10 --data parquet:DIR/cifar10-train.parquet

The naive analysis runs the whole model on all --n images for each point, a point being a group of
channels and a share of it that is removed. The cheap one is that of `psvit sensitivity`: few images
where they make clear how a point ranks, run from the first layer that changed. Both in one process
with the same channels; CPU seconds of the process, and forwards counted in images. A forward that
starts in the middle counts by the multiply-accumulates that are left. Reported are Spearman's
correlation of the cheap divergences with the naive ones, the largest error, and how often the
cheap intervals hold the naive value. Writes benchmarks/results/analysis-MODEL-<date>.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

import psvit
from psvit.capture.program import Program, prepare_program
from psvit.cli.inputs import DataOptions, open_model, recipe_of
from psvit.neurons import reset_state
from psvit.outputs import kl_per_image, log_probabilities
from psvit.records import Curves, Graph, Groups, Scores
from psvit.rewrite.zeroing import edits_of, zeroed
from psvit.saliency import FROM_DATA
from psvit.sensitivity import Race
from psvit.sensitivity import bench as bench_file
from psvit.sensitivity.sample import Sample, read_sample
from psvit.sensitivity.trials import Trial, list_trials

RESULTS = Path(__file__).parent / "results"


def naive(graph: Graph, groups: Groups, trials: tuple[Trial, ...], sample: Sample) -> np.ndarray:
    """Mean divergence of each trial, by whole forwards on all images."""
    module = graph.module.eval()

    def logs() -> list[torch.Tensor]:
        found = []
        for images in sample.images:
            reset_state(module)
            found.append(log_probabilities(module(images), len(images)))
        return found

    dense, means = logs(), []
    for number, trial in enumerate(trials, 1):
        with zeroed(edits_of(module, groups.labels, trial.plan)):
            pairs = zip(dense, logs(), strict=True)
        means.append(float(torch.cat([kl_per_image(p, q) for p, q in pairs]).mean()))
        print(f"\rnaive: {number}/{len(trials)} points", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    reset_state(module)
    return np.array(means)


class Counter:
    """Forwards of a program, in images; those that start in the middle by the MACs left."""

    def __init__(self) -> None:
        self.images = 0.0
        self._left: dict[int, np.ndarray] = {}

    def share(self, program: Program, start: int, stop: int) -> float:
        """The part of a forward that runs from ``start`` to ``stop``."""
        if id(program) not in self._left:
            macs = psvit.cost.prepare(self.graph, self.groups).operations
            shapes = {n: tuple(t.shape) for n, t in self.graph.module.named_parameters()}
            of = {one.node.name: one.count(shapes, None) for one in macs}
            each = np.array([of.get(node.name, 0) for node in program.nodes], dtype=float)
            self._left[id(program)] = np.concatenate([[0], np.cumsum(each)]) / each.sum()
        upto = self._left[id(program)]
        return float(upto[stop] - upto[start])

    def watch(self, graph: Graph, groups: Groups) -> None:
        """Count what analyses run from now on."""
        self.graph, self.groups = graph, groups
        from psvit.capture import prefix as prefix_file

        run = bench_file.run

        def counted(program: Program, values: Any, start: int, stop: int, observer: Any = None):
            images = max(len(x) for n, x in values.items() if isinstance(x, torch.Tensor))
            batch = self.batch or images
            self.images += batch * self.share(program, start, stop)
            return run(program, values, start, stop, observer)

        outputs, forward = bench_file._outputs, bench_file._forward
        at = prefix_file.Prefix.at

        def from_start(root: Any, images: torch.Tensor) -> Any:
            self.images += len(images)
            return forward(root, images)

        def sized(program: Program, prefix: Any, batch: int, start: int, activity: Any) -> Any:
            self.batch = prefix.size(batch)
            return outputs(program, prefix, batch, start, activity)

        def placed(prefix: Any, batch: int, position: int) -> Any:
            self.batch = prefix.size(batch)
            return at(prefix, batch, position)

        self.batch = 0
        bench_file.run = prefix_file.run = counted
        bench_file._outputs, bench_file._forward = sized, from_start
        prefix_file.Prefix.at = placed


def compare(points: Mapping[str, Any], exact: np.ndarray, curves: Curves) -> dict[str, Any]:
    """How the cheap divergences agree with the naive ones."""
    cheap = np.array([p.kl for p in curves.points])
    inside = [p.kl_low <= kl <= p.kl_high for p, kl in zip(curves.points, exact, strict=True)]
    counts = [p.n for p in curves.points]
    return {
        **points,
        "spearman": float(spearmanr(cheap, exact)[0]),
        "largest_error_nats": float(np.abs(cheap - exact).max()),
        "median_relative_error": float(np.median(np.abs(cheap - exact) / np.maximum(exact, 1e-9))),
        "intervals_holding": float(np.mean(inside)),
        "images_a_point": [min(counts), float(np.mean(counts)), max(counts)],
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Both analyses."""
    loaded = open_model(options.model, [], options.checkpoint, allow_partial=False, seed=0)
    data = DataOptions(
        recipe=recipe_of(options.recipe, None, None, None), batch_size=options.batch, seed=0
    ).with_recipe_of(loaded, options.model)
    train = list(data.open(options.data, "train", only=True, limit=options.n))
    graph = psvit.capture(loaded.model, train[0][0][:2])
    groups = psvit.find_groups(graph)
    seen = train if options.saliency in FROM_DATA else None
    scores: Scores = psvit.saliency(graph, groups, options.saliency, 0, data=seen, n=256)
    grid = tuple(float(part) for part in options.grid.split(","))
    trials = list_trials(graph, groups, scores, grid).items
    print(f"{options.model}: {len(trials)} points, {options.n} images", file=sys.stderr)
    rows = {}
    counter = Counter()
    with torch.no_grad():
        sample = read_sample(train, options.n, True)
        prepare_program(graph.module.eval(), graph.forwards["eval"], (sample.images[0],))  # warm
        exact, seconds = _cpu(lambda: naive(graph, groups, trials, sample))
    whole = {"cpu_s": seconds, "forwards": float(len(trials) * options.n)}
    counter.watch(graph, groups)
    for share in options.shares:
        counter.images = 0.0
        curves, seconds = _cpu(
            lambda share=share: psvit.sensitivity(
                graph, groups, scores, train, grid=grid, n=options.n, race=Race(share=share)
            )
        )
        cost = {"cpu_s": seconds, "forwards": counter.images}
        rows[f"1/{1 / share:g}"] = compare(cost, exact, curves)
        print(json.dumps(rows[f"1/{1 / share:g}"]), file=sys.stderr)
    return {"points": len(trials), "naive": whole, "cheap": rows}


def _cpu(call: Any) -> tuple[Any, float]:
    start = time.process_time()
    out = call()
    return out, time.process_time() - start


def table(result: dict[str, Any], about: dict[str, Any]) -> str:
    """The result as Markdown."""
    whole = result["naive"]
    lines = [
        f"# The cost of an analysis: {about['model']}, {about['date']}",
        "",
        f"`{about['command']}` on {about['machine']}, torch {about['torch']}, {about['threads']} "
        f"thread(s). {result['points']} points, {about['n']:,} training images, ranked by "
        f"{about['saliency']}. Naive: {whole['cpu_s']:.1f} CPU seconds, {whole['forwards']:,.0f} "
        f"forwards. Peak memory {about['peak_gb']:.2f} GB.",
        "",
        "| asked for | CPU s | of naive | forwards | of naive | Spearman | largest error, nats "
        "| median error | intervals that hold | images a point |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in result["cheap"].items():
        low, mean, high = row["images_a_point"]
        lines.append(
            f"| {name} | {row['cpu_s']:.1f} | 1/{whole['cpu_s'] / row['cpu_s']:.1f} "
            f"| {row['forwards']:,.0f} | 1/{whole['forwards'] / row['forwards']:.1f} "
            f"| {row['spearman']:.4f} | {row['largest_error_nats']:.3f} "
            f"| {row['median_relative_error']:.0%} | {row['intervals_holding']:.0%} "
            f"| {low} to {high}, mean {mean:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="spikformer-digits")
    parser.add_argument("--checkpoint", type=Path, default=None)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--recipe", default=None)
    parser.add_argument("--n", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--saliency", default="taylor")
    parser.add_argument("--grid", default="0.1,0.25,0.5,0.75")
    parser.add_argument("--shares", type=float, nargs="+", default=[1 / 20, 1 / 50])
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    result = measure(options)
    about = {
        "date": date.today().isoformat(),
        "command": f"python benchmarks/analysis.py --model {options.model} --n {options.n}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "model": options.model,
        "n": options.n,
        "saliency": options.saliency,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }
    options.out.mkdir(exist_ok=True, parents=True)
    name = options.model.replace("/", "-").replace(":", "-")
    stem = options.out / f"analysis-{name}-{about['date']}"
    stem.with_suffix(".json").write_text(json.dumps({"about": about, **result}, indent=1) + "\n")
    stem.with_suffix(".md").write_text(table(result, about))
    print(table(result, about))


if __name__ == "__main__":
    main()
