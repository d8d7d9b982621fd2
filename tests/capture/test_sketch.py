"""A forward recorded on shapes alone is the one that a run records, or is found out and run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

import psvit
from psvit.capture import record
from psvit.capture.copying import private_copy
from psvit.capture.shapes import ShapesOnly, plain_checks
from psvit.capture.sketch import same_program, sketch
from psvit.records import Graph
from tests.zoo import ZOO
from tests.zoo.case import float64

EVERYDAY = ("sj_spikformer_t1", "einops_attention", "item_assignment", "two_forwards", "rep_conv",
            "drop_path_on", "loop_chunk", "tokens_unique")  # fmt: skip
MODELS = [n if n in EVERYDAY else pytest.param(n, marks=pytest.mark.thorough) for n in ZOO]


def run_instead(monkeypatch: pytest.MonkeyPatch, model: nn.Module, *inputs: Tensor) -> Graph:
    """The recording of a run."""
    with monkeypatch.context() as patched:
        patched.setattr(record, "sketch", lambda root, inputs: None)
        return psvit.capture(model, inputs)


def same(a: Graph, b: Graph) -> bool:
    """Whether two recordings are equal, node by node, with all that nodes know."""
    return a.fixed == b.fixed and all(
        same_program(a.forwards[mode], b.forwards[mode])
        and [(n.name, n.meta) for n in a.forwards[mode].nodes]
        == [(n.name, n.meta) for n in b.forwards[mode].nodes]
        for mode in a.forwards
    )


@pytest.mark.parametrize("name", MODELS)
def test_a_sketch_is_what_a_run_records(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = ZOO[name]
    with float64():
        torch.manual_seed(0)
        model, inputs = case.build(), case.inputs(2)
        ran = run_instead(monkeypatch, model, *inputs)
        drawn = psvit.capture(model, inputs)
    assert same(drawn, ran)
    ours, theirs = drawn.module.state_dict(), ran.module.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_few_models_have_to_be_run() -> None:
    refused = []
    for name in EVERYDAY:
        with float64():
            model = private_copy(ZOO[name].build())
            if sketch(model, ZOO[name].inputs(2)) is None:
                refused.append(name)
    assert refused == ["tokens_unique"]


def test_nothing_is_computed() -> None:
    """The activations of this model would take 68 GB."""
    model = nn.Sequential(nn.Conv2d(1, 4096, 1), nn.BatchNorm2d(4096), nn.AdaptiveAvgPool2d(1))
    graph = psvit.capture(model, torch.zeros(1, 1, 2048, 2048))
    assert [n.meta["shape"] for n in graph.forwards["eval"].nodes if n.op == "call_module"] == [
        (1, 4096, 2048, 2048),
        (1, 4096, 2048, 2048),
        (1, 4096, 1, 1),
    ]
    assert graph.fixed == ()


def test_checks_that_pass_ask_no_symbolic_algebra(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    original = torch._check_with

    def check(*arguments: Any) -> None:
        asked.append(arguments)
        original(*arguments)

    monkeypatch.setattr(torch, "_check_with", check)
    model = nn.Sequential(nn.Linear(4, 6), neuron.LIFNode(step_mode="m"), nn.Linear(6, 3))
    assert sketch(private_copy(model), (torch.rand(4, 2, 4),)) is not None
    assert not asked
    with plain_checks(), pytest.raises(RuntimeError):
        torch._check(False)  # type: ignore[no-untyped-call]


def test_a_sketch_leaves_the_model_alone() -> None:
    with float64():
        model = private_copy(ZOO["rep_conv"].build()).train()
        before = {k: t.clone() for k, t in model.state_dict().items()}
        random = torch.random.get_rng_state()
        drawn = sketch(model, ZOO["rep_conv"].inputs(2))
    assert drawn is not None
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert torch.equal(random, torch.random.get_rng_state())


@functools.cache
def _positions(count: int) -> Tensor:
    return torch.arange(count, dtype=torch.get_default_dtype())


@functools.lru_cache(maxsize=4)
def _some_positions(count: int) -> Tensor:
    return torch.arange(count, dtype=torch.get_default_dtype())


_TABLE: dict[int, Tensor] = {}
_LOG: list[Tensor] = []


class _Shelf:
    """An object outside of any model."""

    kept: Tensor | None = None


_SHELF = _Shelf()
_GLOBAL: Tensor | None = None


def _remembered(x: Tensor) -> Tensor:
    if x.shape[-1] not in _TABLE:
        _TABLE[int(x.shape[-1])] = torch.ones(x.shape[-1])
    return x + _TABLE[x.shape[-1]]


def _logged(x: Tensor) -> Tensor:
    _LOG.append(x * 2)
    return x + _LOG[0]


def _shelved(x: Tensor) -> Tensor:
    if _SHELF.kept is None:
        _SHELF.kept = torch.ones(x.shape[-1])
    return x + _SHELF.kept


def _remembered_globally(x: Tensor) -> Tensor:
    global _GLOBAL
    if _GLOBAL is None:
        _GLOBAL = torch.ones(x.shape[-1])
    return x + _GLOBAL


def _caught(x: Tensor) -> Tensor:
    try:
        return x if float(x.sum()) > 1e9 else x * 3
    except RuntimeError:
        return x + 1


def _acts_unseen(x: Tensor) -> Tensor:
    y = x * 1
    y.data = y.data + 1
    return y


class Body(nn.Module):
    """A layer, what a test puts behind it, and another layer."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.function(self.first(x)))
        return out


LOOKS: dict[str, Callable[[Tensor], Any]] = {
    "a number": lambda x: x * x.mean().item(),
    "a branch": lambda x: x if (x >= -1e9).all() else -x,
    "numpy": lambda x: x + float(x.detach().numpy().shape[0]),
    "memory": lambda x: x * (1 if x.data_ptr() else 2),
    "a count of values": lambda x: x + torch.nonzero(x > -1e9).shape[0],
    "an exception that the model handles": _caught,
    "a tensor made unseen": lambda x: x + torch.Tensor([1.0]),
    "an order in memory": lambda x: x if x.is_contiguous() else -x,
    "a function cache": lambda x: x + _positions(6),
    "a bounded function cache": lambda x: x + _some_positions(6),
    "a dictionary": _remembered,
    "a list": _logged,
    "an object": _shelved,
    "a global variable": _remembered_globally,
}


@pytest.mark.parametrize("what", LOOKS)
def test_what_looks_at_values_is_found_out(what: str) -> None:
    model = Body(LOOKS[what]).eval()
    x = torch.rand(2, 4)
    assert sketch(private_copy(model), (x,)) is None
    with torch.no_grad():  # nothing without data is left where the model would find it
        assert model(x).isfinite().all()


def test_what_acts_unseen_is_run_and_refused_as_ever() -> None:
    model = Body(_acts_unseen)
    assert sketch(private_copy(model), (torch.rand(2, 4),)) is None
    with pytest.raises(psvit.PsvitError, match="does not reproduce"):
        psvit.capture(model, torch.rand(2, 4))


class Hanger(nn.Module):
    """Keeps a copy of a weight as an attribute of it, as binarised networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        weight: Any = self.layer.weight
        if not hasattr(weight, "original"):
            weight.original = weight.data.clone()
        out: Tensor = self.last(F.linear(x, weight.original.sign()))
        return out


def test_an_attribute_hung_on_a_parameter_is_found_out_and_taken_off() -> None:
    model = private_copy(Hanger())
    assert sketch(model, (torch.rand(2, 4),)) is None
    assert not hasattr(model.layer.weight, "original")


def test_nothing_is_compiled_where_a_model_is_run() -> None:
    compiled = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        compiled.append(graph)
        return graph.forward

    double = torch.compile(lambda x: x * 2, backend=backend)
    model = Body(lambda x: double(x) if (x > -1e9).all() else x)
    graph = psvit.capture(model, torch.rand(2, 4))
    assert graph.fixed  # it looks at values, so it was run, and checked by further runs
    assert not compiled


class Lazy(nn.Module):
    """Has its second layer only after a first forward."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.ready = nn.Linear(4, 6), False

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if not self.ready:
            self.scale, self.ready = nn.Parameter(x.abs().mean(0)), True
        return x * self.scale


def test_a_model_that_its_first_forward_changes_is_run() -> None:
    model = private_copy(Lazy())
    assert sketch(model, (torch.rand(2, 4),)) is None
    assert not hasattr(model, "scale")
    assert "scale" in psvit.capture(Lazy(), torch.rand(2, 4)).module.state_dict()


@pytest.mark.parametrize(
    ("function", "fixed"),
    [
        (lambda x: x.reshape(2, -1).reshape(2, 6), ()),  # the model itself takes no other batch
        (lambda x: x / float(x.shape[0]), ("axis 0 of the input is fixed at 2",)),
        (lambda x: x.reshape(x.shape[0], 6), ()),
        (lambda x: x.reshape(len(x) * 3, 2).reshape(len(x), -1), ()),
        (lambda x: x + 0 * int(x.shape[0]), ()),  # another constant, but the same result
    ],
)
def test_sizes_that_are_fixed_are_told_as_a_run_tells_them(
    function: Callable[[Tensor], Any], fixed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = Body(function), torch.rand(2, 4)
    drawn = psvit.capture(model, x)
    assert drawn.fixed == fixed
    assert same(drawn, run_instead(monkeypatch, model, x))


def _strided() -> Tensor:
    return torch.rand(4, 3, 2, 5).permute(0, 2, 3, 1)


RUNS: dict[str, Callable[[], Any]] = {
    "add": lambda: torch.rand(2, 3, 4) + torch.rand(3, 1),
    "add, another order in memory": lambda: _strided() + _strided(),
    "add, expanded": lambda: torch.rand(3, 1).expand(3, 4) * torch.rand(3, 1).expand(3, 4),
    "compare": lambda: _strided() >= 0.5,
    "divide integers": lambda: torch.arange(4) / 2,
    "promote": lambda: torch.arange(4) * torch.rand(4, dtype=torch.float64),
    "number on the left": lambda: 1 - torch.rand(2, 2),
    "where": lambda: torch.where(torch.rand(3, 1) > 0.5, torch.rand(4), 0.0),
    "in place": lambda: torch.rand(2, 3).add_(torch.rand(3)),
    "matrix": lambda: torch.rand(3, 4) @ torch.rand(4, 5),
    "matrices": lambda: torch.rand(2, 1, 3, 4) @ torch.rand(6, 4, 5),
    "transposed matrix": lambda: torch.rand(4, 3).t() @ torch.rand(4, 5),
    "linear": lambda: F.linear(torch.rand(2, 7, 4), torch.rand(5, 4), torch.rand(5)),
    "conv1d": lambda: F.conv1d(torch.rand(2, 4, 9), torch.rand(6, 4, 3), stride=2),
    "conv2d": lambda: F.conv2d(
        torch.rand(2, 4, 9, 8), torch.rand(6, 2, 3, 1), None, (2, 1), 1, 2, groups=2
    ),
    "conv2d, channels last": lambda: F.conv2d(
        torch.rand(2, 4, 9, 8).to(memory_format=torch.channels_last), torch.rand(6, 4, 3, 3)
    ),
    "transposed conv": lambda: F.conv_transpose2d(torch.rand(2, 4, 9, 8), torch.rand(4, 6, 3, 3)),
    "max pool": lambda: F.max_pool2d(torch.rand(2, 4, 9, 8), 3, 2, 1, return_indices=True),
    "max pool, ceiling": lambda: F.max_pool2d(torch.rand(2, 4, 9, 8), 2, 2, ceil_mode=True),
    "average pool": lambda: F.adaptive_avg_pool2d(torch.rand(2, 4, 9, 8), 1),
    "batch norm": lambda: F.batch_norm(_strided(), torch.zeros(2), torch.ones(2)),
    "batch norm in training": lambda: F.batch_norm(
        torch.rand(3, 4, 5), torch.zeros(4), torch.ones(4), torch.ones(4), training=True
    ),
    "layer norm": lambda: F.layer_norm(torch.rand(2, 3, 4), (4,)),
    "group norm": lambda: F.group_norm(torch.rand(2, 4, 5), 2),
    "mean": lambda: torch.rand(2, 3, 4).mean((0, -1)),
    "mean, keeping": lambda: torch.rand(2, 3, 4).mean(1, keepdim=True),
    "sum": lambda: torch.rand(2, 3, 4).sum(0, dtype=torch.float64),
    "sum of integers": lambda: torch.arange(6).reshape(2, 3).sum(1),
    "sum of all": lambda: torch.rand(2, 3).sum((0, 1)),
    "cat": lambda: torch.cat([torch.rand(2, 3), torch.rand(2, 5)], -1),
    "cat, promoting": lambda: torch.cat([torch.rand(2, 3), torch.arange(3)[None]]),
    "stack": lambda: torch.stack([torch.rand(2, 3), torch.rand(2, 3)], -1),
    "repeat": lambda: torch.rand(2, 3).repeat(4, 1, 2),
    "zeros like": lambda: torch.zeros_like(_strided()),
    "full like": lambda: torch.full_like(torch.rand(2, 3), 2, dtype=torch.int64),
    "softmax": lambda: torch.rand(2, 3).softmax(-1),
    "attention": lambda: F.scaled_dot_product_attention(*(torch.rand(2, 3, 5, 4),) * 3),
    "clone": lambda: _strided().contiguous(),
    "reshape": lambda: _strided().reshape(4, -1),
    "to": lambda: _strided().to(torch.float64),
    "index": lambda: torch.rand(4, 5)[torch.tensor([0, 2])],
    "random": lambda: torch.rand(3, generator=torch.Generator()),
    "topk": lambda: torch.rand(3, 5).topk(2),
}  # fmt: skip


@pytest.mark.parametrize("what", RUNS)
def test_shapes_are_those_of_a_run(what: str) -> None:
    def facts(value: Any) -> Any:
        if isinstance(value, Tensor):
            return tuple(value.shape), value.stride(), value.dtype
        return [facts(v) for v in value]

    with torch.no_grad():
        ran = facts(RUNS[what]())
        known: dict[Any, Any] = {}
        for _ in range(2):  # the second time from what is known
            with ShapesOnly(lambda operation: None, known):
                out = RUNS[what]()
            assert facts(out) == ran
            assert all(t.is_meta for t in ([out] if isinstance(out, Tensor) else out))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: torch.rand(3) + torch.rand(4),
        lambda: torch.rand(3, 4) @ torch.rand(3, 4),
        lambda: F.linear(torch.rand(2, 4), torch.rand(5, 4), torch.rand(4)),
        lambda: F.conv2d(torch.rand(2, 4, 9, 8), torch.rand(6, 3, 3, 3)),
        lambda: F.conv2d(torch.rand(2, 4, 2, 2), torch.rand(6, 4, 3, 3)),
        lambda: F.batch_norm(torch.rand(2, 4, 3), torch.rand(3), torch.rand(3)),
        lambda: torch.cat([torch.rand(2, 3), torch.rand(3, 3)], 1),
        lambda: torch.stack([torch.rand(2), torch.rand(3)]),
        lambda: torch.rand(3).add_(torch.rand(2, 3)),
    ],
)
def test_what_a_run_refuses_is_refused(wrong: Callable[[], Any]) -> None:
    with pytest.raises((RuntimeError, ValueError)):
        wrong()
    with pytest.raises((RuntimeError, ValueError)), ShapesOnly(lambda operation: None, {}):
        wrong()
