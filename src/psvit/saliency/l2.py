"""L2 norm of a channel's filters."""

from __future__ import annotations

import torch

from psvit.records import Group
from psvit.saliency.weights import Weights


def l2(weights: Weights, group: Group, seed: int) -> torch.Tensor:
    """``s_c = mean over producers W of the group: sum over positions i of c: sqrt(sum W[i]^2)``.

    The p-norm of a filter with p = 2: He et al., "Soft Filter Pruning for Accelerating Deep
    Convolutional Neural Networks" (IJCAI 2018, arXiv 1808.06866), section 3.2. Producers, mean
    and sum as in ``l1``. Returns ``[C]``; ``seed`` is not used.
    """
    return weights.mean_norm(weights.producers(group), group, power=2)
