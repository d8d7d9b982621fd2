"""NIR holds the parts of a model that it can express, each of which does what the model does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

import psvit
from psvit.capture import capture
from psvit.errors import CheckpointError, MissingExtra, ModelError, OptionError, OutputError
from psvit.export import open_export
from psvit.export.records import Export
from psvit.export.run_parts import found_parts

nir = pytest.importorskip("nir", reason="NIR is not installed: psvit[nir]")
pytest.importorskip("nirtorch", reason="NIRTorch is not installed: psvit[nir]")

T = 3


class Block(nn.Module):
    """A stem with a norm and a sum, pooling, tokens, attention: ``[B, 2, 8, 8]`` -> ``[B, 5]``."""

    def __init__(self, **lif: object) -> None:
        super().__init__()
        told = {"v_threshold": 0.4, "step_mode": "m", **lif}
        self.conv = layer.Conv2d(2, 6, 3, padding=1, bias=False, step_mode="m")
        self.norm = layer.BatchNorm2d(6, step_mode="m")
        self.fire = neuron.LIFNode(**told)
        self.side = layer.Conv2d(6, 6, 3, padding=1, step_mode="m")
        self.lit = neuron.IFNode(v_threshold=0.4, step_mode="m")
        self.down = layer.Conv2d(6, 8, 3, stride=2, padding=1, step_mode="m")
        self.max = layer.MaxPool2d(2, step_mode="m")
        self.first = neuron.ParametricLIFNode(v_threshold=0.4, decay_input=False, step_mode="m")
        self.up = nn.Linear(8, 12)
        self.wide = nn.BatchNorm1d(12)
        self.second = neuron.LIFNode(**{**told, "tau": 3.0, "decay_input": False})
        self.back = nn.Linear(12, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fire(self.norm(self.conv(x.unsqueeze(0).repeat(T, 1, 1, 1, 1))))
        x = self.down(x + self.lit(self.side(x)))
        x = self.first(self.max(x)).flatten(3).transpose(-2, -1)  # tokens [T, B, 4, 8]
        y = self.up(x).flatten(0, 1)
        y = self.wide(y.transpose(1, 2)).transpose(1, 2).unflatten(0, (T, -1))
        x = x + self.back(self.second(y))
        return self.head((x @ x.transpose(-2, -1) @ x).mean((0, 2)))


def model(**lif: object) -> nn.Module:
    torch.manual_seed(1)
    made = Block(**lif)
    with torch.no_grad():
        for norm in (made.norm, made.wide):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
            norm.bias.normal_(0.3, 0.3)
    return made.eval()


def images(count: int, seed: int = 1) -> Tensor:
    return 3 * torch.rand(count, 2, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Export:
    path = tmp_path_factory.mktemp("nir") / "net.nir"
    return psvit.export(model(), images(2), path, "nir", data=[images(17, 3), images(17, 4)], n=25)


PARTS = {
    "conv": ("conv", "fire", "side", "lit", "down"),
    "first": ("first",),
    "up": ("up", "second", "back"),
    "head": ("head",),
}
"""What is between what NIR lacks; the sum that `down` reads is in its part, the other in none."""


def test_the_parts_are_as_long_as_they_can_be(made: Export) -> None:
    assert {part.name: part.layers for part in made.parts} == PARTS
    left = [(left.operation, left.layer) for left in made.left]
    assert left == [
        ("repeat", "at the input"),
        ("MaxPool2d", "max"),
        ("add", "after back"),
        ("matmul", "after back"),
        ("matmul", "after back"),
        ("mean", "after back"),
    ]


def test_each_part_that_is_read_back_does_what_the_model_does(made: Export) -> None:
    for part in made.parts:
        assert part.n == 25
        assert part.differing == 0
        assert part.largest < 1e-5
        assert part.values == 25 * np.prod(part.output_shape) * (1 if part.name == "head" else T)
    spiking = {part.name: part.spikes for part in made.parts if part.spikes is not None}
    assert set(spiking) == {"first"}
    assert 0 < spiking["first"] < 25 * T * 8 * 4


def test_tokens_become_a_convolution_over_channels_first(made: Export) -> None:
    shapes = {part.name: (part.input_shape, part.output_shape) for part in made.parts}
    assert shapes["up"] == ((8, 4), (8, 4))
    assert shapes["conv"] == ((2, 8, 8), (8, 4, 4))
    nodes = nir.read(made.path).nodes["up"].nodes
    assert sorted(type(node).__name__ for node in nodes.values()) == [
        *("Conv1d", "Conv1d", "Input", "LIF", "Output"),
    ]
    assert nodes["up"].weight.shape == (12, 8, 1)


def simulated(graph: object, x: np.ndarray) -> np.ndarray:
    """A graph by NIR's own equations, forward Euler: ``[T, *S]`` -> ``[T, *S]``, float64."""
    values: dict[str, np.ndarray] = {}

    def value(name: str) -> np.ndarray:
        if name not in values:
            node = graph.nodes[name]
            inputs = [value(a) for a, b in graph.edges if b == name]
            values[name] = x if isinstance(node, nir.Input) else after(node, sum(inputs))
        return values[name]

    return value(next(k for k, v in graph.nodes.items() if isinstance(v, nir.Output)))


def after(node: object, x: np.ndarray, dt: float = 1e-4) -> np.ndarray:
    """What a node makes of the sum of its inputs."""
    if isinstance(node, nir.Output):
        return x
    if isinstance(node, nir.Conv1d):
        return np.einsum("oc,tcn->ton", node.weight[..., 0], x) + node.bias[:, None]
    if isinstance(node, nir.Conv2d):
        tensors = (torch.from_numpy(np.asarray(a, "float64")) for a in (x, node.weight, node.bias))
        steps = {k: tuple(int(i) for i in getattr(node, k)) for k in ("padding", "stride")}
        return torch.nn.functional.conv2d(*tensors, **steps).numpy()
    v, spikes = node.v_reset, []
    for current in x:
        if isinstance(node, nir.LIF):
            v = v + dt / node.tau * (node.v_leak - v + node.r * current)
        else:
            v = v + dt * node.r * current
        spikes.append((v > node.v_threshold).astype("float64"))
        v = np.where(spikes[-1] > 0, node.v_reset, v)
    return np.stack(spikes)


@pytest.mark.parametrize(
    ("part", "before", "last"),
    [("conv", "", "down"), ("first", "max", "first"), ("up", "", "back")],
)
def test_by_the_equations_of_nir_a_part_does_what_the_model_does(
    made: Export, part: str, before: str, last: str
) -> None:
    doubled = model().double()
    values: dict[str, Tensor] = {}
    for name in {before, last, "first"} - {""}:
        doubled.get_submodule(name).register_forward_hook(
            lambda m, a, out, name=name: values.update({name: out})
        )
    x = images(1, 5).double()
    with torch.no_grad():
        doubled(x)
    given = {
        "conv": x.expand(T, -1, -1, -1),
        "first": values["max"][:, 0] if "max" in values else None,
        "up": values["first"][:, 0].flatten(2),
    }[part]
    expected = values[last][:, 0]
    expected = expected.transpose(1, 2) if part == "up" else expected
    found = simulated(nir.read(made.path).nodes[part], given.numpy())
    assert expected.std() > 0.01
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


class Soft(Block):
    """NIR resets to a potential; a soft reset subtracts the threshold."""

    def __init__(self) -> None:
        super().__init__(v_reset=None)


class Grouped(Block):
    """As in a separable convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.side = layer.Conv2d(6, 6, 3, padding=1, groups=6, step_mode="m")


class Twice(Block):
    """A neuron that is called once more has a state that no graph holds."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.fire(x.unsqueeze(0).repeat(T, 1, 1, 1, 1)).mean()


class Norms(nn.Module):
    """Two norms in a row, both folded, where a part ends."""

    def __init__(self) -> None:
        super().__init__()
        self.fire = neuron.IFNode(step_mode="m")
        self.conv = layer.Conv2d(2, 4, 3, step_mode="m")
        self.norms = nn.Sequential(*(layer.BatchNorm2d(4, step_mode="m") for _ in range(2)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.fire(x.unsqueeze(0).repeat(T, 1, 1, 1, 1))
        return self.norms(self.conv(x)).mean((-2, -1)) ** 2


def test_a_layer_is_held_against_the_last_norm_behind_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = Norms().eval()
    with torch.no_grad():
        for norm in made.norms:
            norm.running_var.uniform_(0.5, 1.5)
            norm.bias.normal_()
    written = psvit.export(made, images(2), tmp_path / "net.nir", "nir", n=7)
    (part,) = written.parts
    assert (part.layers, part.differing) == (("fire", "conv"), 0)


class Across(Block):
    """Neurons that get ``[T * B, ...]`` take images for time steps."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.fire(self.conv(x.unsqueeze(0).repeat(T, 1, 1, 1, 1)))
        return self.lit(x.flatten(0, 1)).unflatten(0, (T, -1)).mean((0, -2, -1))


@pytest.mark.parametrize(
    ("wrong", "layer_name", "reason"),
    [
        (Soft, "fire", "its reset is soft, which NIR does not distinguish"),
        (Grouped, "side", "6 groups, which SpikingJelly's exchange refuses"),
        (Across, "lit", "it takes 6 time steps, where the others take 3"),
        (Twice, "fire", "it is called step by step, with its state outside the graph"),
    ],
)
def test_a_layer_that_does_not_map_is_left_with_the_reason(
    wrong: type[nn.Module], layer_name: str, reason: str
) -> None:
    torch.manual_seed(0)
    parts, left = found_parts(capture(wrong().eval(), images(2)))
    assert (layer_name, reason) in {(one.layer, one.reason) for one in left}
    assert all(layer_name not in part.layers for part in parts.values())


class Products(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x @ x).flatten(1)


def test_without_any_part_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="NIR can express no layer of Products, first matmul"):
        psvit.export(Products(), images(2), tmp_path / "net.nir", "nir")
    assert list(tmp_path.iterdir()) == []


def test_a_flipped_spike_is_counted(made: Export, tmp_path: Path, monkeypatch) -> None:
    from psvit.export import to_nir

    true = to_nir.read

    def wrong(path: Path) -> dict:
        def flip(x: Tensor) -> Tensor:
            out = true(path)["first"](x)
            out[0, 0, 0, 0, 0] = 1 - out[0, 0, 0, 0, 0]
            return out

        return {**true(path), "first": flip}

    monkeypatch.setattr(to_nir, "read", wrong)
    again = psvit.export(model(), images(2), tmp_path / "a.nir", "nir", data=[images(9)], n=9)
    part = next(part for part in again.parts if part.name == "first")
    assert (part.differing_values, part.differing) == (1, 1)
    assert (part.largest, part.largest_differing) == (0.0, 1.0)


def test_the_json_names_what_is_in_and_what_is_not(made: Export) -> None:
    told = json.loads(Path(f"{made.path}.json").read_text())
    assert [part["name"] for part in told["parts"]] == list(PARTS)
    assert told["left"][1] == {
        "layer": "max",
        "operation": "MaxPool2d",
        "reason": "NIR has no such node",
    }
    assert told["nodes"]["conv"] == {"Conv2d": 3, "IF": 1, "LIF": 1}
    assert told["dt"] == 1e-4
    assert "comparison" not in told


def test_bad_input(made: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from psvit.export import to_nir

    with pytest.raises(OptionError, match=r"files end in \.nir: name it so"):
        psvit.export(model(), images(2), tmp_path / "net.onnx", "nir")
    with pytest.raises(OptionError, match="int8 go with format onnx alone, not with nir"):
        psvit.export(model(), images(2), tmp_path / "net.nir", "nir", weights="int8")
    with pytest.raises(OutputError, match="holds parts of a model, which give no logits"):
        open_export(made.path)
    damaged = tmp_path / "damaged.nir"
    damaged.write_bytes(made.path.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="is no NIR graph of parts, or is damaged"):
        to_nir.read(damaged)
    monkeypatch.setitem(sys.modules, "nirtorch", None)
    monkeypatch.delitem(sys.modules, "psvit.export.to_nir")
    with pytest.raises(MissingExtra, match=r"psvit\[nir\]"):
        psvit.export(model(), images(2), tmp_path / "net.nir", "nir")
