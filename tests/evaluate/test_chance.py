"""A model that guesses is told from one that knows, and only where there are labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from psvit.evaluate import guessing


class Knows(nn.Module):
    """Images hold their label; ``right`` of them are read as it, the others as the next class."""

    def __init__(self, right: float) -> None:
        super().__init__()
        self.right = right

    def forward(self, x: Tensor) -> Tensor:
        place, label = x[:, 0], x[:, 1].long()
        return nn.functional.one_hot((label + (place >= self.right)) % 10, 10).float()


def data(n: int, size: int = 16) -> list[tuple[Tensor, Tensor]]:
    x = torch.stack([torch.arange(n) / n, torch.arange(n) % 10], 1)
    return [(b, b[:, 1].long()) for b in x.split(size)]


def test_no_better_than_chance_is_said() -> None:
    said = guessing(Knows(0.1), data(160))
    assert said is not None
    assert "gets 16 of 160 training images right" in said
    assert "among 10 classes" in said
    assert guessing(Knows(0.0), data(160)) is not None
    assert guessing(Knows(0.3), data(160)) is None
    assert guessing(Knows(1.0), data(160)) is None


def test_without_labels_or_with_few_nothing_is_said() -> None:
    assert guessing(Knows(0.0), [x for x, _ in data(160)]) is None
    assert guessing(Knows(0.0), [(x, x) for x, _ in data(160)]) is None
    assert guessing(Knows(0.0), data(20)) is None
    assert guessing(Knows(0.0), []) is None
