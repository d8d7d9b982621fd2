"""A trained model, training images to calibrate on, and others, which no fit has seen, to judge."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import psvit
from psvit.calibrate import Compensator, calibrate
from psvit.data import RECIPES, open_data
from psvit.memory import keep_freed_memory
from psvit.models.load import load_model
from psvit.outputs import kl_per_image, predict
from psvit.records import Graph, Groups

BATCH = 128


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Batches of images and labels to judge on, and what the unpruned model says of them."""

    batches: Sequence[Any]
    teacher: torch.Tensor

    def judge(self, model: nn.Module) -> tuple[float, float]:
        """The mean KL divergence from the unpruned model, and the share of right labels."""
        logs = predict(model, self.batches)
        labels = torch.cat([labels for _, labels in self.batches])
        kl = float(kl_per_image(self.teacher, logs).mean())
        return kl, float((logs.argmax(1) == labels).double().mean())


@dataclass(frozen=True, eq=False)
class Setting:
    """A model, its graph and groups, batches to calibrate on, and its moments on their images."""

    model: nn.Module
    graph: Graph
    groups: Groups
    train: Sequence[Any]
    dense: Compensator
    held: HeldOut

    @property
    def images(self) -> list[torch.Tensor]:
        return [images for images, _ in self.train]


def parser_of(name: str, images: int, held_out: int) -> argparse.ArgumentParser:
    """The options that every benchmark of this kind has."""
    parser = argparse.ArgumentParser(f"python -m benchmarks.{name}")
    parser.add_argument("--model", default="spikformer-digits")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--recipe")
    parser.add_argument("--images", type=int, default=images)
    parser.add_argument("--held-out", type=int, default=held_out)
    parser.add_argument("--threads", type=int, default=1)
    return parser


def set_up(options: argparse.Namespace) -> Setting:
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
    train, unseen = found[: options.images // BATCH], found[options.images // BATCH :]
    images = [images for images, _ in train]
    graph = psvit.capture(model, images[0][:2])
    groups = psvit.find_groups(graph)
    dense = calibrate(graph, groups, images)
    return Setting(model, graph, groups, train, dense, HeldOut(unseen, predict(model, unseen)))
