"""Re-parameterised convolution, as trained: the form that checkpoints of Meta-SpikeFormer hold.

1x1 convolution, batch norm, 3x3 depthwise and 1x1 convolution, batch norm: no spike in between,
so after training all of it folds into one 3x3 convolution (Ding et al., "RepVGG", CVPR 2021; Yao
et al., "Spike-driven Transformer V2", ICLR 2024, section 3.2). As trained it has an inner width
that can be pruned. B images, C channels, H x W positions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BorderedNorm(nn.Module):
    """Batch norm of ``[B, C, H, W]``, and around it a border of what it makes of 0: one pixel.

    Padding before the 1x1 convolution would give the same in eval mode; done here, the 3x3
    convolution that follows needs no padding, and the two fold into one.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` -> ``[B, C, H + 2, W + 2]``."""
        y: Tensor = self.bn(x)
        border = self._of_zero().to(y.dtype).view(1, -1, 1, 1)
        row = border.expand(y.shape[0], -1, 1, y.shape[3])
        y = torch.cat([row, y, row], 2)
        column = border.expand(y.shape[0], -1, y.shape[2], 1)
        return torch.cat([column, y, column], 3)

    def _of_zero(self) -> Tensor:
        """What the norm makes of 0, by the running statistics; takes no part in training."""
        bn = self.bn
        mean, var = bn.running_mean, bn.running_var
        assert mean is not None  # it tracks them
        assert var is not None
        return bn.bias.detach() - mean * bn.weight.detach() / torch.sqrt(var + bn.eps)


class RepConv(nn.Module):
    """``[B, C, H, W]`` -> ``[B, outputs, H, W]``; the inner width is that of the input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, inputs, 1, bias=False),
            BorderedNorm(inputs),
            nn.Sequential(
                nn.Conv2d(inputs, inputs, 3, groups=inputs, bias=False),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
            ),
        )

    def forward(self, x: Tensor) -> Tensor:
        """All of it, as trained."""
        y: Tensor = self.body(x)
        return y
