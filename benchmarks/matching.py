"""What matched batch-norm statistics do to outputs on images that nothing was fitted on.

    python -m benchmarks.matching [--model spikformer-digits] [--data digits] [--recipe cifar10]
        [--save 0.4] [--images 768] [--held-out 1280]
    python -m benchmarks.matching --plans [--save 0.65] ...

Prints the mean KL divergence from the unpruned model, in nats an image, and the share of labels
that are right, on --held-out training images: uniform pruning by obs, then with statistics taken
again (bn) and with matched ones. With --plans: method optimal and recovery auto, plans measured
with and without matched statistics.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import psvit
from psvit.allocate import allocate
from psvit.calibrate import calibrate
from psvit.capture.copying import private_copy
from psvit.data import RECIPES, open_data
from psvit.guidance import Guide, find_guidance
from psvit.memory import keep_freed_memory
from psvit.models.load import load_model
from psvit.outputs import kl_per_image, predict
from psvit.recover import Origin, recover
from psvit.recover.bn import reestimate
from psvit.recover.matching import match_norms, watch_norms
from psvit.rewrite import rewrite
from psvit.saliency import obs_scores

BATCH = 128
ANALYSIS = 256


@dataclass(frozen=True, eq=False)
class Held:
    """Images to judge on, with labels, and what the unpruned model says of them."""

    batches: list[Any]
    teacher: torch.Tensor

    def say(self, name: str, model: nn.Module) -> None:
        """Print how near ``model`` is."""
        logs = predict(model, self.batches)
        labels = torch.cat([labels for _, labels in self.batches])
        kl = float(kl_per_image(self.teacher, logs).mean())
        right = float((logs.argmax(1) == labels).double().mean())
        print(f"{name:24} KL {kl:.4f}  right {right:.1%} of {len(labels)}", flush=True)


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    model = load_model(options.model).model.eval()
    found = list(
        open_data(
            options.data,
            split="train",
            recipe=RECIPES[options.recipe] if options.recipe else None,
            batch_size=BATCH,
            limit=options.images + options.held_out,
            shuffle=True,
            only=options.data != "digits",
        )
    )
    train, held = found[: options.images // BATCH], found[options.images // BATCH :]
    judge = Held(held, predict(model, held))
    judge.say("unpruned", model)
    (_plans if options.plans else _statistics)(model, train, options.save, judge.say)


def _statistics(
    model: nn.Module, train: list[Any], share: float, say: Callable[[str, nn.Module], None]
) -> None:
    images = [x for x, _ in train]
    graph = psvit.capture(model, images[0][:2])
    groups = psvit.find_groups(graph)
    dense = calibrate(graph, groups, images)
    plan = allocate(graph, groups, obs_scores(dense), {"memory": share}, "uniform")
    origin = Origin(graph, groups, plan, dense)
    small = recover(rewrite(graph, plan), images, "obs", origin)
    say("obs", small)
    fresh = private_copy(small)
    reestimate(fresh, images)
    say("obs, bn", fresh)
    match_norms(small, images, watch_norms(private_copy(model), images), origin.cut)
    say("obs, matched", small)


def _plans(
    model: nn.Module, train: list[Any], share: float, say: Callable[[str, nn.Module], None]
) -> None:
    images = [x for x, _ in train]
    graph = psvit.capture(model, images[0][:2])
    groups = psvit.find_groups(graph)
    dense = calibrate(graph, groups, images)
    ranking, curves = obs_scores(dense), None
    for matched in (True, False):
        guidance = find_guidance(
            Guide(train, curves, n=ANALYSIS, dense=dense, matched=matched),
            model,
            graph,
            groups,
            ranking,
            method="optimal",
            units=("memory",),
            bounded=False,
            say=lambda text: None,
        )
        curves = guidance.curves
        plan = allocate(graph, groups, ranking, {"memory": share}, "optimal", **vars(guidance))
        small = recover(rewrite(graph, plan), images, "auto", Origin(graph, groups, plan))
        say(f"plan {'with' if matched else 'without'} matching", small)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.matching")
    parser.add_argument("--model", default="spikformer-digits")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--recipe")
    parser.add_argument("--save", type=float, default=0.4)
    parser.add_argument("--images", type=int, default=768)
    parser.add_argument("--held-out", type=int, default=1280)
    parser.add_argument("--plans", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
