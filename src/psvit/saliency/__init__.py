"""How much each channel matters, by one criterion; higher is more important.

A criterion is a function in a file of its own and an entry of a table: of ``SALIENCY`` if it sees
the weights and one group, and returns ``[C]`` in float64; of ``FROM_DATA`` if it runs the model
on calibration images, and returns the scores of all groups. Scores order the channels of a group;
between groups they are comparable only as far as the criterion's docstring says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from psvit.errors import CheckpointError, OptionError
from psvit.records import Graph, Group, Groups, Scores
from psvit.saliency.bn import bn
from psvit.saliency.calibration import IMAGES, Calibration
from psvit.saliency.l1 import l1
from psvit.saliency.l2 import l2
from psvit.saliency.obs import obs, obs_scores
from psvit.saliency.random import random
from psvit.saliency.rate import never_fired, rate
from psvit.saliency.taylor import taylor
from psvit.saliency.weights import Weights

Criterion = Callable[[Weights, Group, int], torch.Tensor]
DataCriterion = Callable[[Graph, Groups, Calibration], Scores]

SALIENCY: Mapping[str, Criterion] = {"l1": l1, "l2": l2, "bn": bn, "random": random}
FROM_DATA: Mapping[str, DataCriterion] = {"taylor": taylor, "rate": rate, "obs": obs}
"""Criteria that need calibration images."""


def saliency(
    graph: Graph,
    groups: Groups,
    method: str = "l1",
    seed: int = 0,
    *,
    data: Iterable[Any] | None = None,
    n: int = IMAGES,
    device: str | torch.device = "cpu",
) -> Scores:
    """Scores of every channel of every group, locked ones too (to look at).

    ``method``: a key of ``SALIENCY`` or, with ``data``, of ``FROM_DATA``. ``seed`` matters to
    ``random``, and to models and criteria that draw random numbers. ``data``: batches of training
    inputs, e.g. ``[B, C, H, W]``, or ``(images, labels)``, of which the first ``n`` images are
    run on ``device``; labels are not looked at. The model is not touched.
    Returns ``{group id: [C] float64}``. Raises OptionError for an unknown method or missing data,
    DataError for images that cannot be used, ModelError if the model cannot be run on them, and
    CheckpointError if a score is not finite, for then a weight is not.
    """
    check_saliency(method, data)
    if method in FROM_DATA:
        assert data is not None  # checked
        scores = FROM_DATA[method](graph, groups, Calibration(data, n, seed, device))
    else:
        weights = Weights(graph)
        scores = {group.id: SALIENCY[method](weights, group, seed) for group in groups}
    for group in groups:
        if not bool(scores[group.id].isfinite().all()):
            names = ", ".join(sorted({slot.tensor for slot in group.slots})[:3])
            raise CheckpointError(
                f"the {method} saliency of group {group.name} is not finite: a weight among "
                f"{names} is NaN or infinite, so channels cannot be ranked: check the checkpoint"
            )
    return scores


def check_saliency(method: str, data: object | None) -> None:
    """Raises OptionError for a saliency that psvit does not have, or that lacks images."""
    if method not in SALIENCY and method not in FROM_DATA:
        known = ", ".join([*SALIENCY, *FROM_DATA])
        raise OptionError(f"no saliency is called {method!r}, expected one of {known}")
    if method in FROM_DATA and data is None:
        raise OptionError(
            f"saliency {method!r} runs the model on training images: give them (data=, --data DATA)"
        )


__all__ = [
    "FROM_DATA",
    "SALIENCY",
    "Calibration",
    "Criterion",
    "DataCriterion",
    "Weights",
    "check_saliency",
    "never_fired",
    "obs_scores",
    "saliency",
]
