"""Moving, choosing and masking tokens: none of it concerns channels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.zoo.case import Case, images
from tests.zoo.parts import DIM, TOKENS, OnTokens


class Tokens(nn.Module):
    """Linear with distinct tokens, something done to tokens, Linear."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(DIM, 20), nn.Linear(20, 16)
        self.position = nn.Parameter(torch.randn(TOKENS, 20))
        self.function = function
        self.register_buffer("order", torch.tensor([4, 2, 2, 7, 0]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x) + self.position
        return self.fc2(torch.relu(self.function(x)))


class Chosen(Tokens):
    """The five tokens with the highest score are kept."""

    def __init__(self, how: str) -> None:
        super().__init__(nn.Identity())
        self.score, self.how = nn.Linear(20, 1), how

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x) + self.position
        index = self.score(x).squeeze(-1).topk(5, dim=1).indices
        if self.how == "gather":
            x = x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        elif self.how == "index":
            x = x[torch.arange(x.shape[0])[:, None], index]
        else:
            keep = torch.zeros(x.shape[:2], dtype=torch.bool).scatter(1, index, True)
            x = x.masked_fill(~keep.unsqueeze(-1), 0.0)
        return self.fc2(torch.relu(x))


class ClassToken(Tokens):
    """A learned token before the others, once for every sample of the batch."""

    def __init__(self) -> None:
        super().__init__(nn.Identity())
        self.token = nn.Parameter(torch.randn(1, 1, 20))

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x) + self.position
        x = torch.cat((torch.cat([self.token] * x.shape[0], dim=0), x), dim=1)
        return self.fc2(torch.relu(x))


class Ordered(Tokens):
    """Tokens picked by a buffer of positions."""

    def __init__(self, how: str) -> None:
        super().__init__(nn.Identity())
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x) + self.position
        if self.how == "index":
            x = x[:, self.order]
        elif self.how == "index_select":
            x = x.index_select(1, self.order)
        else:
            x = x[:, torch.unique(self.order)]
        return self.fc2(torch.relu(x))


class Masked(Tokens):
    """Elements and tokens set by masks, in place and not."""

    def __init__(self, how: str) -> None:
        super().__init__(nn.Identity())
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x) + self.position
        if self.how == "where":
            x = torch.where(x > 0, x, 0.1 * x)
        elif self.how == "where_zeros":
            x = torch.where(x > 0.2, x, torch.zeros_like(x))
        elif self.how == "boolean":
            mask = (torch.arange(x.shape[1]) % 2 == 0)[None, :, None]
            x = x * mask
        elif self.how == "setitem":
            x = x.clone()
            x[:, 3] = 0.0
            x[x < 0] = 0.0
        else:
            x += 1.0
            x.mul_(0.5).add_(x)
            x -= x.detach().clamp(max=0)
            x.relu_()
        return self.fc2(x)


def two_values(x: Tensor) -> Tensor:
    """max along tokens returns values and positions."""
    values, positions = x.max(dim=1, keepdim=True)
    return x - values + positions.to(x.dtype)


def sorted_tokens(x: Tensor) -> Tensor:
    """Each channel is sorted by itself."""
    values, order = torch.sort(x, dim=1, descending=True)
    return values[:, :4] + order[:, :4].to(x.dtype)


def best(x: Tensor) -> Tensor:
    """The three largest of each channel."""
    return torch.topk(x, 3, dim=1)[0]


def counted(x: Tensor) -> Tensor:
    """Cumulative mean over tokens."""
    count = torch.arange(1, x.shape[1] + 1).reshape(1, -1, 1)
    return x.cumsum(1) / count


def windows(x: Tensor) -> Tensor:
    """Tokens in windows of three, first and last of each."""
    b, n, c = x.shape
    w = x.view(b, n // 3, 3, c)
    return torch.cat([w[:, :, 0], w[:, :, -1], w.amax(2)], dim=1)


def neighbours(x: Tensor) -> Tensor:
    """Unfolded, rolled, narrowed, flipped."""
    x = x.roll(2, dims=1) + x.flip(1)
    return x.narrow(1, 1, 6) + x.unfold(1, 6, 1)[:, 0].transpose(1, 2)


def case(body: Callable[[], nn.Module]) -> Case:
    """All channels can be pruned."""
    axes = ("stem.weight:0", "body.fc1.weight:0", "body.position:1", "body.fc2.weight:0")
    return Case(lambda: OnTokens(body(), 16), images(), axes)


CASES = {
    "topk_values": case(lambda: Tokens(best)),
    "sorted_tokens": case(lambda: Tokens(sorted_tokens)),
    "max_and_position": case(lambda: Tokens(two_values)),
    "cumulative_mean": case(lambda: Tokens(counted)),
    "windows": case(lambda: Tokens(windows)),
    "rolled_tokens": case(lambda: Tokens(neighbours)),
    "tokens_gathered": case(lambda: Chosen("gather")),
    "tokens_indexed": case(lambda: Chosen("index")),
    "tokens_masked": case(lambda: Chosen("mask")),
    "class_token": case(ClassToken),
    "tokens_by_buffer": case(lambda: Ordered("index")),
    "tokens_index_select": case(lambda: Ordered("index_select")),
    "tokens_unique": case(lambda: Ordered("unique")),
    "where": case(lambda: Masked("where")),
    "where_zeros": case(lambda: Masked("where_zeros")),
    "boolean_mask": case(lambda: Masked("boolean")),
    "item_assignment": case(lambda: Masked("setitem")),
    "in_place": case(lambda: Masked("in_place")),
}
