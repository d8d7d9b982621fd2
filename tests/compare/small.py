"""A comparison that takes a second: the tiny spiking model on five images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from spikingjelly.activation_based import functional

from psvit.compare import Comparison, compare
from psvit.compare.cells import judged
from psvit.records import Figures
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


def made_up(control: bool) -> Comparison:
    """A comparison whose every figure is made up: 200 images, two budgets, four methods."""
    whole = Figures(2_000_000, 500_000, 80_000_000)

    def right(wrong: int, start: int = 0) -> torch.Tensor:
        """All images but ``wrong`` in a row."""
        hits = torch.ones(200, dtype=torch.bool)
        hits[start : start + wrong] = False
        return hits

    cells = []
    for share, more in ((0.224, 1), (0.5, 6)):
        small = Figures(*(round((1 - share) * f) for f in (2_000_000, 500_000, 80_000_000)))
        budget = {"memory": share}
        cells += [
            judged("random", budget, small, right(25 * more), 0.4),
            judged("psvit", budget, small, right(5 * more, 3), 75.0),
            judged("optimal", budget, small, right(4 * more, 4), 3725.2),
            judged("unstructured", budget, whole, right(3 * more, 8), 0.1, round(share * 500_000)),
        ]
    return Comparison(
        fingerprint="f" * 16,
        settings={"model": "made up", "recover": "bn" if control else "none"},
        dense=judged("dense", {}, whole, right(6), 0.0),
        control=judged("dense, recovered", {}, whole, right(3, 4), 2.5) if control else None,
        cells=tuple(cells),
        analysis_s=None if control else 154.0,
        left_out=("something: for a reason",) if control else (),
    )
