"""Numbers of NumPy in a forward, as ``np.sqrt(dim)`` and ``np.tanh(0.5)`` leave them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import psvit
from psvit.rewrite import zeroed


class Scaled(nn.Module):
    """Two layers, with a number between them."""

    def __init__(self, number: np.generic) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)
        self.number = number

    def forward(self, x: Tensor) -> Tensor:
        return self.second((self.first(x).relu() * self.number).clamp(max=np.float64(2.5)))


@pytest.mark.parametrize("number", [np.tanh(0.5), np.float32(0.25), np.int64(2), np.bool_(True)])
def test_a_number_of_numpy_is_recorded_as_a_number(number: np.generic) -> None:
    torch.manual_seed(0)
    model, x = Scaled(number).double(), torch.randn(5, 6, dtype=torch.float64)
    result = psvit.prune(model, x[:2], save={"params": 0.3})
    reference = zeroed(psvit.capture(model, (x[:2],)), result.plan)
    with torch.no_grad():
        expected = reference(x)
        assert (result.model(x) - expected).abs().max() <= 1e-12
        assert not torch.allclose(expected, model(x))
