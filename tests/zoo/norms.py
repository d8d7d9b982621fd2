"""Normalisations, and operations that look at all channels at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import layer
from torch import Tensor, nn

from tests.zoo.case import Case, images
from tests.zoo.parts import DIM, ConvBN, OnMaps, OnSteps, OnTokens, lif

STEM = "stem.weight:0"


class Mlp(nn.Module):
    """Linear, activation, Linear, with the hidden width of the paper."""

    def __init__(self, dim: int = DIM, hidden: int = 40) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class PreNorm(nn.Module):
    """LayerNorm over the stream before an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(DIM), Mlp()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x))


class ConvNeXt(nn.Module):
    """Depthwise conv, channels last, LayerNorm, MLP with layer scale, channels first, residual."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pw1, self.act, self.pw2 = nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.dwconv(x).permute(0, 2, 3, 1)
        y = self.gamma * self.pw2(self.act(self.pw1(self.norm(y))))
        return x + y.permute(0, 3, 1, 2)


class Grouped(nn.Module):
    """conv, GroupNorm, neuron, conv."""

    def __init__(self, groups: int, *, affine: bool = True) -> None:
        super().__init__()
        self.conv, self.norm = (
            nn.Conv2d(DIM, DIM, 3, padding=1),
            nn.GroupNorm(groups, DIM, affine=affine),
        )
        self.lif, self.last = lif(), ConvBN(DIM, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.lif(self.norm(self.conv(x))))


class GroupedSteps(nn.Module):
    """The same on [T, B, C, H, W] by SpikingJelly's layers in multi-step mode."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.conv = layer.Conv2d(DIM, DIM, 3, padding=1, step_mode="m")
        self.norm = layer.GroupNorm(groups, DIM, step_mode="m")
        self.lif = lif("m")
        self.last = layer.Conv2d(DIM, 16, 1, step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.lif(self.norm(self.conv(x))))


class FunctionalGroupNorm(nn.Module):
    """F.group_norm with parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(DIM, DIM, 1), ConvBN(DIM, 16)
        self.weight, self.bias = nn.Parameter(torch.rand(DIM)), nn.Parameter(torch.randn(DIM))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(F.group_norm(self.conv(x), 4, self.weight, self.bias)))


class FunctionalBatchNorm(nn.Module):
    """F.batch_norm on the tensors of a BN that is never called itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.last = (
            nn.Conv2d(DIM, 16, 3),
            nn.BatchNorm2d(16),
            nn.Conv2d(16, 20, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        bn = self.bn
        y = F.batch_norm(
            self.conv(x),
            bn.running_mean,
            bn.running_var,
            bn.weight,
            bn.bias,
            self.training,
            0.1,
            bn.eps,
        )
        return self.last(F.relu(y))


class StandardisedConv(nn.Conv2d):
    """Weights are standardised over their inputs before use."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = w - w.mean(dim=(1, 2, 3), keepdim=True)
        w = w / (w.pow(2).mean(dim=(1, 2, 3), keepdim=True).sqrt() + 1e-5)
        return F.conv2d(x, w, self.bias, self.stride, self.padding, self.dilation, self.groups)


class L2Normalised(nn.Module):
    """No parameters, no state: each token is divided by its length. Zeros add nothing to it."""

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.pow(2).sum(dim=1, keepdim=True) + 1.0).sqrt()


class Centred(nn.Module):
    """No parameters, no state: the mean over channels is taken away."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=1, keepdim=True)


class SoftmaxChannels(nn.Module):
    """No parameters, no state: exp(0) of a removed channel would count."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x, dim=1)


class MaxGate(nn.Module):
    """CBAM's spatial gate: mean and maximum over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([x.mean(1, keepdim=True), x.max(dim=1, keepdim=True)[0]], dim=1)
        return x * torch.sigmoid(self.mix(both))


class Maxout(nn.Module):
    """The larger of two neighbouring channels."""

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x.view(b, c // 2, 2, h, w).max(dim=2)[0]


class Chain(nn.Module):
    """conv to 16 channels, BN, an operation, conv: the operation decides about the 16."""

    def __init__(self, operation: nn.Module, out: int = 16) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(DIM, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.operation, self.last = operation, ConvBN(out, 20)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.operation(self.bn(self.conv(x))))


class Lambda(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def chain(
    operation: Callable[[], nn.Module], reason: str = "", out: int = 16, unknown: str = ""
) -> Case:
    """The 16 channels can be pruned, unless there is a reason why not."""
    sixteen = "body.conv.weight:0"
    ends = (STEM, "body.last.0.weight:0")
    return Case(
        lambda: OnMaps(Chain(operation(), out), 20),
        images(),
        ends if reason else (*ends, sixteen),
        {sixteen: reason} if reason else {},
        unknown=(unknown,) if unknown else (),
    )


def op(function: Callable[[Tensor], Tensor], reason: str = "", unknown: str = "") -> Case:
    """The same for a plain function."""
    return chain(lambda: Lambda(function), reason, unknown=unknown)


def grouped(groups: int, *axes: str, affine: bool = True) -> Case:
    """conv, GroupNorm(groups), conv."""
    return Case(
        lambda: OnMaps(Grouped(groups, affine=affine), 16),
        images(),
        (STEM, "body.last.0.weight:0", *axes),
    )


STREAM = {STEM: "LayerNorm looks at all channels of the stream"}
NORMED = ("body.conv.weight:0", "body.norm.weight:0", "body.last.0.weight:1")

CASES = {
    "mlp": Case(
        lambda: OnTokens(nn.Sequential(Mlp(), nn.ReLU(), nn.Linear(DIM, 16)), 16),
        images(),
        (STEM, "body.0.fc1.weight:0", "body.0.fc2.weight:0", "body.2.weight:0"),
    ),
    "layer_norm": Case(
        lambda: OnTokens(PreNorm()),
        images(),
        ("body.mlp.fc1.weight:0", "body.mlp.fc2.weight:1"),
        STREAM,
    ),
    "conv_next": Case(
        lambda: OnMaps(ConvNeXt()), images(), ("body.pw1.weight:0", "body.pw2.weight:1"), STREAM
    ),
    "group_norm": grouped(4, *NORMED),
    "group_norm_plain": grouped(6, NORMED[0], NORMED[2], affine=False),
    "group_norm_of_channels": grouped(DIM, *NORMED),
    "group_norm_multi_step": Case(
        lambda: OnSteps(GroupedSteps(6), 2, 16),
        images(),
        (STEM, "body.conv.weight:0", "body.norm.weight:0", "body.last.weight:0"),
    ),
    "group_norm_of_all": Case(
        lambda: OnMaps(Grouped(1), 16),
        images(),
        (STEM, "body.last.0.weight:0"),
        {"body.conv.weight:0": "one group: every channel counts in its statistics"},
    ),
    "group_norm_functional": Case(
        lambda: OnMaps(FunctionalGroupNorm(), 16), images(), (STEM, "body.last.0.weight:0")
    ),
    "instance_norm": chain(lambda: nn.InstanceNorm2d(16, affine=True)),
    "batch_norm_functional": Case(
        lambda: OnMaps(FunctionalBatchNorm(), 20),
        images(),
        (STEM, "body.conv.weight:0", "body.bn.weight:0", "body.last.weight:1"),
    ),
    "standardised_weights": Case(
        lambda: OnMaps(nn.Sequential(StandardisedConv(DIM, 16, 3), nn.BatchNorm2d(16), lif()), 16),
        images(),
        ("body.0.weight:0", "body.1.weight:0", "head.weight:1"),
        {STEM: "the weights after it are standardised over their inputs"},
    ),
    "l2_normalised": chain(L2Normalised),
    "centred": Case(lambda: OnMaps(Chain(Centred()), 20), images(), (STEM, "body.last.0.weight:0")),
    "softmax_over_channels": chain(SoftmaxChannels, "exp(0) of a removed channel would count"),
    "max_over_channels": chain(MaxGate, "a removed channel is 0, which may be the largest"),
    "maxout": chain(Maxout, "a removed channel is 0, which may be the larger", out=8),
    "flipped_channels": Case(
        lambda: OnMaps(Chain(Lambda(lambda x: x.flip(1))), 20), images(), (STEM,)
    ),
    "elementwise_rare": op(lambda x: torch.special.log1p(x.abs()).erf() + torch.asinh(x)),
    "elementwise_not_zero_at_zero": op(lambda x: torch.special.i0e(x) + torch.sinc(x)),
    "fourier_over_channels": op(
        lambda x: torch.fft.fft(x, dim=1).real, "every channel mixes into every other", "fft"
    ),
    "fourier_over_space": op(lambda x: torch.fft.ifft2(torch.fft.fft2(x)).real.roll(1, -1)),
    "running_sum_over_channels": op(
        lambda x: torch.cumsum(x, dim=1), "a channel is the sum of all before it"
    ),
    "running_product_over_channels": op(
        lambda x: torch.cumprod(x.sigmoid() + 0.6, dim=1), "a channel holds all before it"
    ),
    "sorted_channels": op(lambda x: x.sort(dim=1)[0], "where a channel lands depends on all"),
    "norm_over_channels": Case(
        lambda: OnMaps(Chain(Lambda(lambda x: x / (x.norm(dim=1, keepdim=True) + 1))), 20),
        images(),
        (STEM, "body.last.0.weight:0"),
    ),
    "standard_deviation": op(
        lambda x: x / (x.std(dim=1, keepdim=True) + 1), "the deviation counts channels"
    ),
}
