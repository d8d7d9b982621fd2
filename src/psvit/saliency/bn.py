"""Scale factors of the batch normalisations behind a channel."""

from __future__ import annotations

import torch

from psvit.records import Group
from psvit.saliency.l1 import l1
from psvit.saliency.weights import Weights


def bn(weights: Weights, group: Group, seed: int) -> torch.Tensor:
    """``s_c = mean over BatchNorms of the group: sum over positions i of c: |gamma[i]|``.

    A channel with a small scale contributes little: Liu et al., "Learning Efficient
    Convolutional Networks through Network Slimming" (ICCV 2017, arXiv 1708.06519), section 3;
    there gamma is trained with an L1 penalty, here it is taken as it is. A group without a
    BatchNorm that has a weight falls back to ``l1``, so its scores compare with one another but
    not with those of other groups. Returns ``[C]``; ``seed`` is not used.
    """
    scales = weights.batch_norms(group)
    return weights.mean_norm(scales, group, power=1) if scales else l1(weights, group, seed)
