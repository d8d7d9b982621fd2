"""What Meta-SpikeFormer and E-SpikeFormer are built of, for any neuron.

Convolutions in the first stages, attention in the last two, and membrane shortcuts: every
residual stream is real-valued, every layer reads spikes (Yao et al., "Spike-driven Transformer
V2: Meta Spiking Neural Network Architecture", ICLR 2024, section 3.2 and table 5). Modules that
hold weights are named as in the authors' checkpoints.

Shapes are ``[*, C, H, W]``, where * is T, B for neurons with a membrane and B for integer ones.
C channels, h heads, d channels of a head, N = H * W tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from psvit.errors import ModelError

MakeNeuron = Callable[[], nn.Module]
"""Makes a neuron layer: any shape -> spikes of the same shape."""


def folded(layers: nn.Module, x: Tensor, axes: int = 3) -> Tensor:
    """``layers``, which take ``[B, ...]``, of ``x``: all but its last ``axes`` axes count as B."""
    y: Tensor = layers(x.flatten(0, -axes - 1))
    return torch.unflatten(y, 0, x.shape[:-axes])


class Downsampling(nn.Module):
    """Spikes, a convolution with stride, batch norm. ``neuron`` None: the first one sees pixels."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, neuron: MakeNeuron | None
    ) -> None:
        super().__init__()
        self.neuron = nn.Identity() if neuron is None else neuron()
        self.encode_conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        self.encode_bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """``[*, inputs, H, W]`` -> ``[*, outputs, H / stride, W / stride]``."""
        x = folded(self.encode_conv, self.neuron(x))
        return folded(self.encode_bn, x)


class ConvBlock(nn.Module):
    """``x + SepConv(x)``, then ``x + ChannelConv(x)``: two 3x3 convolutions around a wide layer."""

    def __init__(self, separable: nn.Module, channels: int, ratio: int, neuron: MakeNeuron) -> None:
        super().__init__()
        wide = channels * ratio
        self.Conv = separable
        self.neuron1 = neuron()
        self.conv1 = nn.Conv2d(channels, wide, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.neuron2 = neuron()
        self.conv2 = nn.Conv2d(wide, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[*, C, H, W]`` -> the same shape."""
        x = x + self.Conv(x)
        y = folded(self.bn1, folded(self.conv1, self.neuron1(x)))
        return x + folded(self.bn2, folded(self.conv2, self.neuron2(y)))


class Mlp(nn.Module):
    """Two 1x1 convolutions over tokens, spikes before each."""

    def __init__(self, channels: int, ratio: int, neuron: MakeNeuron) -> None:
        super().__init__()
        wide = channels * ratio
        self.fc1_neuron = neuron()
        self.fc1_conv = nn.Conv1d(channels, wide, 1)
        self.fc1_bn = nn.BatchNorm1d(wide)
        self.fc2_neuron = neuron()
        self.fc2_conv = nn.Conv1d(wide, channels, 1)
        self.fc2_bn = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[*, C, H, W]`` -> the same shape."""
        y = x.flatten(-2)
        y = folded(self.fc1_bn, folded(self.fc1_conv, self.fc1_neuron(y), 2), 2)
        y = folded(self.fc2_bn, folded(self.fc2_conv, self.fc2_neuron(y), 2), 2)
        return torch.unflatten(y, -1, x.shape[-2:])


class Attention(nn.Module):
    """Spike-driven self-attention, linear in N: ``SN(scale * Q (K^T V))``, head by head.

    Q, K and V are spikes, so the products are sums of whole numbers, exact in any order.

    Args:
        project: makes what maps channels to channels before a batch norm, ``(inputs, outputs)``.
        value_ratio: channels of V over channels of Q and K.
        attended: the neuron that reads the result.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        neuron: MakeNeuron,
        *,
        project: Callable[[int, int], nn.Module],
        attended: nn.Module,
        scale: float,
        value_ratio: int = 1,
    ) -> None:
        super().__init__()
        values = channels * value_ratio
        self.heads, self.scale = heads, scale
        self.neuron = neuron()
        self.q_conv = nn.Sequential(project(channels, channels), nn.BatchNorm2d(channels))
        self.k_conv = nn.Sequential(project(channels, channels), nn.BatchNorm2d(channels))
        self.v_conv = nn.Sequential(project(channels, values), nn.BatchNorm2d(values))
        self.q_neuron, self.k_neuron, self.v_neuron = neuron(), neuron(), neuron()
        self.attended = attended
        self.proj_conv = nn.Sequential(project(values, channels), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """``[*, C, H, W]`` -> the same shape."""
        spikes = self.neuron(x)
        q = self._of_heads(self.q_neuron(folded(self.q_conv, spikes)))
        k = self._of_heads(self.k_neuron(folded(self.k_conv, spikes)))
        v = self._of_heads(self.v_neuron(folded(self.v_conv, spikes)))
        mixed = (v @ k.transpose(-2, -1)) @ q * self.scale  # [*, h, d of V, N]
        y = torch.unflatten(self.attended(mixed.flatten(-3, -2)), -1, x.shape[-2:])
        return folded(self.proj_conv, y)

    def _of_heads(self, x: Tensor) -> Tensor:
        """``[*, C, H, W]`` -> ``[*, h, d, N]``."""
        return torch.unflatten(x.flatten(-2), -2, (self.heads, x.shape[-3] // self.heads))


class Stages(nn.Module):
    """Four stages, of which the first two have two parts each: a model without its head.

    Args:
        widths: channels of the four stages; the first half of the first has half of them.
        depths: attention blocks of the third and the fourth stage.
        strides: of the five downsamplings.
        conv_block: makes a block of the first two stages, for so many channels.
        block: makes a block of the last two.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        widths: Sequence[int],
        depths: Sequence[int],
        strides: Sequence[int],
        neuron: MakeNeuron,
        conv_block: Callable[[int], nn.Module],
        block: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        half, first, second, third, fourth = widths[0] // 2, *widths
        s = strides
        self.downsample1_1 = Downsampling(in_channels, half, 7, s[0], None)
        self.ConvBlock1_1 = nn.ModuleList([conv_block(half)])
        self.downsample1_2 = Downsampling(half, first, 3, s[1], neuron)
        self.ConvBlock1_2 = nn.ModuleList([conv_block(first)])
        self.downsample2 = Downsampling(first, second, 3, s[2], neuron)
        self.ConvBlock2_1 = nn.ModuleList([conv_block(second)])
        self.ConvBlock2_2 = nn.ModuleList([conv_block(second)])
        self.downsample3 = Downsampling(second, third, 3, s[3], neuron)
        self.block3 = nn.ModuleList([block(third) for _ in range(depths[0])])
        self.downsample4 = Downsampling(third, fourth, 3, s[4], neuron)
        self.block4 = nn.ModuleList([block(fourth) for _ in range(depths[1])])

    def features(self, x: Tensor) -> Tensor:
        """``[*, in_channels, H, W]`` -> ``[*, C, H / 16, W / 16]`` with the usual strides."""
        for part in (
            *(self.downsample1_1, *self.ConvBlock1_1),
            *(self.downsample1_2, *self.ConvBlock1_2),
            *(self.downsample2, *self.ConvBlock2_1, *self.ConvBlock2_2),
            *(self.downsample3, *self.block3),
            *(self.downsample4, *self.block4),
        ):
            x = part(x)
        return x


STRIDES = (2, 2, 2, 2, 1)
"""Of the published models: a token for 16 x 16 pixels, in the third and the fourth stage."""


def check_sizes(
    widths: Sequence[int], depths: Sequence[int], strides: Sequence[int], heads: int
) -> None:
    """Raises ModelError for sizes of which no model can be made."""
    for name, values, count in (
        ("embed_dims", widths, 4),
        ("depths", depths, 2),
        ("strides", strides, 5),
    ):
        if len(values) != count or any(type(v) is not int or v < 1 for v in values):
            raise ModelError(f"{name} is {values!r}, expected {count} whole numbers of 1 or more")
    if heads < 1 or any(width % heads for width in widths[2:]):
        raise ModelError(
            f"embed_dims is {widths!r}: the last two have to be multiples of num_heads, {heads}"
        )
    if widths[0] % 2:
        raise ModelError(f"embed_dims is {widths!r}: the first has to be even")


def start_head(head: nn.Linear) -> None:
    """The papers' start of a classifier: a narrow normal distribution, no bias."""
    nn.init.trunc_normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
