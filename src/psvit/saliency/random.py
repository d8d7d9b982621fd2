"""Random scores: the control that every other criterion has to beat."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from psvit.records import Group
from psvit.saliency.weights import Weights


def random(weights: Weights, group: Group, seed: int) -> torch.Tensor:
    """``s_c`` uniform in [0, 1), the same for the same seed and group wherever the group stands.

    The stream is seeded with the group's slots instead of its number, so neither other groups
    nor their order change it. Returns ``[C]``; ``weights`` is not used.
    """
    # groups of one fused layer have the same axes: where they start on them tells them apart
    slots = sorted((s.tensor, str(s.dim), int(s.index.min())) for s in group.slots if s.index.size)
    digest = hashlib.sha256(repr((int(seed), slots)).encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:16], "little"))
    return torch.from_numpy(generator.random(group.size))
