"""Convolutions of every kind, and what is put between them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.case import Case, images, points
from tests.zoo.parts import CLASSES, DIM, ConvBN, OnMaps, OnTokens, lif

STEM = "stem.weight:0"


class BNAndPad(nn.Module):
    """BN, then a border of what BN makes of zero (so that padding commutes with the 1x1 before)."""

    def __init__(self, dim: int, pad: int = 1) -> None:
        super().__init__()
        self.bn, self.pad = nn.BatchNorm2d(dim), pad

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(x)
        bn = self.bn
        value = bn.bias.detach() - (
            bn.running_mean * bn.weight.detach() / torch.sqrt(bn.running_var + bn.eps)
        )
        y = F.pad(y, [self.pad] * 4)
        value = value.view(1, -1, 1, 1)
        y[:, :, 0 : self.pad, :] = value
        y[:, :, -self.pad :, :] = value
        y[:, :, :, 0 : self.pad] = value
        y[:, :, :, -self.pad :] = value
        return y


class RepConv(nn.Module):
    """Re-parameterisable chain: 1x1, BN and pad, depthwise 3x3, 1x1, BN."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(cin, cin, 1, bias=False),
            BNAndPad(cin),
            nn.Sequential(
                nn.Conv2d(cin, cin, 3, groups=cin, bias=False),
                nn.Conv2d(cin, cout, 1, bias=False),
                nn.BatchNorm2d(cout),
            ),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class RepBlock(nn.Module):
    """Two such chains around a neuron, and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.lif, self.second = RepConv(DIM, 2 * DIM), lif(), RepConv(2 * DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.lif(self.first(x)))


class Shuffle(nn.Module):
    """Channel shuffle between two grouped convolutions."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.first = ConvBN(DIM, DIM, 1, groups=groups)
        self.second = ConvBN(DIM, DIM, 3, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        b, c, h, w = x.shape
        x = x.view(b, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(b, c, h, w)
        return self.second(x)


class PlainShuffle(nn.Module):
    """Channel shuffle between pointwise convolutions, by torch's own function."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = ConvBN(DIM, DIM), ConvBN(DIM, DIM)
        self.shuffle = nn.ChannelShuffle(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.shuffle(self.first(x)))


class Branches(nn.Module):
    """Two branches of different widths, concatenated, then a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.join = ConvBN(DIM, 10), ConvBN(DIM, 14, 3), ConvBN(24, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat([self.a(x), self.b(x)], dim=1))


class Dense(nn.Module):
    """DenseNet: each layer sees all that came before."""

    def __init__(self, layers: int = 3, growth: int = 8) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ConvBN(DIM + i * growth, growth, 3) for i in range(layers))
        self.last = ConvBN(DIM + layers * growth, 16)

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for layer in self.layers:
            seen.append(layer(torch.cat(seen, 1)))
        return self.last(torch.cat(seen, dim=1))


class Halves(nn.Module):
    """Half of the channels go through a branch, half go around it."""

    def __init__(self) -> None:
        super().__init__()
        self.branch, self.join = ConvBN(DIM // 2, DIM // 2, 3), ConvBN(DIM, 16)

    def forward(self, x: Tensor) -> Tensor:
        around, through = x[:, : DIM // 2], x[:, DIM // 2 :]
        return self.join(torch.cat((around, self.branch(through)), 1))


class Shared(nn.Module):
    """One convolution used twice: its inputs are its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(DIM, DIM, 3, padding=1)
        self.bn1, self.bn2, self.lif1, self.lif2 = (
            nn.BatchNorm2d(DIM),
            nn.BatchNorm2d(DIM),
            lif(),
            lif(),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.lif1(self.bn1(self.conv(x)))
        return self.lif2(self.bn2(self.conv(x)))


class SharedBlock(nn.Module):
    """One residual block run three times, with a stateless activation."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(DIM, 16, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, DIM, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = x + self.block(x)
        return x


class SqueezeExcite(nn.Module):
    """Gates computed from the pooled map, by 1x1 convolutions or by Linears."""

    def __init__(self, *, linear: bool) -> None:
        super().__init__()
        self.linear = linear
        if linear:
            self.reduce, self.expand = nn.Linear(DIM, 8), nn.Linear(8, DIM)
        else:
            self.reduce, self.expand = nn.Conv2d(DIM, 8, 1), nn.Conv2d(8, DIM, 1)
        self.last = ConvBN(DIM, 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        b, c = x.shape[:2]
        pooled = F.adaptive_avg_pool2d(x, 1)
        if self.linear:
            pooled = pooled.view(b, c)
        gate = torch.sigmoid(self.expand(F.relu(self.reduce(pooled))))
        return self.last(x * gate.view(b, c, 1, 1))


class PixelShuffled(nn.Module):
    """Channels become space: four of them make one."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.shuffle, self.down = (
            nn.Conv2d(DIM, 4 * 6, 1),
            nn.PixelShuffle(2),
            nn.Conv2d(6, DIM, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.shuffle(self.up(x)))


class Upsampled(nn.Module):
    """Pool down, interpolate up, add."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(DIM, DIM, 3, padding=1)
        self.pools = nn.Sequential(nn.MaxPool2d(2), nn.Upsample(scale_factor=3))
        self.average = nn.AvgPool2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pools(self.conv(x))
        return F.interpolate(y, size=x.shape[-2:], mode="nearest") + self.average(x)


class Volumes(nn.Module):
    """[B, 1, D, H, W] through 3-D convolutions to classes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv3d(1, DIM, 3, padding=1, bias=False),
            nn.BatchNorm3d(DIM),
            lif(),
            nn.MaxPool3d(2),
            nn.Conv3d(DIM, 16, 1, bias=False),
            nn.BatchNorm3d(16),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(16, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class MeanGate(nn.Module):
    """A map of the mean over channels gates all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mix, self.last = (
            ConvBN(DIM, 16),
            nn.Conv2d(1, 1, 3, padding=1),
            ConvBN(16, 20),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.last(x * torch.sigmoid(self.mix(x.mean(dim=1, keepdim=True))))


class Flattened(nn.Module):
    """A map flattened with its channels into one Linear, as in VGG."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn, self.lif = nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), lif()
        self.fc, self.head = nn.Linear(16 * 9, 20), nn.Linear(20, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lif(self.bn(self.stem(x)))
        return self.head(torch.relu(self.fc(torch.flatten(x, 1))))


def on_maps(body: Callable[[], nn.Module], *axes: str, out: int = DIM) -> Case:
    """A body between a stem and a head, all of whose axes can be pruned."""
    axes = tuple(a if a.startswith("head") else f"body.{a}" for a in axes)
    return Case(lambda: OnMaps(body(), out), images(), (STEM, *axes))


def grouped(groups: int, cin: int, cout: int) -> Callable[[], nn.Module]:
    """pointwise, grouped 3x3, pointwise."""
    return lambda: nn.Sequential(
        ConvBN(DIM, cin), ConvBN(cin, cout, 3, groups=groups), ConvBN(cout, 16)
    )


CASES = {
    "rep_conv": on_maps(
        RepBlock,
        "first.body.0.weight:0",
        "first.body.1.bn.weight:0",
        "first.body.2.0.weight:0",
        "second.body.2.1.weight:0",
        "head.weight:1",
    ),
    "depthwise": on_maps(grouped(16, 16, 16), "0.0.weight:0", "1.0.weight:0", "1.1.bias:0", out=16),
    "depthwise_multiplier": on_maps(
        grouped(12, 12, 24), "0.0.weight:0", "1.0.weight:0", "2.0.weight:1", out=16
    ),
    "grouped": on_maps(grouped(2, 16, 24), "0.0.weight:0", "1.0.weight:0", "1.1.weight:0", out=16),
    "grouped_narrowing": on_maps(grouped(3, 24, 12), "0.0.weight:0", "1.0.weight:0", out=16),
    "transposed": on_maps(
        lambda: nn.Sequential(
            nn.ConvTranspose2d(DIM, 16, 2, 2), nn.BatchNorm2d(16), ConvBN(16, 20)
        ),
        "0.weight:0",
        "0.weight:1",
        "0.bias:0",
        out=20,
    ),
    "transposed_grouped": on_maps(
        lambda: nn.Sequential(
            ConvBN(DIM, 16), nn.ConvTranspose2d(16, 8, 2, 2, groups=2), ConvBN(8, 20)
        ),
        "2.0.weight:0",
        out=20,
    ),
    "transposed_depthwise": on_maps(
        lambda: nn.Sequential(
            ConvBN(DIM, 16), nn.ConvTranspose2d(16, 16, 2, 2, groups=16), ConvBN(16, 20)
        ),
        "2.0.weight:0",
        out=20,
    ),
    "channel_shuffle": on_maps(PlainShuffle, "first.0.weight:0", "second.0.weight:1"),
    "channel_shuffle_grouped": on_maps(lambda: Shuffle(2), "second.0.weight:0"),
    "concatenated": on_maps(
        Branches, "a.0.weight:0", "b.0.weight:0", "join.0.weight:1", "join.0.weight:0", out=16
    ),
    "dense_net": on_maps(
        Dense, "layers.0.0.weight:0", "layers.2.0.weight:1", "last.0.weight:1", out=16
    ),
    "halves": on_maps(Halves, "branch.0.weight:0", "branch.0.weight:1", "join.0.weight:1", out=16),
    "shared_conv": on_maps(
        Shared, "conv.weight:0", "conv.weight:1", "bn1.weight:0", "bn2.weight:0", "head.weight:1"
    ),
    "shared_block": on_maps(SharedBlock, "block.0.weight:0", "block.3.weight:0", "head.weight:1"),
    "squeeze_excite_conv": on_maps(
        lambda: SqueezeExcite(linear=False),
        "reduce.weight:0",
        "reduce.weight:1",
        "expand.weight:0",
        out=16,
    ),
    "squeeze_excite_linear": on_maps(
        lambda: SqueezeExcite(linear=True),
        "reduce.weight:0",
        "reduce.weight:1",
        "expand.bias:0",
        out=16,
    ),
    "pixel_shuffle": on_maps(PixelShuffled, "down.weight:0"),
    "upsampled": on_maps(Upsampled, "conv.weight:0", "conv.weight:1", "head.weight:1"),
    "conv3d": Case(Volumes, points(1, 4, 6, 6), ("net.0.weight:0", "net.4.weight:0")),
    "conv1d_over_tokens": Case(
        lambda: OnTokens(nn.Sequential(nn.Conv1d(9, 9, 1), nn.Linear(DIM, 16), nn.ReLU()), 16),
        images(),
        ("body.1.weight:0",),
    ),
    "mean_gate": on_maps(MeanGate, "conv.0.weight:0", "last.0.weight:1", out=20),
    "flattened": Case(Flattened, images(), ("stem.weight:0", "fc.weight:0", "fc.weight:1")),
}
