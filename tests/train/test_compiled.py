"""Training through the compiler learns what training without it does."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import nn

from psvit.neurons import reset_state
from psvit.train import TrainConfig
from psvit.train.loop import fit
from tests.train.small import small_data

# torch warns of its own parts when its compiler is first imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")

CONFIG = TrainConfig(
    epochs=2, batch=8, lr=1e-3, warmup=0, early_T=1, early_tau=1.4, early_share=0.5, log_steps=1
)
"""Ten steps: five of one time step, five of the model's own."""


class Spiking(nn.Module):
    """A convolution, batch norm and neurons, over T time steps: ``[B, 1, 6, 6]`` -> ``[B, 3]``."""

    def __init__(self) -> None:
        super().__init__()
        self.T = 3
        self.conv = layer.Conv2d(1, 4, 3, bias=False, step_mode="m")
        self.norm = layer.BatchNorm2d(4, step_mode="m")
        self.fire = neuron.LIFNode(detach_reset=True, step_mode="m")
        self.head = nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        spikes = self.fire(self.norm(self.conv(x)))
        return self.head(spikes.flatten(2).mean(0))


def trained(*, compile: bool) -> tuple[nn.Module, list[float]]:
    """The model after ten steps, and the losses."""
    torch.manual_seed(0)
    model = Spiking()
    lines = fit(model, small_data(), dataclasses.replace(CONFIG, compile=compile))
    return model, [line["loss"] for line in lines]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[torch.fx.GraphModule]:
    """The graphs that the compiler is given; they are run as they are: no tool chain is needed."""
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, inputs: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    whole = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda model, **how: whole(model, backend=keep, dynamic=how["dynamic"])
    )
    return graphs


def test_losses_and_weights_are_those_of_eager_training(
    traced: list[torch.fx.GraphModule],
) -> None:
    eager, losses = trained(compile=False)
    assert traced == []
    compiled, found = trained(compile=True)
    assert found == pytest.approx(losses, rel=1e-5)
    assert losses[-1] < losses[0]
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_it_is_one_graph_for_each_number_of_time_steps(
    traced: list[torch.fx.GraphModule],
) -> None:
    model, _ = trained(compile=True)
    assert len(traced) == 2
    assert not model.training
    assert type(model) is Spiking
    assert "forward" not in vars(model.fire)
    reset_state(model)
    assert model(torch.rand(2, 1, 6, 6)).shape == (2, 3)


@pytest.mark.thorough
def test_the_real_compiler_learns_the_same() -> None:
    _, losses = trained(compile=False)
    _, found = trained(compile=True)
    assert found == pytest.approx(losses, rel=1e-3)
