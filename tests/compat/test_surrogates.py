"""Surrogates as served to old files: a step forward, the published gradient backward."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from psvit.compat import clock_driven

served = clock_driven.build("surrogate")
POINTS = (-1.5, -0.4, 0.0, 0.3, 2.0)


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


GRADIENTS: dict[str, tuple[dict[str, float], Callable[[float], float]]] = {
    "Sigmoid": ({}, lambda x: 4 * logistic(4 * x) * (1 - logistic(4 * x))),
    "ATan": ({}, lambda x: 2 / (2 * (1 + (math.pi / 2 * 2 * x) ** 2))),
    "SoftSign": ({}, lambda x: 1 / (2 * 2 * (1 / 2 + abs(x)) ** 2)),
    "PiecewiseQuadratic": ({}, lambda x: max(0.0, 1 - abs(x))),
    "PiecewiseExp": ({}, lambda x: math.exp(-abs(x)) / 2),
    "Erf": ({}, lambda x: 2 / math.sqrt(math.pi) * math.exp(-4 * x * x)),
    "NonzeroSignLogAbs": ({}, lambda x: 1 / (1 + abs(x))),
    "PiecewiseLeakyReLU": ({}, lambda x: 1.0 if abs(x) < 1 else 0.01),
    "PiecewiseLeakyReLU of width 2": ({"w": 2.0, "c": 0.5}, lambda x: 0.5),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_step_and_gradient(name: str) -> None:
    arguments, gradient = GRADIENTS[name]
    surrogate = getattr(served, name.partition(" ")[0])(**arguments)
    x = torch.tensor(POINTS, dtype=torch.float64, requires_grad=True)
    spikes = surrogate(x)
    spikes.sum().backward()
    assert spikes.tolist() == [0.0, 0.0, 1.0, 1.0, 1.0]
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([gradient(p) for p in POINTS], abs=1e-7)


def test_a_users_surrogate_with_one_parameter() -> None:
    class Steep(served.SurrogateFunctionBase):
        def __init__(self, alpha: float = 3.0, spiking: bool = True) -> None:
            super().__init__(alpha, spiking)

        @staticmethod
        def spiking_function(x: Tensor, alpha: float) -> Tensor:
            return (x * alpha >= 0).to(x)

        @staticmethod
        def primitive_function(x: Tensor, alpha: float) -> Tensor:
            return x * alpha

    surrogate = Steep()
    assert surrogate(torch.tensor([-1.0, 2.0])).tolist() == [0.0, 1.0]
    surrogate.set_spiking_mode(False)
    assert surrogate(torch.tensor([-1.0, 2.0])).tolist() == [-3.0, 6.0]


def test_a_users_surrogate_with_several_parameters() -> None:
    class Two(served.MultiArgsSurrogateFunctionBase):
        def __init__(self, low: float, high: float, spiking: bool = True) -> None:
            super().__init__(spiking, low, high)
            self.low, self.high = low, high

        def forward(self, x: Tensor) -> Tensor:
            return x.clamp(self.low, self.high) if self.spiking else x

    surrogate = Two(0.0, 1.0)
    assert surrogate(torch.tensor([-1.0, 2.0])).tolist() == [0.0, 1.0]
    surrogate.set_spiking_mode(False)
    assert surrogate(torch.tensor([-1.0, 2.0])).tolist() == [-1.0, 2.0]
