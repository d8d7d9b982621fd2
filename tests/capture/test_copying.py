"""A private copy: whatever state a model is in, and nothing of the model changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from psvit.capture.copying import private_copy


class Holder:
    """An object that is no container psvit knows."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def test_a_result_with_a_gradient_history_is_copied_by_value_wherever_it_is_held() -> None:
    net = nn.Linear(3, 2)
    net.last = Holder(net(torch.ones(1, 3)))  # type: ignore[assignment]
    copied = private_copy(net)
    assert torch.equal(copied.last.tensor, net.last.tensor)
    assert copied.last.tensor.grad_fn is None
    assert net.last.tensor.grad_fn is not None


VIEWS: dict[str, Any] = {
    "rows": lambda weight: weight[1:3],
    "detached rows": lambda weight: weight.detach()[1:3],
    "columns": lambda weight: weight.data[:, 1:3],
    "transposed": lambda weight: weight.detach().t(),
}


@pytest.mark.parametrize("part", VIEWS.values(), ids=VIEWS)
def test_a_view_of_a_parameter_is_a_view_of_the_copied_parameter(part: Any) -> None:
    # in a list, in a dict, in one of several modules
    net = nn.Sequential(nn.ReLU(), nn.Linear(3, 4), nn.Sequential(nn.Linear(3, 4)))
    holders: Any = [net[1], net[2][0]]  # type: ignore[index]
    for layer in holders:
        layer.parts = {"some": [part(layer.weight)]}
    copied: Any = private_copy(net)
    for layer in (copied[1], copied[2][0]):
        with torch.no_grad():
            layer.weight.fill_(7)
        assert bool((layer.parts["some"][0] == 7).all())
    for layer in holders:
        assert bool((layer.weight != 7).all())
