"""E-SpikeFormer (SDT-v3): Yao et al., "Scaling Spike-driven Transformer with Efficient Spike Firing
Approximation Training", IEEE TPAMI 2025, 2411.16061, at the sizes without pre-training.

Written from the paper; the names and shapes of its parameters are those of the authors'
checkpoints, which load strictly. Neurons fire whole numbers at a single time step, so there is no
time axis: input ``[B, C, H, W]``, output ``[B, K]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from psvit.errors import ModelError
from psvit.models.integer_neuron import IntegerNeuron
from psvit.models.meta_blocks import (
    STRIDES,
    Attention,
    ConvBlock,
    MakeNeuron,
    Mlp,
    Stages,
    check_sizes,
    start_head,
)

VALUE_RATIO = 4
"""Channels of V over channels of Q and K (paper, section 5: efficient spike-driven attention)."""


class SpikingSeparableConv(nn.Module):
    """1x1, depthwise and 1x1 convolutions, each on spikes and followed by a batch norm."""

    def __init__(self, channels: int, kernel: int, neuron: MakeNeuron, ratio: int = 2) -> None:
        super().__init__()
        wide = channels * ratio
        depthwise = nn.Conv2d(wide, wide, kernel, padding=kernel // 2, groups=wide, bias=False)
        self.neuron1 = neuron()
        self.pwconv1 = nn.Sequential(nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide))
        self.neuron2 = neuron()
        self.dwconv = nn.Sequential(depthwise, nn.BatchNorm2d(wide))
        self.neuron3 = neuron()
        self.pwconv2 = nn.Sequential(
            nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` -> the same shape."""
        x = self.pwconv1(self.neuron1(x))
        x = self.dwconv(self.neuron2(x))
        x = self.pwconv2(self.neuron3(x))
        return x


class Block(nn.Module):
    """A separable convolution, attention and an MLP, each with a shortcut around it."""

    def __init__(self, channels: int, heads: int, ratio: int, neuron: MakeNeuron) -> None:
        super().__init__()
        self.conv = SpikingSeparableConv(channels, 3, neuron)
        self.attn = Attention(
            channels,
            heads,
            neuron,
            project=partial(nn.Conv2d, kernel_size=1, bias=False),
            attended=neuron(),
            scale=2 * (channels // heads) ** -0.5,
            value_ratio=VALUE_RATIO,
        )
        self.mlp = Mlp(channels, ratio, neuron)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` -> the same shape."""
        x = x + self.conv(x)
        x = x + self.attn(x)
        x = x + self.mlp(x)
        return x


class ESpikeFormer(Stages):
    """The classifier. ``levels``: spikes that a neuron fires at most."""

    def __init__(
        self,
        *,
        levels: int,
        num_classes: int,
        in_channels: int,
        embed_dims: Sequence[int],
        num_heads: int,
        mlp_ratio: int,
        depths: Sequence[int],
        strides: Sequence[int],
    ) -> None:
        check_sizes(embed_dims, depths, strides, num_heads)
        if levels < 1:
            raise ModelError(f"levels is {levels}, expected 1 spike or more")
        neuron = partial(IntegerNeuron, levels)
        super().__init__(
            in_channels=in_channels,
            widths=embed_dims,
            depths=depths,
            strides=strides,
            neuron=neuron,
            conv_block=lambda c: ConvBlock(
                SpikingSeparableConv(c, 7, neuron), c, mlp_ratio, neuron
            ),
            block=lambda c: Block(c, num_heads, mlp_ratio, neuron),
        )
        self.neuron = IntegerNeuron(levels, unit=1.0)
        self.head = nn.Linear(embed_dims[-1], num_classes)
        start_head(self.head)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` -> logits ``[B, K]``."""
        logits: Tensor = self.head(self.neuron(self.features(x).flatten(-2).mean(-1)))
        return logits


def e_spikeformer(
    num_classes: int = 1000,
    in_channels: int = 3,
    embed_dims: Sequence[int] = (48, 96, 192, 240),
    num_heads: int = 8,
    mlp_ratio: int = 4,
    depths: Sequence[int] = (6, 2),
    strides: Sequence[int] = STRIDES,
    levels: int = 4,
) -> nn.Module:
    """E-SpikeFormer; the defaults are the one of 10 million parameters.

    Args:
        embed_dims: channels of the four stages.
        depths: attention blocks of the third and the fourth stage.
        strides: of the five downsamplings.
        levels: spikes that a neuron fires at most (the paper's D).

    Raises:
        ModelError: sizes of which no model can be made.
    """
    return ESpikeFormer(
        levels=levels,
        num_classes=num_classes,
        in_channels=in_channels,
        embed_dims=tuple(embed_dims),
        num_heads=num_heads,
        mlp_ratio=mlp_ratio,
        depths=tuple(depths),
        strides=tuple(strides),
    )


def e_spikeformer_5m(**arguments: Any) -> nn.Module:
    """5.1 million parameters; arguments as ``e_spikeformer``."""
    return e_spikeformer(**{"embed_dims": (32, 64, 128, 192), **arguments})


def e_spikeformer_10m(**arguments: Any) -> nn.Module:
    """10 million parameters; arguments as ``e_spikeformer``."""
    return e_spikeformer(**arguments)


def e_spikeformer_19m(**arguments: Any) -> nn.Module:
    """19 million parameters; arguments as ``e_spikeformer``."""
    return e_spikeformer(**{"embed_dims": (64, 128, 256, 360), **arguments})
