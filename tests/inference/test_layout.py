"""A 1x1 convolution is a product of matrices where channels lie last; no other one is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from spikingjelly.activation_based import layer
from torch import Tensor, nn

from psvit.inference.layout import Pointwise, channels_last

SHAPES = {1: (4, 3, 6, 7), 2: (4, 3, 6, 5, 7)}
"""By spatial axes: ``[T, B, C, *]``."""


def laid_last(x: Tensor, axes: int) -> Tensor:
    """The same values, channels last in memory."""
    channels = x.ndim - axes - 1
    return x.movedim(channels, -1).contiguous().movedim(-1, channels)


@pytest.mark.parametrize("lay", [laid_last, lambda x, axes: x], ids=["last", "first"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("multi_step", [True, False])
@pytest.mark.parametrize("axes", [1, 2])
def test_it_computes_the_convolution(
    axes: int, multi_step: bool, bias: bool, lay: Callable[[Tensor, int], Tensor]
) -> None:
    torch.manual_seed(0)
    kind = (layer.Conv1d, layer.Conv2d)[axes - 1]
    conv = kind(6, 9, 1, bias=bias, step_mode="m" if multi_step else "s").double()
    x = torch.randn(SHAPES[axes], dtype=torch.float64)
    x = lay(x if multi_step else x[0], axes)
    with torch.no_grad():
        expected, got = conv(x), Pointwise(conv)(x)
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    if lay is laid_last:
        assert got.movedim(got.ndim - axes - 1, -1).is_contiguous()


class Layers(nn.Module):
    """Convolutions, of which two alone are of one pixel and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(6, 6, 1)
        self.inner = nn.Sequential(nn.Conv2d(6, 6, 1, bias=False))
        self.grouped = nn.Conv2d(6, 6, 1, groups=2)
        self.strided = nn.Conv2d(6, 6, 1, stride=2)
        self.padded = nn.Conv2d(6, 6, 1, padding=1)
        self.wide = nn.Conv2d(6, 6, (1, 3))
        self.hooked = nn.Conv2d(6, 6, 1)
        self.hooked.register_forward_hook(lambda m, a, out: 2 * out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(self.plain(x)) + self.grouped(x)
        return self.strided(self.hooked(self.wide(self.padded(x))))


def test_only_convolutions_of_one_pixel_are_changed() -> None:
    torch.manual_seed(0)
    model, x = Layers().eval(), torch.randn(2, 6, 8, 8)
    with torch.no_grad():
        before = model(x)
        after = channels_last(model, [x])(x)
    changed = {name for name, one in model.named_modules() if isinstance(one, Pointwise)}
    assert changed == {"plain", "inner.0"}
    assert sorted(model.state_dict()) == sorted(Layers().state_dict())
    torch.testing.assert_close(after, before)
