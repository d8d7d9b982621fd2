"""A comparison that takes a second: the tiny spiking model on five images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from spikingjelly.activation_based import functional

from psvit.compare import Comparison, compare
from tests.sensitivity.tiny import Tiny, tiny
from tests.zoo.case import float64

SAVE = {"memory": [0.2, 0.45]}


class Clock:
    """Seconds that tick by one whenever they are looked at."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def labelled(seed: int = 0) -> Tiny:
    """The tiny model, with labels of which it gets four of five right."""
    with float64():
        bare = tiny(seed=seed)
        batches = []
        for images, _ in bare.batches:
            functional.reset_net(bare.model)
            with torch.no_grad():
                batches.append((images, bare.model(images).mean(0).argmax(1)))
        functional.reset_net(bare.model)
        batches[1][1][-1] += 1
        batches[1][1][-1] %= 5
        return replace(bare, batches=batches)


def compared(model: Tiny | None = None, **options: Any) -> Comparison:
    """Every method on the tiny model, in float64."""
    with float64():
        model = model or labelled()
        options = {"save": SAVE, "n": 5, "clock": Clock()} | options
        save = options.pop("save")
        data, judged_on = options.pop("data", model.batches), options.pop("eval", model.batches)
        return compare(model.model, model.batches[0][0][:2], save, data, judged_on, **options)
