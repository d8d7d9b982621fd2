"""A difference is put down to a flipped spike only where one flipped, and nothing else differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

import psvit
from psvit.export.compare import MOST, compare
from psvit.export.flips import follow
from psvit.export.lower import simplified
from psvit.export.records import Comparison, Format
from psvit.neurons import reset_state

T = 3


class Edge(nn.Module):
    """Neurons whose potentials lie on the threshold for some images, then others: ``[T, B, 5]``."""

    def __init__(self, *, single_step: bool = False) -> None:
        super().__init__()
        self.single_step = single_step
        self.first = neuron.IFNode(v_threshold=0.5, step_mode="s" if single_step else "m")
        self.drop = nn.Dropout(0.5)
        self.hidden = layer.Linear(6, 8, step_mode="m")
        self.second = neuron.LIFNode(v_threshold=0.2, step_mode="m")
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(x).unsqueeze(0).repeat(T, 1, 1)
        fired = torch.stack([self.first(one) for one in x]) if self.single_step else self.first(x)
        return self.head(self.second(self.hidden(fired)))


def model(*, single_step: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return Edge(single_step=single_step).eval()


EDGES = torch.full((4, 6), 0.5)
"""On the threshold to the last bit."""


class Runtime:
    """A format whose runtime computes what ``wrong`` makes of the program."""

    def __init__(self, wrong: Callable[[nn.Module, Tensor], Tensor]) -> None:
        self.programs: dict[Path, Any] = {}
        self.wrong = wrong

    def format(self) -> Format:
        def write(program: Any, path: Path) -> dict[str, Any]:
            self.programs[path] = program
            return {}

        def read(path: Path) -> Callable[[Tensor], Tensor]:
            return lambda x: self.wrong(self.programs[path].module(), x)

        return Format(".test", None, write, read)


def rounds_down(program: nn.Module, x: Tensor) -> Tensor:
    """An input that is less by what rounding may take."""
    return program(x - 1e-6)


def scaled(layer_name: str) -> Callable[[nn.Module, Tensor], Tensor]:
    """A layer that computes something else."""

    def wrong(program: nn.Module, x: Tensor) -> Tensor:
        with torch.no_grad():
            for name, parameter in program.named_parameters():
                if layer_name in name:
                    parameter.mul_(1.5)
        return program(x)

    return wrong


def followed(
    made: nn.Module, wrong: Callable[[nn.Module, Tensor], Tensor], x: Tensor
) -> Comparison:
    found = Comparison(len(x), 0, len(x), 0.0, 1.0)
    return follow(made, simplified(made, x[:2]), Runtime(wrong).format(), x[:2], x, found)


@pytest.mark.parametrize("single_step", [False, True])
@pytest.mark.parametrize(
    ("wrong", "flipped"), [(rounds_down, 4), (scaled("hidden"), 0), (scaled("head"), 0)]
)  # after wrong weights a spike differs whose inputs do, too; after a wrong head none differs
def test_the_first_layer_that_differs_tells(
    wrong: Callable[[nn.Module, Tensor], Tensor], flipped: int, single_step: bool
) -> None:
    made = model(single_step=single_step)
    found = followed(made, wrong, EDGES)
    assert (found.followed, found.flipped) == (4, flipped)
    assert replace(found, followed=0, flipped=0) == Comparison(4, 0, 4, 0.0, 1.0)
    assert made.first.v == 0.0  # left at rest
    assert not made.first._forward_hooks


def test_the_model_is_followed_in_eval_mode_and_left_in_its_own() -> None:
    made = model().train()
    found = followed(made, rounds_down, EDGES)
    assert (found.followed, found.flipped) == (4, 4)
    assert all(module.training for module in made.modules())
    assert followed(made, scaled("hidden"), EDGES).flipped == 0


def test_a_spike_that_differs_because_its_input_does_is_none() -> None:
    x = torch.linspace(0, 1, 24).view(4, 6)  # far from the threshold
    found = followed(model(), lambda program, given: program(given + 0.3), x)
    assert (found.followed, found.flipped) == (4, 0)


def test_nothing_is_said_where_nothing_can_be_seen() -> None:
    made = nn.Sequential(nn.Linear(6, 5)).eval()
    found = followed(made, rounds_down, EDGES)
    assert (found.followed, found.flipped) == (0, 0)

    def fails(program: nn.Module, x: Tensor) -> Tensor:
        raise RuntimeError("no memory")

    assert followed(model(), fails, EDGES).followed == 0


def test_an_export_follows_what_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from psvit.export import run

    fake = Runtime(rounds_down).format()
    saved = {}

    def write(program: Any, path: Path) -> dict[str, Any]:
        path.write_bytes(b"a file")
        saved[path.name] = program
        return {}

    fake = Format(".pt2", None, write, lambda path: lambda x: saved[path.name].module()(x - 1e-6))
    monkeypatch.setattr(run, "format_of", lambda name: fake)
    x = torch.cat([EDGES, torch.full((3, 6), 0.9)])
    made = psvit.export(model(), x[:2], tmp_path / "net.pt2", "pt2", data=[x], n=7)
    found = made.comparison
    assert (found.n, found.differing, found.followed, found.flipped) == (7, 4, 4, 4)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["net.pt2", "net.pt2.json"]


def test_the_images_that_differ_are_kept_up_to_a_bound() -> None:
    made = model()

    def other(x: Tensor) -> Tensor:
        reset_state(made)
        with torch.no_grad():
            out = made(x).mean(0)
        return out + (x[:, :1] > 0.5)

    x = torch.rand(60, 6, generator=torch.Generator().manual_seed(0))
    found, kept = compare(made, other, x.split(7), n=50)
    expected = x[:50][x[:50, 0] > 0.5]
    assert found.differing == len(expected) > MOST
    assert torch.equal(kept, expected[:MOST])
