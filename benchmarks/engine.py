"""Time and peak memory of the engine at 224x224, beside a dense forward and Torch-Pruning.

    pip install torch-pruning==1.6.1
    python -m benchmarks.engine [--models spikformer-8-512 ...] [--batch 1] [--threads 1]
        [--against FOLDER]

``--against`` is a folder with another engine of this kind to race in the same run: ``capture.py``
with ``capture(model, inputs, train=False)``, ``labels.py`` with ``Labels(graph).analyse(images,
train_gm=graph)``, ``rewrite.py`` with ``Rewriter(graph, plan, removed).run()``. It does the same
work: both forwards, groups, a quarter of every cell gone from both.

Every measurement runs in a process of its own, so that peak memory is its own too. Torch-Pruning
is used the way its README shows: MagnitudePruner with group L2 importance, ratio 0.25, the
classifier ignored; its result counts as usable only if the pruned model's forward runs. Writes
benchmarks/results/engine-<date>.json and .md.
"""

from __future__ import annotations

import argparse
import importlib
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
SEED = 0
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

    torch.manual_seed(SEED)
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
    saliency_s, scores = _seconds(lambda: psvit.saliency(graph, groups))
    plan = psvit.allocate(graph, groups, scores, SAVE)
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
        "saliency_s": saliency_s,
        "rewrite_s": rewrite_s,
        "total_s": total,
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

    torch.manual_seed(SEED)
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


def measure_other(name: str, batch: int, folder: str) -> dict[str, Any]:
    """Seconds of each stage of the engine in ``folder``, and the peak memory of the process."""
    import torch

    from psvit.neurons import reset_state

    sys.path.insert(0, folder)
    recording, labels, rewriting = (
        importlib.import_module(stage) for stage in ("capture", "labels", "rewrite")
    )
    torch.manual_seed(SEED)
    model, images = build(name), torch.rand(batch, 3, 224, 224)
    with torch.no_grad():  # as in measure_psvit: nothing is done for the first time
        model(images)
    reset_state(model)
    with torch.no_grad():
        capture_s, graphs = _seconds(
            lambda: [recording.capture(model, (images,), train=mode) for mode in (False, True)]
        )
        groups_s, plan = _seconds(
            lambda: labels.Labels(graphs[0]).analyse(images, train_gm=graphs[1])
        )
        removed = {lane for g in plan.prunable for c in g.cells for lane in c[: len(c) // 4]}
        try:
            rewrite_s, _ = _seconds(
                lambda: [rewriting.Rewriter(graph, plan, removed).run() for graph in graphs]
            )
        except Exception as error:
            return {"outcome": f"its rewriting raises {type(error).__name__}: {error}"[:120]}
    return {
        "capture_s": capture_s,
        "groups_s": groups_s,
        "rewrite_s": rewrite_s,
        "total_s": capture_s + groups_s + rewrite_s,
        "peak_gb": _peak_gb(),
    }


def _seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    out = call()
    return time.perf_counter() - start, out


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


TOOLS: dict[str, Callable[[str, int, str], dict[str, Any]]] = {
    "psvit": lambda name, batch, _: measure_psvit(name, batch),
    "torch_pruning": lambda name, batch, _: measure_torch_pruning(name, batch),
    "other": measure_other,
}


def _apart(
    tool: str, name: str, options: argparse.Namespace, limit_s: float = 1200
) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--one", tool, "--models", name]
    command += ["--batch", str(options.batch), "--against", options.against]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return {"outcome": f"not done after {limit_s:.0f} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return {"outcome": f"process ended with {done.returncode}: {said[:200]}"}
    row: dict[str, Any] = json.loads(lines[-1])
    return row


def table(rows: dict[str, dict[str, dict[str, Any]]], about: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        f"# The engine at 224x224, {about['date']}",
        "",
        f"`{about['command']}` on {about['machine']}, torch {about['torch']}, "
        f"{about['threads']} thread(s), batch {about['batch']}, T = 4, seed {about['seed']}. "
        "Seconds; peak memory of the process in GB, a dense forward included.",
        "",
        "| model | params | dense forward | capture | groups | saliency (l1) | rewrite "
        "| capture, groups, rewrite: in forwards | the same by the other engine | times as fast "
        "| peak GB (the other's) | params saved | Torch-Pruning 1.6.1: graph "
        "| what became of its model |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        p, t, o = row["psvit"], row["torch_pruning"], row.get("other", {})
        if "capture_s" not in p:
            lines.append(f"| {name} | {p['outcome']} " + "| " * 12 + "|")
            continue
        graph = f"{t['graph_s']:.1f}" if "graph_s" in t else "-"
        raced = "total_s" in o
        other = f"{o['total_s']:.2f}" if raced else o.get("outcome", "-")
        faster = f"{o['total_s'] / p['total_s']:.1f}" if raced else "-"
        lines.append(
            f"| {name} | {p['params_millions']:.1f}M | {p['dense_forward_s']:.2f} "
            f"| {p['capture_s']:.2f} | {p['groups_s']:.2f} | {p['saliency_s']:.2f} "
            f"| {p['rewrite_s']:.2f} | {p['total_s']:.2f}: {p['total_in_forwards']:.1f} | {other} "
            f"| {faster} | {p['peak_gb']:.2f}"
            + (f" ({o['peak_gb']:.2f})" if raced else "")
            + f" | {p['params_saved']:.1%} | {graph} | {t['outcome']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--against", default="", metavar="FOLDER", help="race another engine")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--one", choices=TOOLS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, batch = options.models[0], options.batch
        print(json.dumps(TOOLS[options.one](name, batch, options.against)))
        return
    import torch

    about = {
        "date": date.today().isoformat(),
        "command": "python -m benchmarks.engine" + " --against FOLDER" * bool(options.against),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "threads": options.threads,
        "batch": options.batch,
        "seed": SEED,
    }
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for name in options.models:
        rows[name] = {
            "psvit": _apart("psvit", name, options),
            "torch_pruning": _apart("torch_pruning", name, options, TORCH_PRUNING_LIMIT_S),
        }
        if options.against:
            rows[name]["other"] = _apart("other", name, options)
        print(name, json.dumps(rows[name], indent=1), file=sys.stderr)
    options.out.mkdir(exist_ok=True, parents=True)
    stem = options.out / f"engine-{about['date']}"
    stem.with_suffix(".json").write_text(json.dumps({"about": about, "rows": rows}, indent=1))
    stem.with_suffix(".md").write_text(table(rows, about))
    print(table(rows, about))


if __name__ == "__main__":
    main()
