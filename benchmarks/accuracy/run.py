"""One model: every method, recovery and level that is asked for, into a file of results."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.accuracy import rival
from benchmarks.accuracy.bench import Bench, set_up
from benchmarks.accuracy.cells import DENSE, append, key_of, read
from benchmarks.accuracy.plans import earlier, is_matched, plan_again, widths_of
from benchmarks.tuning import training_images
from psvit.allocate import NEEDS_CURVES, allocate
from psvit.capture.copying import private_copy
from psvit.compare.masks import mask_smallest
from psvit.evaluate import pack
from psvit.finetune import finetune
from psvit.groups import removal_of
from psvit.records import Plan
from psvit.rewrite import rewrite

MASKS = "unstructured"
UNPLANNED = (MASKS, rival.NAME)
"""Methods that are not psvit's: there is no plan, so only recoveries that need none."""
TUNING = {"batch": 128, "held_out": 0.05}


def run(options: argparse.Namespace) -> None:
    """Append what the file lacks, level by level in the order given."""
    out: Path = options.out
    bench = set_up(options)
    done = read(out)
    for how in dict.fromkeys(("none", *options.recover)):
        _dense(bench, options, how, done)
    for level in options.levels:
        for method in options.methods:
            _level(bench, options, method, level, done)


def _line(options: argparse.Namespace, method: str, recover: str, level: str) -> dict[str, Any]:
    saliency = "" if method in (DENSE, *UNPLANNED) else options.saliency
    if method == "random":
        saliency = "random"
    return {
        "model": options.model,
        "method": method,
        "saliency": saliency,
        "recover": recover,
        "level": level,
    }


def _dense(bench: Bench, options: argparse.Namespace, how: str, done: Any) -> None:
    line = _line(options, DENSE, how, "0%")
    if how.startswith("finetune") or key_of(line) in done:
        return
    start = time.perf_counter()
    model = bench.recovered(private_copy(bench.model), how, None)
    took = time.perf_counter() - start
    plain = read(options.out).get(key_of(_line(options, DENSE, "none", "0%")))
    if plain is not None and _same_weights(model, bench.model):
        append(options.out, plain | line | {"recovery_seconds": took})
        return
    _judge(bench, options, line, model, None, took, 0.0)


def _same_weights(one: nn.Module, other: nn.Module) -> bool:
    others = other.state_dict()
    return all(torch.equal(v, others[k].to(v.device)) for k, v in one.state_dict().items())


def _level(bench: Bench, options: argparse.Namespace, method: str, level: str, done: Any) -> None:
    lines = [_line(options, method, how, level) for how in options.recover]
    if all(key_of(line) in done for line in lines):
        return
    start = time.perf_counter()
    other = _unplanned(bench, options, method, level, lines) if method in UNPLANNED else None
    chose = time.perf_counter() - start
    plans: dict[bool, tuple[Plan, float]] = {}
    for line in lines:
        if key_of(line) in done:
            continue
        how = line["recover"]
        matched, plan = is_matched(line), None
        if method not in UNPLANNED:
            if matched not in plans:
                plans[matched] = _plan(bench, options, line)
            plan, chose = plans[matched]
        start = time.perf_counter()
        if plan is None:
            if other is None or how not in ("none", "bn"):
                continue
            model = private_copy(other)
        else:
            model = rewrite(bench.graph, plan)
        if how.startswith("finetune"):
            model = _tuned(bench, options, model, plan, line)
        else:
            model = bench.recovered(model, how, plan)
        _judge(bench, options, line, model, plan, time.perf_counter() - start, chose)


def _unplanned(
    bench: Bench, options: argparse.Namespace, method: str, level: str, lines: list[dict[str, Any]]
) -> nn.Module | None:
    """A model by a method that is not psvit's; None, with lines that say why, if there is none."""
    if method == MASKS:
        return mask_smallest(bench.model, _share(level))[0]
    try:
        return rival.pruned(bench.model, bench.images[0][:2], _share(level))
    except rival.Unusable as error:
        for line in lines:
            append(options.out, line | {"failed": str(error)})
        print(f"{method} {level}: {error}", flush=True)
        return None


def _plan(bench: Bench, options: argparse.Namespace, line: dict[str, Any]) -> tuple[Plan, float]:
    """The plan for a line, and the seconds that it took: an earlier result's, if there is one."""
    found = earlier(read(*options.plans).values(), line)
    if found is not None:
        scores = bench.ranking(line["saliency"])
        plan = plan_again(bench.graph, bench.groups, scores, found["keep"])
        return plan, found["allocation_seconds"]
    start = time.perf_counter()
    plan = _search(bench, line["method"], line["saliency"], line["level"], matched=is_matched(line))
    return plan, time.perf_counter() - start


def _search(bench: Bench, method: str, saliency: str, level: str, *, matched: bool) -> Plan:
    save = {"memory": _share(level)}
    if method in ("uniform", "random"):
        return allocate(bench.graph, bench.groups, bench.ranking(saliency), save, "uniform")
    guidance = bench.guidance(saliency, matched=matched)
    return allocate(
        bench.graph,
        bench.groups,
        bench.ranking(saliency),
        save,
        method,
        curves=guidance.curves,
        measure_loss=guidance.measure_loss if method == "optimal" else None,
        judge_loss=guidance.judge_loss,
    )


def _share(level: str) -> float:
    return float(level.removesuffix("%")) / 100


def _tuned(
    bench: Bench,
    options: argparse.Namespace,
    model: nn.Module,
    plan: Plan | None,
    line: dict[str, Any],
) -> nn.Module:
    """After recovery auto, distilled from the dense model: without labels.

    Its checkpoints and log lie beside the file of results, and a run that was killed goes on.
    """
    name = "-".join([options.out.stem, *key_of(line)]).replace("%", "")
    model = bench.recovered(model, "auto", plan)
    finetune(
        model,
        bench.model,
        _all_images(bench, options),
        plan=plan,
        device=bench.device,
        run=options.out.with_name(name),
        epochs=float(line["recover"].removeprefix("finetune")),
        bf16=options.bf16 or bench.device.type == "cuda",
        seed=options.seed,
        **_tuning(options),
    )
    return model


def _tuning(options: argparse.Namespace) -> dict[str, Any]:
    return TUNING | dict(options.tuning)


def _all_images(bench: Bench, options: argparse.Namespace) -> Any:
    """All training images, on the device where they are prepared in memory."""
    if "all" not in bench.kept:
        batch, only = int(_tuning(options)["batch"]), options.eval_data is not None
        images = training_images(options, batch, only=only, workers=options.workers)
        bench.kept["all"] = images.to(bench.device) if options.recipe else images
    return bench.kept["all"]


def _judge(
    bench: Bench,
    options: argparse.Namespace,
    line: dict[str, Any],
    model: nn.Module,
    plan: Plan | None,
    took: float,
    chose: float,
) -> None:
    model = model.eval()
    right = bench.right(model)
    removal = {} if plan is None else removal_of(bench.graph, plan)
    figures = {k: v for k, v in asdict(bench.meter.measure(removal)).items() if v is not None}
    if line["method"] == MASKS:
        figures = {"zeroed": _share(line["level"])}
    elif line["method"] == rival.NAME:
        figures = {"params": sum(p.numel() for p in model.parameters())}
    dense_ms, ms = bench.latencies(model)
    analysis = bench.kept.get(f"analysis {line['saliency']} seconds")
    line |= {
        "n": len(right),
        "accuracy": float(right.double().mean()),
        "right": pack(right),
        "rate": bench.firing_rate(model),
        "figures": figures,
        "ms": ms,
        "dense_ms": dense_ms,
        "recovery_seconds": took,
        "allocation_seconds": chose,
        "analysis_seconds": analysis if line["method"] in NEEDS_CURVES else None,
        "keep": None if plan is None else widths_of(bench.graph, bench.groups, plan),
        "device": torch.cuda.get_device_name() if bench.device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "seed": options.seed,
        "command": options.command,
    }
    append(options.out, line)
    said = f"{line['accuracy']:.2%} in {took:.1f} s (chosen in {chose:.1f} s)"
    print(f"{time.strftime('%T')} {' '.join(key_of(line))}: {said}", flush=True)
