"""Fine-tunings of one pruned model beside each other, on training images held out of them.

    python -m benchmarks.tuning SETTINGS ... [--model spikformer-digits] [--data digits]
        [--recipe cifar10] [--save 0.65 | --plans TABLE.json --level 50%] [--epochs 5] [--bf16]

SETTINGS are of psvit.finetune, such as norms=frozen,lr=3e-4,batch=32. Pruning is uniform by obs, or
as `optimal` did in an earlier table of benchmarks.accuracy; each fine-tuning starts from what
recovery auto leaves on 1,024 training images. Prints the loss on the images held out (the
divergence from the unpruned model) and the share that is right, before and after.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

import psvit
from benchmarks.accuracy.cells import read
from benchmarks.accuracy.plans import earlier, plan_again
from psvit.calibrate import calibrate
from psvit.capture.copying import private_copy
from psvit.data import RECIPES, open_data
from psvit.finetune import Tuning
from psvit.memory import keep_freed_memory
from psvit.models.load import load_model
from psvit.records import Graph, Groups, Plan, Scores
from psvit.recover import IMAGES, Origin, recover
from psvit.rewrite import rewrite
from psvit.saliency import obs_scores
from psvit.train.batches import read_into_memory

BATCH = 128
"""Images of a batch of calibration."""


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    model = load_model(options.model).model.eval()
    images = _calibration(options)
    graph = psvit.capture(model, images[0][:2])
    groups = psvit.find_groups(graph)
    dense = calibrate(graph, groups, images, seed=options.seed)
    plan = _plan(options, graph, groups, obs_scores(dense))
    small = rewrite(graph, plan)
    recover(small, images, "auto", Origin(graph, groups, plan, dense, seed=options.seed))
    for text in options.settings:
        settings = dict(setting(part) for part in text.split(","))
        start = time.perf_counter()
        tuned = psvit.finetune(
            private_copy(small),
            model,
            training_images(options, settings.get("batch", Tuning.batch), only=_only(options)),
            plan=plan,
            epochs=options.epochs,
            bf16=options.bf16,
            held_out=options.held_out,
            seed=options.seed,
            **settings,
        )
        first = next(line for line in tuned.log if "held_out_loss" in line)
        summary = tuned.summary()
        last = _said(summary) + ", statistics matched" * summary["matched"]
        took = time.perf_counter() - start
        print(f"{text}: {_said(first)} -> {last}, {took:.0f} s", flush=True)


def setting(text: str) -> tuple[str, Any]:
    """A setting of fine-tuning that is a number or a word, such as ``lr=3e-4``."""
    name, _, value = text.partition("=")
    kind = type(getattr(Tuning, name, None))
    if kind not in (int, float, str):
        raise argparse.ArgumentTypeError(f"fine-tuning has no number or word {name!r} to set")
    return name, kind(value)


def training_images(
    options: argparse.Namespace, batch: int, *, only: bool, workers: int = 0
) -> Any:
    """All training images, in memory where there is a recipe to prepare them by.

    ``only``: the data is one split.
    """
    recipe = RECIPES[options.recipe] if options.recipe else None
    loader = open_data(
        options.data, split="train", recipe=recipe, only=only, workers=workers, batch_size=batch
    )
    if recipe is None:
        return loader
    return read_into_memory(loader, mean=recipe.mean, std=recipe.std, batch=batch)


def _calibration(options: argparse.Namespace) -> list[torch.Tensor]:
    found = open_data(
        options.data,
        split="train",
        recipe=RECIPES[options.recipe] if options.recipe else None,
        only=_only(options),
        limit=IMAGES,
        batch_size=BATCH,
        shuffle=True,
    )
    return [images for images, _ in found]


def _only(options: argparse.Namespace) -> bool:
    return bool(options.data != "digits")


def _plan(options: argparse.Namespace, graph: Graph, groups: Groups, scores: Scores) -> Plan:
    if not options.plans:
        return psvit.allocate(graph, groups, scores, {"memory": options.save}, "uniform")
    wanted = {"model": options.model, "method": "optimal", "saliency": "obs", "recover": "auto"}
    found = earlier(read(options.plans).values(), wanted | {"level": options.level})
    if found is None:
        raise SystemExit(f"{options.plans} has no plan of optimal at {options.level}")
    return plan_again(graph, groups, scores, found["keep"])


def _said(line: Any) -> str:
    return f"{line['held_out_loss']:.4f} ({line.get('held_out_accuracy', float('nan')):.2%})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.tuning", description=__doc__)
    parser.add_argument("settings", nargs="+", metavar="SETTINGS")
    parser.add_argument("--model", default="spikformer-digits")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--recipe")
    parser.add_argument("--save", type=float, default=0.65)
    parser.add_argument("--plans", type=Path)
    parser.add_argument("--level")
    parser.add_argument("--epochs", type=float, default=5.0)
    parser.add_argument("--held-out", type=float, default=0.1)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
