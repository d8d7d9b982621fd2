"""What rankings and recoveries keep of accuracy in uniform pruning, without labels or gradients.

    python benchmarks/recovery.py [--model spikformer-digits] [--data digits] [--checkpoint FILE]
        [--recipe cifar10] [--save 0.224 0.267 0.4 0.5] [--saliency l1 rate taylor obs]
        [--recover none bn obs lsq auto] [--images 1024] [--limit N]

Every ranking is taken from, and every recovery calibrated on, --images training images; accuracy
is measured once for each cell on the test images (all, or --limit drawn at random). The loss is
paired with the unpruned model after the same recovery, on the same images, with a 95 % interval;
KL is the mean divergence from the unpruned model on the test images, in nats. Writes
benchmarks/results/recovery-<model>-<date>.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch

import psvit
from psvit.allocate import allocate
from psvit.artefacts.checkpoint import load_weights
from psvit.calibrate import calibrate
from psvit.capture.copying import private_copy
from psvit.data import RECIPES, Split, open_data
from psvit.evaluate import paired_drop
from psvit.models.load import load_model
from psvit.outputs import kl_per_image, predict
from psvit.recover import Origin, calibration_images, recover
from psvit.rewrite import rewrite
from psvit.saliency import FROM_DATA, obs_scores, saliency

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    options = read_options()
    torch.set_num_threads(options.threads)
    recipe = RECIPES[options.recipe] if options.recipe else None
    model = load_model(options.model, weights=options.checkpoint is None).model.eval()
    if options.checkpoint is not None:
        load_weights(model, options.checkpoint)

    def batches(split: Split, limit: int | None) -> list[tuple[torch.Tensor, torch.Tensor]]:
        data = options.data if split == "train" else options.eval_data or options.data
        found = open_data(
            data,
            split=split,
            recipe=recipe,
            limit=limit,
            shuffle=split == "train",
            only=options.eval_data is not None,
        )
        return [(x, y) for x, y in found]

    train = batches("train", options.images)
    test = batches("eval", options.limit)
    labels = torch.cat([y for _, y in test])
    images = calibration_images(train, options.images)
    graph = psvit.capture(model, images[0][:2])
    groups = psvit.find_groups(graph)
    seconds: dict[str, float] = {}
    start = time.perf_counter()
    dense = calibrate(graph, groups, images)
    seconds["moments"] = time.perf_counter() - start
    scores = {}
    for name in options.saliency:
        start = time.perf_counter()
        looked_at = train if name in FROM_DATA else None
        scores[name] = (
            obs_scores(dense) if name == "obs" else saliency(graph, groups, name, data=looked_at)
        )
        seconds[f"ranking {name}"] = time.perf_counter() - start
    whole = predict(model, test, "cpu")
    right = {}
    for name in options.recover:
        control = recover(private_copy(model), images, name)
        right[name] = predict(control, test, "cpu").argmax(1) == labels
    rows = []
    for name, ranking in scores.items():
        for share in options.save:
            plan = allocate(graph, groups, ranking, {"memory": share}, "uniform")
            for how in options.recover:
                small = rewrite(graph, plan)
                start = time.perf_counter()
                recover(small, images, how, Origin(graph, groups, plan, dense))
                took = time.perf_counter() - start
                logs = predict(small, test, "cpu")
                hit = logs.argmax(1) == labels
                lost, low, high = paired_drop(right[how], hit)
                rows.append(
                    {
                        "saliency": name,
                        "recover": how,
                        "saved": share,
                        "accuracy": float(hit.double().mean()),
                        "lost": lost,
                        "low": low,
                        "high": high,
                        "kl": float(kl_per_image(whole, logs).mean()),
                        "seconds": took,
                    }
                )
                print(rows[-1], flush=True)
    write(options, rows, right, seconds, len(labels), sum(len(x) for x in images))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="spikformer-digits")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--eval-data")
    parser.add_argument("--recipe")
    parser.add_argument("--save", type=float, nargs="+", default=[0.224, 0.267, 0.4, 0.5])
    parser.add_argument("--saliency", nargs="+", default=["l1", "rate", "taylor", "obs"])
    parser.add_argument("--recover", nargs="+", default=["none", "bn", "obs"])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def write(
    options: argparse.Namespace,
    rows: list[dict[str, Any]],
    right: dict[str, torch.Tensor],
    seconds: dict[str, float],
    tested: int,
    calibrated: int,
) -> None:
    """The results as JSON and as a table."""
    day = date.today().isoformat()
    path = RESULTS / f"recovery-{Path(options.model).name}-{day}"
    dense = {how: float(hit.double().mean()) for how, hit in right.items()}
    setting = {
        "date": day,
        "model": options.model,
        "data": options.data,
        "calibration_images": calibrated,
        "test_images": tested,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {options.threads} thread(s)",
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "seconds": seconds,
    }
    path.with_suffix(".json").write_text(
        json.dumps({**setting, "dense": dense, "rows": rows}, indent=1) + "\n"
    )
    lines = [
        f"# Uniform pruning of {options.model}: rankings and recoveries",
        "",
        f"{day}, `python benchmarks/recovery.py`, {setting['machine']}, torch {torch.__version__}. "
        f"Rankings and recoveries see {calibrated:,} training images without labels; accuracy is "
        f"top-1 on {tested:,} test images. In brackets the 95 % interval of the loss, paired with "
        "the unpruned model after the same recovery.",
        "",
        "Unpruned: " + ", ".join(f"{how} {value:.2%}" for how, value in dense.items()) + ".",
        "",
        "| ranking | recovery | " + " | ".join(f"{s:.1%} saved" for s in options.save) + " |",
        "|---|---|" + "---|" * len(options.save),
    ]
    for name in options.saliency:
        for how in options.recover:
            cells = [
                f"{100 * r['accuracy']:.1f} ({100 * r['low']:+.1f} to {100 * r['high']:+.1f} lost)"
                for r in rows
                if r["saliency"] == name and r["recover"] == how
            ]
            lines.append(f"| {name} | {how} | " + " | ".join(cells) + " |")
    lines += ["", "Seconds: " + ", ".join(f"{k} {v:.1f}" for k, v in seconds.items()) + "."]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print(f"written to {path}.md")


if __name__ == "__main__":
    main()
