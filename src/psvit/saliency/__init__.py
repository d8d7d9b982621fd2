"""How much each channel matters, by one criterion; higher is more important.

A criterion is a function in a file of its own and an entry of ``SALIENCY``. It sees the weights
and one group, and returns ``[C]`` in float64. Scores order the channels of a group; between
groups they are comparable only as far as the criterion's docstring says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from psvit.errors import CheckpointError, OptionError
from psvit.records import Graph, Group, Groups, Scores
from psvit.saliency.bn import bn
from psvit.saliency.l1 import l1
from psvit.saliency.l2 import l2
from psvit.saliency.random import random
from psvit.saliency.weights import Weights

Criterion = Callable[[Weights, Group, int], torch.Tensor]

SALIENCY: Mapping[str, Criterion] = {"l1": l1, "l2": l2, "bn": bn, "random": random}


def saliency(graph: Graph, groups: Groups, method: str = "l1", seed: int = 0) -> Scores:
    """Scores of every channel of every group, locked ones too (to look at).

    ``method``: a key of ``SALIENCY``. ``seed`` matters to ``random`` only. Returns
    ``{group id: [C] float64}``. Raises OptionError for an unknown method, CheckpointError if a
    score is not finite, for then a weight is not.
    """
    criterion = SALIENCY.get(method)
    if criterion is None:
        raise OptionError(
            f"no saliency is called {method!r}, expected one of {', '.join(SALIENCY)}"
        )
    weights = Weights(graph)
    scores = {group.id: criterion(weights, group, seed) for group in groups}
    for group in groups:
        if not bool(scores[group.id].isfinite().all()):
            names = ", ".join(sorted({slot.tensor for slot in group.slots})[:3])
            raise CheckpointError(
                f"the {method} saliency of group {group.name} is not finite: a weight among "
                f"{names} is NaN or infinite, so channels cannot be ranked: check the checkpoint"
            )
    return scores


__all__ = ["SALIENCY", "Criterion", "Weights", "saliency"]
