"""L1 norm of a channel's filters."""

from __future__ import annotations

import torch

from psvit.records import Group
from psvit.saliency.weights import Weights


def l1(weights: Weights, group: Group, seed: int) -> torch.Tensor:
    """``s_c = mean over producers W of the group: sum over positions i of c: sum |W[i]|``.

    A filter with small weights puts out weak feature maps: Li et al., "Pruning Filters for
    Efficient ConvNets" (ICLR 2017, arXiv 1608.08710), section 3.1. Producers are defined in
    ``Weights.producers``; the mean over several and the sum over the positions of a channel
    (q and k in a fused qkv) are ours. Returns ``[C]``; ``seed`` is not used.
    """
    return weights.mean_norm(weights.producers(group), group, power=1)
