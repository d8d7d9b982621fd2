"""Every criterion against its formula, worked out on weights small enough to do by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import fx, nn

from psvit.errors import CheckpointError, OptionError
from psvit.records import Graph, Group, Groups, InputSpec, Labels, Slot
from psvit.saliency import SALIENCY, saliency
from tests.allocate.synthetic import Hidden, chain, reordered

LABELS = Labels({"eval": {}}, np.zeros(0, dtype=np.int64), {}, {})


def group(*slots: tuple[str, int | str, list[list[int]]]) -> Group:
    made = tuple(Slot(name, dim, np.array(index)) for name, dim, index in slots)
    size = len(made[0].index)
    return Group(0, "g", "hidden", np.arange(size), made, (tuple(range(size)),), 0)


def scores_of(
    module: nn.Module, one: Group, method: str, seed: int = 0, forward: fx.Graph | None = None
) -> list[float]:
    graph = Graph(module, {"eval": forward or fx.Graph()}, (InputSpec((1, 1)),))
    return saliency(graph, Groups((one,), (), LABELS), method, seed)[0].tolist()


class Toy(nn.Module):
    """``a`` and ``b`` put channels 0 and 1 out, ``bn`` scales them, ``next`` takes them in."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(2, 2)
        self.b = nn.Conv2d(1, 2, (1, 2))
        self.bn = nn.BatchNorm2d(2)
        self.next = nn.Linear(2, 2, bias=False)
        self.up = nn.ConvTranspose2d(2, 2, 1)
        self.bare = nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        values = {
            "a.weight": [[3.0, -4.0], [1.0, 0.0]],
            "b.weight": [[[[1.0, 1.0]]], [[[-2.0, 2.0]]]],
            "bn.weight": [-0.5, 0.25],
            "next.weight": [[10.0, 20.0], [30.0, 40.0]],
            "up.weight": [[[[1.0]], [[2.0]]], [[[3.0]], [[5.0]]]],
        }
        for name, value in values.items():
            self.get_parameter(name).data = torch.tensor(value)


PLAIN = [[0], [1]]
A, B, BN, NEXT = (
    ("a.weight", 0, PLAIN),
    ("b.weight", 0, PLAIN),
    ("bn.weight", 0, PLAIN),
    ("next.weight", 1, PLAIN),
)
OTHERS = (("a.bias", 0, PLAIN), ("bn.bias", 0, PLAIN), ("bn.running_mean", 0, PLAIN))


@pytest.mark.parametrize(
    ("slots", "method", "expected"),
    [
        ((A, *OTHERS, NEXT), "l1", [7.0, 1.0]),
        ((A, *OTHERS, NEXT), "l2", [5.0, 1.0]),
        # the mean, not the sum: a second producer does not make a channel count double
        ((A, B, NEXT), "l1", [(7 + 2) / 2, (1 + 4) / 2]),
        ((A, B, NEXT), "l2", [(5 + 2**0.5) / 2, (1 + 8**0.5) / 2]),
        # axis 1 of a transposed convolution puts out, axis 0 takes in
        ((("up.weight", 1, PLAIN), A), "l1", [(7 + 4) / 2, (1 + 7) / 2]),
        ((("up.weight", 0, PLAIN), A), "l1", [7.0, 1.0]),
        # no producer: everything that is a parameter
        ((NEXT, ("bn.running_mean", 0, PLAIN)), "l1", [40.0, 60.0]),
        ((("bare", 0, PLAIN), NEXT), "l1", [(3 + 40) / 2, (7 + 60) / 2]),
        # several positions add up
        ((("a.weight", 0, [[0, 1]]),), "l1", [8.0]),
        ((("a.weight", 0, [[0, 1]]),), "l2", [6.0]),
        ((A, BN, NEXT), "bn", [0.5, 0.25]),
        ((A, NEXT), "bn", [7.0, 1.0]),
        ((A, ("bn.weight", 0, [[0, 1]])), "bn", [0.75]),
    ],
)
def test_the_formula(slots: tuple, method: str, expected: list[float]) -> None:
    assert scores_of(Toy(), group(*slots), method) == pytest.approx(expected, abs=0, rel=1e-15)


@pytest.mark.parametrize(
    ("function", "expected"),
    [(torch.nn.functional.linear, [3.0, 7.0]), (torch.nn.functional.conv_transpose1d, [4.0, 6.0])],
)
def test_a_parameter_given_to_a_function_is_a_producer(function: object, expected: list) -> None:
    forward = fx.Graph()
    x, w = forward.placeholder("x"), forward.get_attr("bare")
    forward.call_function(function, (x, w))
    axis = 0 if expected == [3.0, 7.0] else 1
    one = group(("bare", axis, PLAIN), NEXT)
    assert scores_of(Toy(), one, "l1", forward=forward) == expected


def test_inputs_of_a_grouped_convolution_are_told_apart() -> None:
    conv = nn.Conv1d(4, 2, 1, groups=2, bias=False)  # weight [2, 2, 1]
    conv.weight.data = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    one = group(("weight", "in", [[0], [1], [2], [3]]))
    assert scores_of(conv, one, "l1") == [1.0, 2.0, 3.0, 4.0]


def test_sums_run_in_float64() -> None:
    layer = nn.Linear(4097, 1, bias=False).half()
    layer.weight.data[:] = 1.0  # 2048 + 1 is 2048 in half precision
    one = group(("weight", 0, [[0]]))
    for method in ("l1", "l2"):
        assert scores_of(layer, one, method) == [4097.0 ** (1 if method == "l1" else 0.5)]


def test_every_group_gets_a_score_per_channel() -> None:
    graph, groups = chain([Hidden(3, 2), Hidden(4, fused=True, locked="why not")])
    for method in SALIENCY:
        scores = saliency(graph, groups, method)
        assert {g: tuple(s.shape) for g, s in scores.items()} == {0: (6,), 1: (4,)}
        assert all(s.dtype == torch.float64 for s in scores.values())


def test_random_depends_on_the_seed_and_the_group_alone() -> None:
    graph, groups = chain([Hidden(9), Hidden(9)])
    scores = saliency(graph, groups, "random", seed=3)
    again = saliency(graph, reordered(groups), "random", seed=3)
    alone = saliency(graph, Groups((groups[1],), (), groups.labels), "random", seed=3)
    other = saliency(graph, groups, "random", seed=4)
    assert torch.equal(scores[0], again[0])
    assert torch.equal(scores[1], alone[1])
    assert not torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], other[0])


def test_random_leaves_the_global_generators_alone() -> None:
    graph, groups = chain([Hidden(9)])
    state = torch.random.get_rng_state()
    saliency(graph, groups, "random", seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_random_tells_two_groups_of_one_fused_layer_apart() -> None:
    layer = nn.Linear(2, 8)
    low, high = group(("weight", 0, [[0], [1]])), group(("weight", 0, [[2], [3]]))
    assert scores_of(layer, low, "random") != scores_of(layer, high, "random")


def test_an_unknown_method_lists_the_known_ones() -> None:
    graph, groups = chain([Hidden(3)])
    with pytest.raises(OptionError, match=r"'L3', expected one of l1, l2, bn, random"):
        saliency(graph, groups, "L3")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named(value: float) -> None:
    graph, groups = chain([Hidden(3)])
    graph.module.get_parameter("0.weight").data[1, 0] = value
    with pytest.raises(CheckpointError, match=r"group layer 0 is not finite.*0\.weight"):
        saliency(graph, groups, "l1")


def test_the_weights_are_left_as_they_are() -> None:
    graph, groups = chain([Hidden(3)])
    before = [p.clone() for p in graph.module.parameters()]
    for method in SALIENCY:
        saliency(graph, groups, method)
    assert all(torch.equal(a, b) for a, b in zip(before, graph.module.parameters(), strict=True))
