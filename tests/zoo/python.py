"""What Python lets authors do: literals, flags, late parameters, two forwards, einops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import einops
import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from einops.layers.torch import Rearrange, Reduce
from torch import Tensor, nn

from tests.zoo.case import Case, images, points
from tests.zoo.parts import CLASSES, DIM, HEADS, ConvBN, OnMaps, OnTokens, lif

STEM = "stem.weight:0"


class Literals(nn.Module):
    """Widths from literals and attributes wherever a reshape wants one."""

    def __init__(self, dim: int = DIM, ratio: float = 1.5) -> None:
        super().__init__()
        self.dim, self.num_heads, self.c_hidden = dim, HEADS, int(dim * ratio)
        self.fc1, self.bn1 = nn.Linear(dim, 4 * dim), nn.BatchNorm1d(4 * dim)
        self.fc2, self.bn2 = nn.Linear(4 * dim, self.c_hidden), nn.BatchNorm1d(self.c_hidden)
        self.fc3 = nn.Linear(self.c_hidden, dim)
        self.lif = lif()

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        y = self.bn1(self.fc1(x.reshape(b * n, c))).reshape(b, n, 4 * c)
        y = F.relu(y).view(b, n, 4 * 24)
        y = self.bn2(self.fc2(y.flatten(0, 1)))
        y = self.lif(y.reshape(b, n, self.c_hidden).contiguous())
        y = self.fc3(y).reshape(b, n, self.num_heads, self.dim // self.num_heads)
        return x + y.reshape(b, n, self.dim)


class TwoForwards(nn.Module):
    """An auxiliary branch in training only; another activation in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.extra, self.last = ConvBN(DIM, 16), ConvBN(DIM, 16, 3), ConvBN(16, 20)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.training:
            y = y + self.extra(x)
        else:
            y = torch.relu(y - 0.1)
        return self.last(y)


class FirstCall(nn.Module):
    """The first call after construction measures a scale; later calls use it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = ConvBN(DIM, 16), ConvBN(16, 20)
        self.first = True
        self.scale = 1.0

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.first:
            self.scale, self.first = 2.0, False
            x = x.abs()
        return self.last(x * self.scale)


class LateParameters(nn.Module):
    """Layers and parameters that are made when the first input arrives."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.LazyLinear(16)
        self.gain: nn.Parameter | None = None
        self.last = nn.Linear(16, 20)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        if self.gain is None:
            self.gain = nn.Parameter(torch.linspace(0.5, 1.5, x.shape[-1]))
        return self.last(torch.relu(x * self.gain))


class Unused(nn.Module):
    """Parameters, norms and branches that no forward reads."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.spare = nn.LayerNorm(DIM), nn.Conv2d(DIM, DIM, 1)
        self.conv, self.table = ConvBN(DIM, 16), nn.Parameter(torch.randn(7, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class TwoOutputs(nn.Module):
    """Returns (logits, {"hook": features}, [T, B, K] logits of an auxiliary head)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.aux, self.body = ConvBN(3, DIM, 3), nn.Linear(DIM, 7), ConvBN(DIM, 16)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
        x = self.stem(x)
        aux = self.aux(x.mean((2, 3))).unsqueeze(0)
        y = self.body(x).mean((2, 3))
        return self.head(y), {"hook": x.sum((1, 2, 3))}, [aux]


class FeatureOutput(nn.Module):
    """Features are an output too: their channels are what the caller sees."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = ConvBN(3, DIM, 3), ConvBN(DIM, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.body(self.stem(x))
        return self.head(y.mean((2, 3))), y


class TwoInputs(nn.Module):
    """Two images; each has a stem, the streams are added."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = ConvBN(3, DIM, 3), ConvBN(3, DIM, 3)
        self.body, self.head = ConvBN(DIM, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head(self.body(self.a(x) + self.b(y)).mean((2, 3)))


class DropPath(nn.Module):
    """Stochastic depth as everybody copies it."""

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if self.p == 0.0 or not self.training:
            return x
        keep = 1 - self.p
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * mask / keep


class Dropped(nn.Module):
    """Stochastic depth over samples, and dropout that never drops."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.conv, self.drop = nn.Conv2d(DIM, DIM, 3, padding=1), DropPath(p)
        self.fc, self.none, self.same = nn.Conv2d(DIM, 16, 1), nn.Dropout(0.0), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.same(x) + self.drop(self.none(self.conv(x))))


class Compiled(nn.Module):
    """A part of the forward is compiled, which would hide what it does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.last = (
            nn.Conv2d(DIM, 16, 1),
            nn.Conv2d(DIM, 16, 1),
            ConvBN(16, 20),
        )

    @torch.compile(backend="eager")
    def fuse(self, a: Tensor, b: Tensor) -> Tensor:
        """A gated product."""
        return (a * torch.sigmoid(b)).relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.fuse(self.conv(x), self.gate(x)))


class Einops(nn.Module):
    """Attention by einops: its functions imported by name, by module, and its layers."""

    def __init__(self, dim: int = DIM, heads: int = HEADS) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.lif, self.proj = nn.Linear(dim, 3 * dim), lif(), nn.Linear(dim, dim)
        self.merge = Rearrange("b h n d -> b n (h d)")
        self.pool = Reduce("b n c -> b () c", "mean")
        self.token = nn.Parameter(torch.randn(1, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([repeat(self.token, "n c -> b n c", b=x.shape[0]), x], dim=1)
        qkv = self.lif(self.qkv(x))
        q, k, v = rearrange(qkv, "b n (three h d) -> three b h n d", three=3, h=self.heads)
        y = self.merge(q @ einops.rearrange(k, "b h n d -> b h d n") @ v)
        y = self.proj(y)
        return y + self.pool(y) + reduce(y, "b n c -> b 1 c", "max")


class EinopsMaps(nn.Module):
    """Patches and windows of maps by einops."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = ConvBN(DIM, 16), nn.Linear(16, 20)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        h = x.shape[2]
        y = self.fc(rearrange(x, "b c h w -> b (h w) c"))
        return rearrange(y, "b (h w) c -> b c h w", h=h)


class Counted(nn.Module):
    """Sizes through len, list, numel, divmod, tuples and keyword arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(DIM, 20), nn.Linear(20, 16)

    def forward(self, x: Tensor) -> Tensor:
        b, n = x.size(0), x.size(dim=1)
        x = torch.relu(self.fc1(x.reshape(-1, x.shape[-1])))
        x = x.view(size=(b, n, *x.shape[1:]))
        lead = list(x.shape[:-1])
        half, rest = divmod(x.shape[1], 2)
        x = torch.cat([x[:, :half], x[:, half : half + half + rest]], dim=1)
        x = x.flatten(0, 1).unflatten(0, (b, n))
        return self.fc2(x.reshape([*lead, -1])) * (len(x) / b)


class Containers(nn.Module):
    """ModuleDict, nested lists, a parameter-free block, keyword calls."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.ModuleDict({"a": nn.ModuleList([ConvBN(DIM, 16), ConvBN(16, 20)])})
        self.acts = [torch.relu, nn.functional.silu]

    def forward(self, x: Tensor) -> Tensor:
        for block, act in zip(self.net["a"], self.acts, strict=True):
            x = act(block(x))
        return F.avg_pool2d(input=x, kernel_size=3, stride=1, padding=1)


def maps(body: Callable[[], nn.Module], out: int, *axes: str, **more: Any) -> Case:
    """A body on maps."""
    return Case(lambda: OnMaps(body(), out), images(), (STEM, *axes), **more)


def tokens(body: Callable[[], nn.Module], out: int, *axes: str, **more: Any) -> Case:
    """A body on tokens."""
    return Case(lambda: OnTokens(body(), out), images(), (STEM, *axes), **more)


CASES = {
    "literals": tokens(
        Literals,
        DIM,
        "body.fc1.weight:0",
        "body.bn1.bias:0",
        "body.fc2.weight:0",
        "body.fc3.weight:0",
    ),
    "two_forwards": maps(
        TwoForwards, 20, "body.conv.0.weight:0", "body.extra.0.weight:0", "body.last.0.weight:1"
    ),
    "first_call": maps(FirstCall, 20, "body.conv.0.weight:0", "body.last.0.weight:0"),
    "late_parameters": tokens(
        LateParameters, 20, "body.fc.weight:0", "body.gain:0", "body.last.weight:1"
    ),
    "unused_modules": maps(Unused, 16, "body.conv.0.weight:0"),
    "two_outputs": Case(
        TwoOutputs, images(), ("stem.0.weight:0", "aux.weight:1", "body.0.weight:0")
    ),
    "feature_output": Case(
        FeatureOutput,
        images(),
        ("stem.0.weight:0",),
        {"body.0.weight:0": "its channels are an output of the model"},
    ),
    "two_inputs": Case(
        TwoInputs, images(count=2), ("a.0.weight:0", "b.1.weight:0", "body.0.weight:0")
    ),
    "drop_path_off": maps(lambda: Dropped(0.0), 16, "body.conv.weight:0", "body.fc.weight:0"),
    "drop_path_on": maps(lambda: Dropped(0.5), 16, "body.conv.weight:0", "body.fc.weight:0"),
    "compiled_method": maps(Compiled, 20, "body.conv.weight:0", "body.gate.weight:0"),
    "einops_attention": tokens(
        Einops, DIM, "body.qkv.weight:0", "body.proj.weight:1", "body.token:1", heads=HEADS
    ),
    "einops_maps": maps(EinopsMaps, 20, "body.conv.0.weight:0", "body.fc.weight:0"),
    "counted_sizes": tokens(Counted, 16, "body.fc1.weight:0", "body.fc2.weight:0"),
    "containers": maps(Containers, 20, "body.net.a.0.0.weight:0", "body.net.a.1.0.weight:0"),
    "plain_mlp": Case(
        lambda: nn.Sequential(
            nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 20), nn.Tanh(), nn.Linear(20, 5)
        ),
        points(10),
        ("0.weight:0", "0.bias:0", "2.weight:1", "2.weight:0", "4.weight:1"),
        {"4.weight:0": "the classes are the output of the model"},
    ),
}
