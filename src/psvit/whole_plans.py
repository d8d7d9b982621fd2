"""What whole plans lose, measured on images: of the outputs, and of top-1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from torch import nn

from psvit.allocate import Measure
from psvit.calibrate import Compensator
from psvit.capture.copying import private_copy
from psvit.evaluate import drop_limit, pack, paired_drop, right_images, unpack
from psvit.groups import make_plan
from psvit.outputs import at_best_temperature, doubt, kl_per_image, predict
from psvit.records import Graph, Groups, Removal
from psvit.recover import Origin, cut
from psvit.recover.matching import matching, watch_norms

Batch = tuple[torch.Tensor, ...]
"""Images ``[B, C, H, W]`` and, where there are any, labels ``[B]``."""

Right = Callable[[Removal], str]
"""Which images a smaller model gets right, a bit each (``psvit.evaluate.pack``)."""


@dataclass(frozen=True)
class DropCheck:
    """What removals lose of top-1 on ``n`` labelled images, beside the whole model.

    ``right``: which of them each gets right; nothing removed is the whole model. Drops are
    fractions of all images, and paired: see ``psvit.evaluate.paired``.
    """

    n: int
    right: Right

    def __call__(self, removal: Removal, risk: float) -> float:
        """What is lost at most, but for ``risk``."""
        return drop_limit(*self._both(removal), NormalDist().inv_cdf(1 - risk))

    def evidence(self, removal: Removal) -> dict[str, Any]:
        """What a removal was measured to lose, as plain data."""
        dense, right = self._both(removal)
        drop, _, _ = paired_drop(dense, right)
        return {
            "accuracy_lost": drop,
            "at_most": drop_limit(dense, right),
            "confidence": 0.95,
            "n": self.n,
            "images": "training images that the analysis did not see",
        }

    def _both(self, removal: Removal) -> tuple[torch.Tensor, torch.Tensor]:
        return unpack(self.right({}), self.n), unpack(self.right(removal), self.n)


def right_on(
    batches: Sequence[Batch],
    model: nn.Module,
    graph: Graph,
    groups: Groups,
    device: str | torch.device,
    dense: Compensator | None = None,
) -> Right:
    """Measures which labelled images a removal leaves right; ``model`` is the whole one.

    Smaller models are compensated by ``dense``, if it is given. Raises as
    ``psvit.evaluate.right_images`` does.
    """

    def right(removal: Removal) -> str:
        some = any(len(gone) for gone in removal.values())
        small = cut(graph, groups, removal, dense) if some else model
        return pack(right_images(small, batches, device=device))

    return right


def loss_on(
    batches: Sequence[Batch],
    graph: Graph,
    groups: Groups,
    device: str | torch.device,
    dense: Compensator | None = None,
    *,
    classes: bool = True,
    matched: bool = False,
) -> Measure:
    """Measures the mean KL divergence in nats and, softly, the share of ``classes`` that change.

    What is to be kept is the class. But whether it changes is a step of 1 / n, and of few images
    noise: it hardly tells plans apart that are near one another. So an image counts by how near it
    is to a change (``psvit.outputs.doubt``). The KL divergence is steadier still, and for small
    moves of compensated models enough; without compensation outputs drift and it counts much that
    changes no class. Both are taken at the temperature that leaves the least of it. No labels are
    needed. Smaller models are compensated by ``dense``, if it is given, and have ``matched``
    batch-norm statistics, if asked for (``psvit.recover.matching``): on these images, in the
    forward that measures them.
    """
    model = private_copy(graph.module).eval()
    whole = predict(model, batches, device)
    sure = doubt(whole, whole)
    norms = watch_norms(model, [batch[0].to(device) for batch in batches]) if matched else None

    def predicted(removal: Removal) -> torch.Tensor:
        small = cut(graph, groups, removal, dense).eval().to(device)
        if norms is None:
            return predict(small, batches, device)
        origin = Origin(graph, groups, make_plan(graph, groups, removal))
        with matching(small, norms, origin.cut):
            return predict(small, batches, device)

    def measure(removal: Removal) -> float:
        logs = at_best_temperature(whole, predicted(removal))
        loss = kl_per_image(whole, logs)
        if classes:
            loss = loss + doubt(whole, logs) - sure
        return float(loss.mean())

    return measure
