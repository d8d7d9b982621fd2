"""A private copy: whatever state a model is in, and nothing of the model changes."""

from __future__ import annotations

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


def test_a_view_of_a_parameter_is_a_view_of_the_copied_parameter() -> None:
    net = nn.Linear(3, 4)
    net.parts = {"top": net.weight[:2]}  # type: ignore[assignment]
    copied = private_copy(net)
    with torch.no_grad():
        copied.weight.fill_(7)
    assert bool((copied.parts["top"] == 7).all())
    assert bool((net.weight != 7).all())
