"""MACs: every rule against a count made by hand; conventions; what is not counted is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from psvit.capture import capture
from psvit.cost import measure, uncounted
from psvit.cost.einsum import einsum_macs
from psvit.cost.macs import batch_axis, batch_size
from psvit.records import Graph, Group, Groups, InputSpec, Labels, Slot

NO_GROUPS = Groups((), (), Labels({"eval": {}}, np.zeros(0, dtype=np.int64), {}, {}))


def record(module: nn.Module, *inputs: torch.Tensor) -> Graph:
    """A graph by fx's own tracer, with shapes: independent of psvit's capture."""
    traced = fx.symbolic_trace(module)

    class Shapes(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, torch.Tensor):
                n.meta["shape"] = tuple(value.shape)
            return value

    Shapes(traced).run(*inputs)
    specs = tuple(InputSpec(tuple(x.shape)) for x in inputs)
    return Graph(module, {"eval": traced.graph}, specs)


class Calls(nn.Module):
    """A module that calls one function, with a parameter ``w`` at hand."""

    def __init__(self, function: Callable[..., Any], *weight: int) -> None:
        super().__init__()
        self.function = function
        if weight:
            self.w = nn.Parameter(torch.rand(weight))

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x, self.w) if hasattr(self, "w") else self.function(x)


LAYERS = [
    (nn.Linear(7, 5), (2, 11, 7), 11 * 7 * 5),
    (nn.Conv1d(3, 5, 3), (2, 3, 10), 8 * 5 * 3 * 3),
    (nn.Conv2d(3, 6, 3, padding=1), (2, 3, 8, 8), 64 * 6 * 3 * 9),
    (nn.Conv2d(3, 6, 3, stride=2), (2, 3, 9, 9), 16 * 6 * 3 * 9),
    (nn.Conv2d(8, 8, 3, padding=1, groups=8), (2, 8, 4, 4), 16 * 8 * 9),
    (nn.Conv2d(8, 4, 1, groups=2), (2, 8, 4, 4), 16 * 4 * 4),
    (nn.Conv3d(2, 3, 2), (2, 2, 3, 3, 3), 8 * 3 * 2 * 8),
    (nn.ConvTranspose1d(4, 5, 2, stride=2), (2, 4, 6), 6 * 4 * 5 * 2),
    (nn.ConvTranspose2d(4, 5, 2, stride=2), (2, 4, 3, 3), 9 * 4 * 5 * 4),
    (nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), (2, 4, 3, 3), 9 * 4 * 3 * 4),
    (nn.ConvTranspose3d(2, 3, 2), (2, 2, 2, 2, 2), 8 * 2 * 3 * 8),
]

FUNCTIONS = [
    (F.linear, (5, 7), (2, 11, 7), 11 * 7 * 5),
    (F.conv1d, (5, 3, 3), (2, 3, 10), 8 * 5 * 3 * 3),
    (F.conv2d, (6, 3, 3, 3), (2, 3, 8, 8), 36 * 6 * 3 * 9),
    (lambda x, w: F.conv2d(x, weight=w, groups=4), (4, 1, 3, 3), (2, 4, 5, 5), 9 * 4 * 9),
    (F.conv3d, (3, 2, 2, 2, 2), (2, 2, 3, 3, 3), 8 * 3 * 2 * 8),
    (F.conv_transpose2d, (4, 5, 2, 2), (2, 4, 3, 3), 9 * 4 * 5 * 4),
    (lambda x, w: x @ w, (7, 5), (2, 11, 7), 11 * 7 * 5),
    (torch.matmul, (7, 5), (2, 11, 7), 11 * 7 * 5),
    (lambda x, w: x.matmul(w), (7,), (2, 11, 7), 11 * 7),
    (lambda x, w: torch.mm(x, w), (7, 5), (2, 7), 7 * 5),
    (lambda x, w: x.bmm(x.transpose(1, 2)), (1,), (2, 11, 7), 11 * 11 * 7),
    (lambda x, w: torch.addmm(w, x, x.t()), (2, 2), (2, 7), 2 * 7),
    (lambda x, w: torch.baddbmm(w, x, x.transpose(1, 2)), (1, 3, 3), (2, 3, 4), 3 * 3 * 4),
    (lambda x, w: torch.einsum("bnc,bmc->bnm", x, x), (1,), (2, 5, 3), 5 * 5 * 3),
    (lambda x, w: torch.einsum("...c,cd->...d", x, w), (3, 4), (2, 5, 3), 5 * 3 * 4),
    (lambda x, w: F.scaled_dot_product_attention(x, x, x), (1,), (2, 4, 9, 8), 2 * 4 * 9 * 9 * 8),
]

FREE = [
    nn.BatchNorm2d(3),
    nn.LayerNorm((3, 4, 4)),
    nn.ReLU(),
    nn.MaxPool2d(2),
    Calls(lambda x: (x * 2 + x).softmax(dim=1).sum()),
]


@pytest.mark.parametrize(("layer", "shape", "expected"), LAYERS, ids=lambda v: str(v)[:40])
def test_layers(layer: nn.Module, shape: tuple[int, ...], expected: int) -> None:
    graph = record(nn.Sequential(layer), torch.rand(shape))
    assert measure(graph, NO_GROUPS, {}).macs == expected


@pytest.mark.parametrize(("function", "weight", "shape", "expected"), FUNCTIONS)
def test_functions(
    function: Any, weight: tuple[int, ...], shape: tuple[int, ...], expected: int
) -> None:
    graph = record(Calls(function, *weight), torch.rand(shape))
    assert measure(graph, NO_GROUPS, {}).macs == expected


@pytest.mark.parametrize("module", FREE, ids=lambda m: type(m).__name__)
def test_elementwise_norms_and_pools_are_free_by_convention(module: nn.Module) -> None:
    graph = record(nn.Sequential(module), torch.rand(2, 3, 4, 4))
    assert measure(graph, NO_GROUPS, {}).macs == 0
    assert uncounted(graph) == ()


def test_all_time_steps_count_and_the_batch_does_not() -> None:
    layer = nn.Sequential(nn.Linear(7, 5))
    for batch in (1, 2, 6):
        graph = record(layer, torch.rand(4, batch, 3, 1, 7))  # [T, B, C, H, W]
        assert measure(graph, NO_GROUPS, {}).macs == 4 * 3 * 7 * 5


def test_a_kernel_computed_from_parameters_counts_once() -> None:
    for batch in (1, 2, 6):
        graph = record(Calls(lambda x, w: x @ (w @ w), 7, 7), torch.rand(batch, 7))
        assert measure(graph, NO_GROUPS, {}).macs == 7 * 7 + 7 * 7 * 7


@pytest.mark.parametrize(
    ("shape", "output", "images"),
    [
        ((8, 3, 32, 32), (8, 10), 8),
        ((8, 3, 32, 32), (3, 8, 10), 8),  # T = 3 steps inside
        ((8, 10), (8, 4), 8),
        ((4, 8, 2, 32, 32), (4, 8, 10), 8),
        ((4, 8, 2, 32, 32), (8, 10), 8),
        ((4, 8, 2, 32, 32), (8, 16, 10), 8),
        ((8, 4, 2, 32, 32), (4, 8, 10), 8),
        ((8, 4, 2, 32, 32), (8, 10), 8),
        ((8, 1, 4, 32, 32), (8, 10), 8),  # a volume
        ((4, 8, 16), (8, 10), 8),
        ((8, 3, 32, 32), (), 8),
    ],
)
def test_which_axis_is_the_batch(
    shape: tuple[int, ...], output: tuple[int, ...], images: int
) -> None:
    forward = fx.Graph()
    node = forward.placeholder("x0")
    if output:
        node.meta["shape"] = output
    forward.output((node,))
    assert batch_size(Graph(nn.Identity(), {"eval": forward}, (InputSpec(shape),))) == images


@pytest.mark.parametrize(
    ("shape", "output", "axis"),
    [
        ((2, 2, 8, 8), (2, 10), 0),
        ((4, 2, 8), (2, 10), 1),
        ((3, 3, 1, 8, 8), (3, 10), 1),
        ((4, 2, 1, 8, 8), (4, 2, 10), 1),
        ((2, 4, 1, 8, 8), (4, 2, 10), 0),
    ],
)
def test_the_batch_axis(shape: tuple[int, ...], output: tuple[int, ...], axis: int) -> None:
    forward = fx.Graph()
    node = forward.placeholder("x")
    node.meta["shape"] = output
    forward.output(node)
    assert batch_axis(Graph(nn.Identity(), {"eval": forward}, (InputSpec(shape),))) == axis


def test_a_model_that_is_a_layer_itself_is_counted() -> None:
    graph = capture(nn.Linear(3, 5), torch.rand(2, 3), check=False)
    assert measure(graph, NO_GROUPS, {}).macs == 15


def test_a_kernel_given_to_a_function_shrinks_with_its_slots() -> None:
    layer = Calls(lambda x, w: F.conv2d(x, w, groups=2), 4, 4, 1, 1)
    graph = record(layer, torch.rand(2, 8, 3, 3))
    slot = Slot("w", "in", np.arange(8)[:, None])
    one = Group(0, "g", "", np.arange(8), (slot,), ((0, 1, 2, 3), (4, 5, 6, 7)), 0)
    groups = Groups((one,), (), Labels({"eval": {}}, np.arange(8), {}, {}))
    assert measure(graph, groups, {}).macs == 9 * 4 * 4
    assert measure(graph, groups, {0: [0, 5]}).macs == 9 * 4 * 3


def test_what_no_rule_counts_is_named() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(4, 4)

        def forward(self, x: torch.Tensor) -> Any:
            return self.rnn(x)[0] + torch.tensordot(x, x, 3)

    found = uncounted(record(Odd(), torch.rand(2, 2, 4)))
    assert found == ("rnn (GRU)", "tensordot (tensordot)")


@pytest.mark.parametrize(
    ("equation", "shapes", "expected"),
    [
        ("bnc,bmc->bnm", [(2, 5, 3), (2, 7, 3)], 2 * 5 * 7 * 3),
        ("ij,jk", [(3, 4), (4, 5)], 3 * 4 * 5),
        ("ij,jk,kl->il", [(3, 4), (4, 5), (5, 6)], 3 * 4 * 5 + 3 * 5 * 6),
        ("b...d,bdk->b...k", [(2, 9, 4), (2, 4, 6)], 2 * 9 * 4 * 6),
        ("...i,...i->...", [(7, 1, 3), (8, 3)], 7 * 8 * 3),
        ("bij->bji", [(2, 3, 4)], 0),
        # i is summed before the product: it belongs to one operand alone
        ("ij,k->jk", [(3, 4), (5,)], 4 * 5),
    ],
)
def test_einsum(equation: str, shapes: list[tuple[int, ...]], expected: int) -> None:
    assert einsum_macs(equation, shapes) == expected
