"""Time and peak memory of the engine at 224x224, beside a dense forward and Torch-Pruning.

    pip install torch-pruning==1.6.1
    python benchmarks/engine.py [--models spikformer-8-512 ...] [--batch 1] [--threads 1]

Every measurement runs in a process of its own, so that peak memory is its own too. Torch-Pruning
is used the way its README shows: MagnitudePruner with group L2 importance, ratio 0.25, the
classifier ignored; its result counts as usable only if the pruned model's forward runs. Writes
benchmarks/results/engine-<date>.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

SAVE = {"memory": 0.224}
TORCH_PRUNING_LIMIT_S = 120
RESULTS = Path(__file__).parent / "results"


def build(name: str) -> Any:
    """A full-size model of SpikingJelly 2.0, T = 4."""
    from spikingjelly.activation_based.model import maxformer, qkformer, spikformer
    from spikingjelly.activation_based.model import spike_driven_transformer as sdt

    factories: dict[str, Callable[[], Any]] = {
        "spikformer-8-512": lambda: spikformer.Spikformer(
            T=4, embed_dims=512, num_heads=8, depths=8
        ),
        "sdt-8-768": lambda: sdt.SpikeDrivenTransformer(T=4, embed_dims=768, num_heads=8, depths=8),
        "qkformer-10-768": lambda: qkformer.QKFormer(
            T=4, embed_dims=768, num_heads=(12, 12, 12), depths=(1, 2, 7)
        ),
        "maxformer-10-384": maxformer.maxformer_10_384,
    }
    return factories[name]().eval()


MODELS = ("spikformer-8-512", "sdt-8-768", "qkformer-10-768", "maxformer-10-384")


def measure_psvit(name: str, batch: int) -> dict[str, Any]:
    """Seconds of each stage and of a dense forward, and the peak memory of the process."""
    import torch

    import psvit
    from psvit.neurons import reset_state

    model, images = build(name), torch.rand(batch, 3, 224, 224)

    def forward() -> None:
        reset_state(model)
        with torch.no_grad():
            model(images)

    forward()
    dense = [_seconds(forward)[0] for _ in range(3)]
    forward_peak_gb = _peak_gb()
    reset_state(model)
    capture_s, graph = _seconds(lambda: psvit.capture(model, images))
    groups_s, groups = _seconds(lambda: psvit.find_groups(graph))
    plan = psvit.allocate(graph, groups, psvit.saliency(graph, groups), SAVE)
    rewrite_s, small = _seconds(lambda: psvit.rewrite(graph, plan))
    with torch.no_grad():
        out = small(images)
    params = sum(p.numel() for p in model.parameters())
    total = capture_s + groups_s + rewrite_s
    return {
        "params_millions": params / 1e6,
        "dense_forward_s": statistics.median(dense),
        "capture_s": capture_s,
        "groups_s": groups_s,
        "rewrite_s": rewrite_s,
        "total_in_forwards": total / statistics.median(dense),
        "forward_peak_gb": forward_peak_gb,
        "peak_gb": _peak_gb(),
        "params_saved": 1 - sum(p.numel() for p in small.parameters()) / params,
        "pruned_forward": f"runs, {list(out.shape)}",
    }


def measure_torch_pruning(name: str, batch: int) -> dict[str, Any]:
    """What becomes of the same model in Torch-Pruning, and how long its graph takes."""
    import torch
    import torch_pruning as tp

    from psvit.neurons import reset_state

    model, images = build(name), torch.rand(batch, 3, 224, 224)
    with torch.no_grad():  # state of the right shape, so that tracing does not stumble on it
        model(images)
    reset_state(model)
    before = sum(p.numel() for p in model.parameters())
    stage, start = "building the graph", time.perf_counter()
    row: dict[str, Any] = {}
    try:
        pruner = tp.pruner.MagnitudePruner(
            model,
            images,
            importance=tp.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=0.25,
            ignored_layers=[m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1:],
        )
        row["graph_s"] = time.perf_counter() - start
        stage = "pruning"
        pruner.step()
        reset_state(model)
        stage = "the pruned forward"
        row["params_saved"] = 1 - sum(p.numel() for p in model.parameters()) / before
        with torch.no_grad():
            model(images)
        row["outcome"] = "forward runs"
    except Exception as error:
        row["outcome"] = f"{stage} raises {type(error).__name__}: {str(error).splitlines()[0][:90]}"
    row["peak_gb"] = _peak_gb()
    return row


def _seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    out = call()
    return time.perf_counter() - start, out


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _apart(tool: str, name: str, batch: int, threads: int, limit_s: float) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--one", tool, "--models", name, "--batch", str(batch)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return {"outcome": f"not done after {limit_s:.0f} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"outcome": f"process ended with {done.returncode}: {done.stderr.strip()[-200:]}"}
    row: dict[str, Any] = json.loads(lines[-1])
    return row


def table(rows: dict[str, dict[str, dict[str, Any]]], about: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        f"# The engine at 224x224, {about['date']}",
        "",
        f"`{about['command']}` on {about['machine']}, torch {about['torch']}, "
        f"{about['threads']} thread(s), batch {about['batch']}, T = 4. Seconds; peak memory of the "
        "process in GB (in brackets: of the dense forward alone).",
        "",
        "| model | params | dense forward | capture | groups | rewrite | all three, in forwards "
        "| peak GB | params saved | Torch-Pruning 1.6.1: graph | what became of its model |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        p, t = row["psvit"], row["torch_pruning"]
        if "capture_s" not in p:
            lines.append(f"| {name} | | | | | | | | {p['outcome']} | | |")
            continue
        graph = f"{t['graph_s']:.1f}" if "graph_s" in t else "-"
        lines.append(
            f"| {name} | {p['params_millions']:.1f}M | {p['dense_forward_s']:.2f} "
            f"| {p['capture_s']:.2f} | {p['groups_s']:.2f} | {p['rewrite_s']:.2f} "
            f"| {p['total_in_forwards']:.1f} | {p['peak_gb']:.2f} ({p['forward_peak_gb']:.2f}) "
            f"| {p['params_saved']:.1%} | {graph} | {t['outcome']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", choices=("psvit", "torch_pruning"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure = measure_psvit if options.one == "psvit" else measure_torch_pruning
        print(json.dumps(measure(options.models[0], options.batch)))
        return
    import torch

    about = {
        "date": date.today().isoformat(),
        "command": "python benchmarks/engine.py " + " ".join(sys.argv[1:]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "threads": options.threads,
        "batch": options.batch,
    }
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for name in options.models:
        rows[name] = {
            "psvit": _apart("psvit", name, options.batch, options.threads, 1200),
            "torch_pruning": _apart(
                "torch_pruning", name, options.batch, options.threads, TORCH_PRUNING_LIMIT_S
            ),
        }
        print(name, json.dumps(rows[name], indent=1), file=sys.stderr)
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"engine-{about['date']}"
    stem.with_suffix(".json").write_text(json.dumps({"about": about, "rows": rows}, indent=1))
    stem.with_suffix(".md").write_text(table(rows, about))
    print(table(rows, about))


if __name__ == "__main__":
    main()
