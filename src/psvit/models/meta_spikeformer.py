"""Meta-SpikeFormer (SDT-v2): Yao et al., "Spike-driven Transformer V2", ICLR 2024, 2404.03663.

Written from the paper; the names and shapes of its parameters are those of the authors'
checkpoints, which load strictly. Input ``[B, C, H, W]``, repeated over T time steps, or
``[T, B, C, H, W]``; output ``[B, K]``, the mean over T of the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from psvit.errors import ModelError
from psvit.models.jelly import lif
from psvit.models.meta_blocks import (
    STRIDES,
    Attention,
    ConvBlock,
    Mlp,
    Stages,
    check_sizes,
    folded,
    start_head,
)
from psvit.models.repconv import RepConv


class SeparableConv(nn.Module):
    """1x1, 7x7 depthwise and 1x1 convolutions on spikes (paper, equation 5)."""

    def __init__(self, channels: int, ratio: int = 2) -> None:
        super().__init__()
        wide = channels * ratio
        self.neuron1 = lif()
        self.pwconv1 = nn.Conv2d(channels, wide, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.neuron2 = lif()
        self.dwconv = nn.Conv2d(wide, wide, 7, padding=3, groups=wide, bias=False)
        self.pwconv2 = nn.Conv2d(wide, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, H, W]`` -> the same shape."""
        y = folded(self.bn1, folded(self.pwconv1, self.neuron1(x)))
        y = folded(self.pwconv2, folded(self.dwconv, self.neuron2(y)))
        return folded(self.bn2, y)


class Block(nn.Module):
    """``x + SDSA(x)`` with re-parameterised projections, then ``x + MLP(x)``."""

    def __init__(self, channels: int, heads: int, ratio: int) -> None:
        super().__init__()
        # The third variant of the paper's attention (table 1); its neuron's threshold is halved.
        self.attn = Attention(
            channels, heads, lif, project=RepConv, attended=lif(threshold=0.5), scale=0.125
        )
        self.mlp = Mlp(channels, ratio, lif)

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, H, W]`` -> the same shape."""
        x = x + self.attn(x)
        x = x + self.mlp(x)
        return x


class MetaSpikeFormer(Stages):
    """The classifier. ``T``: time steps that an image is repeated over."""

    def __init__(
        self,
        *,
        T: int,
        num_classes: int,
        in_channels: int,
        embed_dims: Sequence[int],
        num_heads: int,
        mlp_ratio: int,
        depths: Sequence[int],
        strides: Sequence[int],
        distilled: bool,
    ) -> None:
        check_sizes(embed_dims, depths, strides, num_heads)
        if T < 1:
            raise ModelError(f"T is {T}, expected 1 time step or more")
        super().__init__(
            in_channels=in_channels,
            widths=embed_dims,
            depths=depths,
            strides=strides,
            neuron=lif,
            conv_block=lambda c: ConvBlock(SeparableConv(c), c, mlp_ratio, lif),
            block=lambda c: Block(c, num_heads, mlp_ratio),
        )
        self.T = T
        self.neuron = lif()
        self.head = nn.Linear(embed_dims[-1], num_classes)
        start_head(self.head)
        self.head_kd = nn.Linear(embed_dims[-1], num_classes) if distilled else None
        if self.head_kd is not None:
            start_head(self.head_kd)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` or ``[T, B, C, H, W]`` -> logits ``[B, K]``."""
        if x.ndim == 4:
            x = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        y = self.neuron(self.features(x).flatten(-2).mean(-1))
        logits: Tensor = self.head(y).mean(0)
        if self.head_kd is not None:
            logits = (logits + self.head_kd(y).mean(0)) / 2
        return logits


def meta_spikeformer(
    T: int = 4,
    num_classes: int = 1000,
    in_channels: int = 3,
    embed_dims: Sequence[int] = (96, 192, 384, 480),
    num_heads: int = 8,
    mlp_ratio: int = 4,
    depths: Sequence[int] = (6, 2),
    strides: Sequence[int] = STRIDES,
    distilled: bool = False,
) -> nn.Module:
    """Meta-SpikeFormer; the defaults are the one of 31 million parameters.

    Args:
        embed_dims: channels of the four stages.
        depths: attention blocks of the third and the fourth stage; the first two stages have two
            convolutional blocks each.
        strides: of the five downsamplings.
        distilled: a second head, which learns from a teacher's answers; the logits are the mean
            of both. For checkpoints that hold ``head_kd``.

    Raises:
        ModelError: sizes of which no model can be made.
    """
    return MetaSpikeFormer(
        T=T,
        num_classes=num_classes,
        in_channels=in_channels,
        embed_dims=tuple(embed_dims),
        num_heads=num_heads,
        mlp_ratio=mlp_ratio,
        depths=tuple(depths),
        strides=tuple(strides),
        distilled=distilled,
    )


def meta_spikeformer_15m(**arguments: Any) -> nn.Module:
    """The smallest of the paper; arguments as ``meta_spikeformer``."""
    return meta_spikeformer(**{"embed_dims": (64, 128, 256, 360), **arguments})


def meta_spikeformer_31m(**arguments: Any) -> nn.Module:
    """The middle one of the paper; arguments as ``meta_spikeformer``."""
    return meta_spikeformer(**arguments)


def meta_spikeformer_55m(**arguments: Any) -> nn.Module:
    """The largest of the paper; arguments as ``meta_spikeformer``."""
    return meta_spikeformer(**{"embed_dims": (128, 256, 512, 640), **arguments})


def meta_spikeformer_cifar10(
    T: int = 4,
    num_classes: int = 10,
    embed_dims: Sequence[int] = (32, 64, 128, 160),
    depths: Sequence[int] = (2, 1),
) -> nn.Module:
    """Meta-SpikeFormer for 32x32 images, which start at full size: 64 tokens."""
    return meta_spikeformer(
        T=T,
        num_classes=num_classes,
        embed_dims=embed_dims,
        num_heads=4,
        depths=depths,
        strides=(1, 2, 2, 1, 1),
    )
