"""Parameters and constants that are used without a layer."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.case import Case, images, words
from tests.zoo.parts import CLASSES, DIM, TOKENS, ConvBN, OnMaps, OnTokens, lif

STEM = "stem.weight:0"


class Positions(nn.Module):
    """Position embedding [1, N, C] and layer scale [C] on a residual stream."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(1, TOKENS, dim))
        self.gamma = nn.Parameter(torch.rand(dim) + 0.5)
        self.fc1, self.lif, self.fc2 = nn.Linear(dim, 40), lif(), nn.Linear(40, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.position
        return x + self.gamma * self.fc2(self.lif(self.fc1(x)))


class SlicedPositions(nn.Module):
    """A longer position table, of which the first tokens are used; a class token in front."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, TOKENS + 5, dim))
        self.token = nn.Parameter(torch.randn(1, 1, dim))
        self.fc = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        return torch.relu(self.fc(x + self.table[:, : x.shape[1]]))


class Prompts(nn.Module):
    """Learnt prompts times a tensor of ones that is created for the batch at hand."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.prompt = nn.Parameter(torch.randn(1, 1, dim))
        self.fc = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        prompts = torch.ones(x.shape[0], 7, 1) * self.prompt
        return torch.relu(self.fc(torch.cat([prompts, x], dim=1)))


class FunctionalConvs(nn.Module):
    """Weights of our own, given to F.conv2d (dense, then depthwise with a literal) and F.linear."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.2 * torch.randn(20, DIM, 3, 3))
        self.bias = nn.Parameter(torch.randn(20))
        self.depth = nn.Parameter(torch.randn(20, 1, 3, 3))
        self.matrix, self.offset = nn.Parameter(torch.randn(16, 20)), nn.Parameter(torch.randn(16))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(x, self.weight, self.bias, padding=1))
        x = F.conv2d(x, self.depth, None, 1, 1, 1, 20)
        return F.linear(x.permute(0, 2, 3, 1), self.matrix, self.offset).permute(0, 3, 1, 2)


class MatrixProducts(nn.Module):
    """Parameters in plain matrix products, transposed or not, and in addmm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(DIM, 20)), nn.Parameter(torch.randn(16, 20))
        self.c, self.d = nn.Parameter(torch.randn(16)), nn.Parameter(torch.randn(16, 12))

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        x = torch.relu(x @ self.a)
        x = x.matmul(self.b.t()) + self.c
        return torch.mm(x.reshape(b * n, -1), self.d).reshape(b, n, -1)


class BlockDiagonal(nn.Module):
    """Block-diagonal weights by einsum: channels are [block, d]."""

    def __init__(self, blocks: int = 4, equation: str = "...bd,bdk->...bk") -> None:
        super().__init__()
        self.blocks, self.equation = blocks, equation
        self.first = nn.Linear(DIM, DIM)
        self.weight = nn.Parameter(torch.randn(blocks, DIM // blocks, 5))
        self.last = nn.Linear(5 * blocks, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = x.reshape(*x.shape[:-1], self.blocks, DIM // self.blocks)
        return torch.relu(self.last(torch.einsum(self.equation, x, self.weight).flatten(-2)))


class ConstantMatrices(nn.Module):
    """Fixed matrices that are neither parameters nor buffers: no group may be theirs alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(DIM, 16, 1)
        self.H = torch.randn(12, 16)
        self.G = torch.randn(12, 20)
        self.last = nn.Linear(20, 18)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).flatten(2).transpose(1, 2)
        x = torch.relu(x @ self.H.T) @ self.G
        return self.last(torch.relu(x)).transpose(1, 2)


class BufferMask(nn.Module):
    """A fixed mask over channels, kept in a buffer: it is sliced along."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = ConvBN(DIM, 16), ConvBN(16, 20)
        self.register_buffer("mask", torch.tensor([1.0, 0.5] * 8).view(1, 16, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.conv(x) * self.mask)


class Quantiser(nn.Module):
    """Learned step size, one for all or one a channel: a removed step must not become 0 / 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(DIM, 16, 1)
        self.a = nn.Parameter(torch.rand(channels, 1, 1) + 0.3)
        self.last = ConvBN(16, 20)

    def forward(self, x: Tensor) -> Tensor:
        return self.last((self.conv(x) / self.a).round().clamp(-3, 4) * self.a)


class Views(nn.Module):
    """Views of a parameter, kept in an attribute, used beside the whole."""

    def __init__(self, *, detached: bool) -> None:
        super().__init__()
        self.e, self.f = nn.Linear(DIM, 16), nn.Linear(DIM, 20)
        with torch.no_grad():
            self.d: dict[str, Any] = {"w": self.e.weight[:8], "b": [self.e.bias[:8]]}
        if detached:
            self.d = {"w": self.e.weight.detach()[:8], "b": [self.e.bias.data[:8]]}
        self.last = nn.Linear(24, 18)

    def forward(self, x: Tensor) -> Tensor:
        some = F.linear(x, self.d["w"], self.d["b"][0])
        return self.last(torch.relu(torch.cat([self.e(x), some], -1))) + self.f(x)[..., :18]


class Tied(nn.Module):
    """The head uses the weight of the embedding; ``same``: as one parameter of two layers."""

    def __init__(self, *, same: bool, vocabulary: int = 11, dim: int = DIM) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, dim)
        self.fc1, self.fc2 = nn.Linear(dim, 40), nn.Linear(40, dim)
        self.head = nn.Linear(dim, vocabulary, bias=False) if same else None
        if self.head is not None:
            self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        x = (x + self.fc2(torch.relu(self.fc1(x)))).mean(1)
        return F.linear(x, self.embed.weight) if self.head is None else self.head(x)


class Single(nn.Module):
    """Spikes are turned to float32 and ones are made as float32, inside a float64 model."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gamma = ConvBN(DIM, 16), nn.Parameter(torch.rand(16, 1, 1))
        self.last = ConvBN(16, 20)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.conv(x).float()
        ones = torch.ones(x.shape[0], 1, 1, 1, dtype=torch.float32)
        return self.last(spikes * ones * self.gamma)


class Bank(nn.Module):
    """A ParameterList and a ParameterDict, read in a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.ParameterList([torch.rand(DIM) + 0.5 for _ in range(3)])
        self.named = nn.ParameterDict({"shift": torch.randn(DIM), "gate": torch.rand(1)})

    def forward(self, x: Tensor) -> Tensor:
        for scale in self.scales:
            x = torch.relu(x * scale + self.named["shift"])
        return x * self.named["gate"]


class Stacked(nn.Module):
    """Weights of two layers joined for one call."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(DIM, 10), nn.Linear(DIM, 14)
        self.last = nn.Linear(24, 16)

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.cat([self.a.weight, self.b.weight])
        bias = torch.cat([self.a.bias, self.b.bias])
        return self.last(torch.relu(F.linear(x, weight, bias)))


def tokens(body: Any, out: int, *axes: str, **locked: str) -> Case:
    """A body on tokens."""
    return Case(
        lambda: OnTokens(body(), out),
        images(),
        axes,
        {name.replace("__", ".") + ":0": why for name, why in locked.items()},
    )


def maps(body: Any, out: int, *axes: str, locked: dict[str, str] | None = None) -> Case:
    """A body on maps."""
    return Case(lambda: OnMaps(body(), out), images(), axes, locked or {})


CASES = {
    "positions_and_layer_scale": tokens(
        Positions,
        DIM,
        STEM,
        "body.position:2",
        "body.gamma:0",
        "body.fc1.weight:0",
        "head.weight:1",
    ),
    "sliced_positions": tokens(
        SlicedPositions, DIM, STEM, "body.table:2", "body.token:2", "body.fc.weight:0"
    ),
    "prompts": tokens(Prompts, DIM, STEM, "body.prompt:2", "body.fc.weight:0"),
    "functional_convolutions": maps(
        FunctionalConvs,
        16,
        STEM,
        "body.weight:0",
        "body.bias:0",
        "body.depth:0",
        "body.matrix:1",
        "body.matrix:0",
    ),
    "matrix_products": tokens(
        MatrixProducts, 12, STEM, "body.a:1", "body.b:1", "body.b:0", "body.c:0", "body.d:1"
    ),
    "block_diagonal": tokens(BlockDiagonal, 16, STEM, "body.last.weight:0"),
    "block_diagonal_named": tokens(
        lambda: BlockDiagonal(4, "nmbd,bdk->nmbk"), 16, STEM, "body.last.weight:0"
    ),
    "constant_matrices": maps(ConstantMatrices, 18, STEM, "body.last.weight:0"),
    "buffer_mask": maps(BufferMask, 20, STEM, "body.conv.0.weight:0", "body.mask:1"),
    "step_size_of_all": maps(lambda: Quantiser(1), 20, STEM, "body.conv.weight:0"),
    "step_size_of_channels": maps(
        lambda: Quantiser(16), 20, STEM, "body.conv.weight:0", "body.a:0"
    ),
    "views_of_parameters": tokens(lambda: Views(detached=False), 18, STEM),
    "views_of_detached_parameters": tokens(lambda: Views(detached=True), 18, STEM),
    "tied_by_use": Case(
        lambda: Tied(same=False),
        words(TOKENS, 11),
        ("embed.weight:1", "fc1.weight:0", "fc2.weight:0"),
    ),
    "tied_by_parameter": Case(
        lambda: Tied(same=True),
        words(TOKENS, 11),
        ("embed.weight:1", "fc1.weight:0", "fc2.weight:0"),
    ),
    "single_precision_inside": maps(Single, 20, STEM, "body.conv.0.weight:0", "body.gamma:0"),
    "parameter_bank": tokens(Bank, DIM, STEM, "body.scales.0:0", "body.named.shift:0"),
    "weights_joined": tokens(
        Stacked, 16, STEM, "body.a.weight:0", "body.b.bias:0", "body.last.weight:1"
    ),
}
assert CLASSES < DIM
