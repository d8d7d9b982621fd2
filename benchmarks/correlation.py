"""How well the summed sensitivity of single groups predicts what plans lose.

    python benchmarks/correlation.py [MODEL] [--data digits] [--eval-data DATA] [--recipe cifar10]
        [--checkpoint FILE] [--plans 40] [--device cpu]

The curves are measured on --n training images (a ranking of --saliency; with --recover obs every
model, here too, is refitted). Then random plans: a budget between 5 and 60 % of the memory, spread
over the ties at random. Each is predicted by the sum over its ties, as the allocation does it, and
measured on the evaluation images: KL divergence from the dense model and points of accuracy lost.
Reported are Spearman's correlations with intervals by bootstrap over the plans, and the scatter
plots; also of the plans alone that are predicted to leave the model something: once a model only
guesses, which plan ruins it more is no question. A run that was cut short goes on. Writes
benchmarks/results/correlation-MODEL-<date>.md, .json and .svg.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from psvit.allocate import Problem, pose
from psvit.allocate.events import highest
from psvit.calibrate import calibrate
from psvit.capture import capture
from psvit.cli.inputs import DataOptions, open_model, recipe_of
from psvit.groups import find_groups, make_plan
from psvit.guidance import Guide, find_guidance
from psvit.outputs import kl_per_image, predict
from psvit.recover import COMPENSATED, calibration_images, cut, default_saliency
from psvit.report.svg import chart_svg
from psvit.rewrite import rewrite
from psvit.saliency import FROM_DATA, saliency

RESULTS = Path(__file__).parent / "results"
LEAST, MOST = 0.05, 0.6
"""Shares of the memory between which budgets are drawn."""


def random_levels(problem: Problem, share: float, random: np.random.Generator) -> dict[int, int]:
    """Levels that save about ``share`` of the memory, spread over the ties at random."""
    most = highest(problem)
    weight = dict(zip(most, random.exponential(size=len(most)), strict=True))

    def at(scale: float) -> dict[int, int]:
        wanted = {t: scale * weight[t] * problem.ladders.cell[t] for t in most}
        return {
            t: max((r for r in problem.ladders.rungs[t] if r <= wanted[t]), default=0) for t in most
        }

    low, high = 0.0, 1000.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (
            (low, middle) if problem.saved(at(middle))["memory"] >= share else (middle, high)
        )
    return at(high)


def interval(x: np.ndarray, y: np.ndarray, draws: int = 2000) -> tuple[float, float]:
    """The 95 % interval of Spearman's correlation, by bootstrap over the plans."""
    random = np.random.default_rng(0)
    picks = random.integers(0, len(x), (draws, len(x)))
    found = [spearmanr(x[i], y[i]).statistic for i in picks]
    return float(np.nanquantile(found, 0.025)), float(np.nanquantile(found, 0.975))


def measured(options: argparse.Namespace) -> tuple[list[dict[str, Any]], float]:
    """A row for each plan, and the accuracy at stake: the dense model's above chance."""
    loaded = open_model(
        options.model, options.model_arg, options.checkpoint, allow_partial=False, seed=0
    )
    reader = DataOptions(
        recipe=recipe_of(options.recipe, None, None, None), batch_size=options.batch_size, workers=0
    ).with_recipe_of(loaded, options.model)
    apart = options.eval_data is not None
    train = list(reader.open(options.data, "train", only=apart, limit=1024, shuffle=True))
    judged_on = [
        (x.to(options.device), y)
        for x, y in reader.open(
            options.eval_data or options.data, "eval", only=apart, limit=options.limit
        )
    ]
    graph = capture(loaded.model, train[0][0][:2])
    groups = find_groups(graph)
    dense_side = None
    if options.recover in COMPENSATED:
        dense_side = calibrate(
            graph, groups, calibration_images(train), seed=0, device=options.device
        )
    ranking = options.saliency or default_saliency(options.recover)
    scores = saliency(
        graph, groups, ranking, 0, data=train if ranking in FROM_DATA else None, n=options.n
    )
    RESULTS.mkdir(exist_ok=True)
    guide = Guide(
        train, None, options.n, 0, correct=False, dense=dense_side, device=options.device,
        journal=options.work.with_suffix(".sensitivity.journal"),
    )  # fmt: skip
    guidance = find_guidance(
        guide, loaded.model, graph, groups, scores,
        method="optimal", units={"memory"}, bounded=False, say=print,
    )  # fmt: skip
    problem = pose(graph, groups, scores, {}, curves=guidance.curves)
    losses = problem.known_losses("this benchmark")
    whole = rewrite(graph, make_plan(graph, groups, {}))
    dense = predict(whole, judged_on, options.device)
    labels = torch.cat([y for _, y in judged_on])
    random = np.random.default_rng(options.seed)
    done = [json.loads(line) for line in read(options.work)]
    rows = []
    for number in range(options.plans):
        share = float(random.uniform(LEAST, MOST))
        levels = random_levels(problem, share, random)
        if number < len(done):
            rows.append(done[number])
            continue
        small = cut(graph, groups, problem.removal(levels), dense_side)
        logs = predict(small, judged_on, options.device)
        right = [float((x.argmax(1) == labels).double().mean()) for x in (dense, logs)]
        rows.append({
            "saved": problem.saved(levels)["memory"],
            "predicted_kl": losses.predict(levels),
            "predicted_drop": losses.predict_drop(levels),
            "kl": float(kl_per_image(dense, logs).mean()),
            "drop": right[0] - right[1],
            "levels": {guidance.curves.names[t]: k for t, k in levels.items() if k},
        })  # fmt: skip
        with options.work.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(f"plan {number + 1}/{options.plans}", flush=True)
    whole_accuracy = float((dense.argmax(1) == labels).double().mean())
    return rows, whole_accuracy - 1 / dense.shape[1]


def read(path: Path) -> list[str]:
    """The whole lines of a file that a killed run may have left."""
    if not path.exists():
        return []
    text = path.read_text()
    return text[: text.rfind("\n") + 1].splitlines()


def chart(rows: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The scatter plot of predicted against measured loss."""
    scale = 1.0 if kind == "kl" else 100.0
    unit = "KL divergence, nats" if kind == "kl" else "points of accuracy"
    return {
        "caption": f"Predicted and measured loss of random plans, {unit}",
        "x": f"predicted: {unit}",
        "y": f"measured: {unit}",
        "log": kind == "kl",
        "reference": None,
        "series": [
            {
                "name": "plans",
                "scatter": True,
                "points": [
                    {"x": scale * r[f"predicted_{kind}"], "y": scale * r[kind],
                     "tip": f"{100 * r['saved']:.1f} % saved"}
                    for r in rows
                ],
            }
        ],
    }  # fmt: skip


def correlations(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Spearman's of predicted with measured losses."""
    found = []
    for predicted, got in (("kl", "kl"), ("drop", "drop"), ("kl", "drop")):
        x, y = np.array([[r[f"predicted_{predicted}"], r[got]] for r in rows]).T
        low, high = interval(x, y)
        found.append({
            "predicted": predicted, "measured": got, "plans": len(rows),
            "spearman": float(spearmanr(x, y).statistic), "low": low, "high": high,
        })  # fmt: skip
    return found


def write(
    rows: list[dict[str, Any]],
    at_stake: float,
    where: dict[str, Any],
    stem: Path,
    name: str,
    n: int,
) -> str:
    """Write the result as JSON, text and pictures; returns the text."""
    alive = [r for r in rows if r["predicted_drop"] < at_stake]
    found = {"all plans": correlations(rows), "predicted to be above chance": correlations(alive)}
    data = {**where, "at_stake": at_stake, "correlation": found, "plans": rows}
    stem.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")
    saved = [100 * r["saved"] for r in rows]
    names = {"kl": "KL", "drop": "accuracy lost"}
    lines = [
        f"# Predicted and measured loss, {name}, {where['date']}\n",
        f"`{where['command']}` on {where['machine']}, torch {torch.__version__}. "
        f"{len(rows)} random plans that save {min(saved):.0f} to {max(saved):.0f} % of the memory; "
        f"curves on {n} training images, losses measured on the evaluation images.\n",
        "| plans | | predicted | measured | Spearman | 95 % interval |",
        "|---|---|---|---|---|---|",
        *(
            f"| {which} | {f['plans']} | {names[f['predicted']]} | {names[f['measured']]} | "
            f"{f['spearman']:.3f} | {f['low']:.3f} to {f['high']:.3f} |"
            for which, some in found.items()
            for f in some
        ),
    ]
    text = "\n".join([*lines, ""])
    stem.with_suffix(".md").write_text(text)
    stem.with_suffix(".svg").write_text(chart_svg(chart(rows, "kl")))
    stem.with_name(stem.name + "-accuracy.svg").write_text(chart_svg(chart(rows, "drop")))
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="spikformer-digits")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--eval-data", help="where to measure losses, if not in --data")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--recipe")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--model-arg", action="append")
    parser.add_argument("--plans", type=int, default=40)
    parser.add_argument("--n", type=int, default=256)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--saliency")
    parser.add_argument("--recover", default="none")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    name = options.checkpoint.parent.name if options.checkpoint else options.model
    also = "" if options.recover == "none" else f"-{options.recover}"
    stem = RESULTS / f"correlation-{name.replace('/', '-')}{also}-{date.today()}"
    options.work = stem.with_suffix(".jsonl.partial")
    rows, at_stake = measured(options)
    where = {
        "command": shlex.join(["python", *sys.argv]),
        "date": str(date.today()),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    print(write(rows, at_stake, where, stem, name, options.n))
    for left in (options.work, options.work.with_suffix(".sensitivity.journal")):
        left.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
