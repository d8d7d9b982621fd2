"""Sequential least squares: each layer solved on what the pruned model really feeds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import psvit
from psvit.calibrate import patches
from psvit.capture import prefix
from psvit.capture.copying import private_copy
from psvit.capture.running import Watcher, run_batch, settled
from psvit.errors import DataError, ModelError
from psvit.groups import make_plan
from psvit.neurons import reset_state
from psvit.records import Graph, Removal
from psvit.recover.least_squares import Sums, solve
from psvit.recover.lsq import Fit, lsq
from psvit.rewrite import rewrite, zeroed
from tests.calibrate.nets import Mixed, Ready, Spikes, ready
from tests.zoo.case import float64


def twins(model: nn.Module) -> None:
    """Channels 1 and 5 of the first stage, and 3 of the second, do what others do."""
    for stage, pairs in ((model.first, ((0, 1), (2, 5))), (model.second, ((7, 3),))):
        for kept, copied in pairs:
            for tensor in (*stage.parameters(), *stage.buffers()):
                if tensor.ndim:
                    tensor[copied] = tensor[kept]


@pytest.fixture(scope="module")
def spikes() -> Ready:
    return ready(Spikes, channels=2)


def some(net: Ready, **gone: list[int]) -> Removal:
    axes = {"first": "first.0.weight:0", "second": "second.0.weight:0", "third": "third.weight:0"}
    return {net.group(axes[stage]).id: channels for stage, channels in gone.items()}


def changed(graph: Graph, values: Mapping[str, Tensor]) -> Graph:
    module = private_copy(graph.module)
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    with torch.no_grad():
        for name, value in values.items():
            tensors[name].copy_(value)
    return replace(graph, module=module)


def outputs(model: nn.Module, net: Ready) -> Tensor:
    reset_state(model)
    with torch.no_grad():
        return model(torch.cat(net.images))


def cut(net: Ready, removal: Removal, fit: Fit) -> Tensor:
    plan = make_plan(net.graph, net.groups, removal)
    return outputs(rewrite(changed(net.graph, fit.tensors), plan), net)


def rows_at(graph: Graph, net: Ready, name: str) -> Tensor:
    """``[G, n, c]``: what a layer reads in this model."""
    consumer, seen = net.consumer(name), []

    class Look(Watcher):
        def run_node(self, n: torch.fx.Node) -> object:
            for call, source in zip(consumer.calls, consumer.sources, strict=True):
                if call is n:
                    seen.append(self.env[source].clone())
            return super().run_node(n)

    with settled(graph, torch.device("cpu"), 0):
        run_batch(graph, Look(graph), [torch.cat(net.images)])
    return torch.cat([torch.cat(list(patches(consumer.geometry, x)), 1) for x in seen], 1)


def test_channels_that_others_replace_can_go_without_a_trace() -> None:
    net = ready(Spikes, channels=2, change=twins)
    removal = some(net, first=[1, 5], second=[3])
    fit = lsq(net.graph, net.groups, removal, net.images, ridge=0.0)
    dense = outputs(net.model, net)
    assert float((cut(net, removal, fit) - dense).abs().max()) < 1e-9
    plain = rewrite(net.graph, make_plan(net.graph, net.groups, removal))
    assert float((outputs(plain, net) - dense).abs().max()) > 1e-2  # else it shows nothing


@pytest.mark.parametrize("name", ["second.0", "third", "head"])
def test_each_layer_is_solved_on_the_inputs_that_the_pruned_model_has(
    spikes: Ready, name: str
) -> None:
    removal = some(spikes, first=[1, 4, 6], second=[0, 2, 9, 11], third=[5])
    options = {"ridge": 1e-9, "restore": False}
    fit = lsq(spikes.graph, spikes.groups, removal, spikes.images, **options)
    plan = make_plan(spikes.graph, spikes.groups, removal)
    now = changed(spikes.graph, fit.tensors)
    pruned = replace(now, module=zeroed(now, plan))
    consumer = spikes.consumer(name)
    x = rows_at(pruned, spikes, name)[0]
    weight = spikes.graph.module.get_parameter(f"{name}.weight").detach().flatten(1)
    y = rows_at(spikes.graph, spikes, name)[0] @ weight.T
    if consumer.absorbs:
        x, y = x - x.mean(0), y - y.mean(0)
    alive = x.abs().amax(0) > 0
    best = torch.linalg.lstsq(x[:, alive], y, driver="gelsd").solution
    got = fit.tensors[f"{name}.weight"].flatten(1).T
    kept = list(plan.keep.get(f"{name}.weight", {}).get("0", range(y.shape[1])))
    error = (x @ got - y)[:, kept].square().sum()
    least = (x[:, alive] @ best - y)[:, kept].square().sum()
    assert float(error) == pytest.approx(float(least), rel=1e-6, abs=1e-12)
    assert float(least) > 0


def test_variances_and_means_are_those_of_the_dense_model(spikes: Ready) -> None:
    removal = some(spikes, first=[1, 4, 6])
    fit = lsq(spikes.graph, spikes.groups, removal, spikes.images)
    now = changed(spikes.graph, fit.tensors)
    pruned = replace(now, module=zeroed(now, make_plan(spikes.graph, spikes.groups, removal)))
    new, old = fit.tensors["second.0.weight"], spikes.graph.module.second[0].weight.detach()
    now_out = rows_at(pruned, spikes, "second.0")[0] @ new.flatten(1).T
    then_out = rows_at(spikes.graph, spikes, "second.0")[0] @ old.flatten(1).T
    torch.testing.assert_close(now_out.var(0), then_out.var(0), rtol=1e-9, atol=0)
    mean = fit.tensors["second.1.running_mean"] - spikes.graph.module.second[1].running_mean
    torch.testing.assert_close(now_out.mean(0) - mean, then_out.mean(0), rtol=0, atol=1e-9)


def test_slices_of_removed_channels_stay_0(spikes: Ready) -> None:
    removal = some(spikes, first=[1, 4], second=[0, 2, 9], third=[5])
    fit = lsq(spikes.graph, spikes.groups, removal, spikes.images)
    now = changed(spikes.graph, fit.tensors)
    again = zeroed(now, make_plan(spikes.graph, spikes.groups, removal)).state_dict()
    assert {"second.0.weight", "second.1.running_mean", "third.weight"} <= fit.tensors.keys()
    for name, value in fit.tensors.items():
        assert torch.equal(again[name], value), name


def test_grouped_depthwise_and_functional_layers_are_fitted() -> None:
    net = ready(Mixed)
    stem = net.group("stem.weight:0")
    removal = {stem.id: [cell[0] for cell in stem.cells]}
    fit = lsq(net.graph, net.groups, removal, net.images)
    assert {"grouped.weight", "wide.weight", "depthwise.weight", "weight", "head.weight"} <= {
        *fit.tensors
    }
    assert "stem.weight" not in fit.tensors
    dense = outputs(net.model, net)
    plain = rewrite(net.graph, make_plan(net.graph, net.groups, removal))
    before = (outputs(plain, net) - dense).square().mean()
    assert float((cut(net, removal, fit) - dense).square().mean()) < float(before)


def test_nothing_removed_changes_nothing(spikes: Ready) -> None:
    assert not lsq(spikes.graph, spikes.groups, {}, spikes.images).tensors
    late = some(spikes, third=[2])
    fit = lsq(spikes.graph, spikes.groups, late, spikes.images)
    assert {*fit.tensors} == {"head.weight", "head.bias"}


def test_the_graph_is_as_before_and_batches_do_not_matter(
    spikes: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    removal = some(spikes, first=[1, 4], second=[0, 2])
    before = {k: v.clone() for k, v in spikes.graph.module.state_dict().items()}
    state = torch.get_rng_state()
    one = lsq(spikes.graph, spikes.groups, removal, spikes.images)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in spikes.graph.module.state_dict().items())
    monkeypatch.setattr(prefix, "HELD_BYTES", 0)  # each batch starts anew
    whole = torch.cat(spikes.images)
    other = lsq(spikes.graph, spikes.groups, removal, [whole[:3], whole[3:4], whole[4:]])
    assert one.tensors.keys() == other.tensors.keys()
    for name, value in one.tensors.items():
        torch.testing.assert_close(other.tensors[name], value, rtol=0, atol=1e-9)


def test_a_start_is_what_the_ridge_draws_to(spikes: Ready) -> None:
    removal = some(spikes, second=[0, 2])
    drawn = lsq(spikes.graph, spikes.groups, removal, spikes.images, ridge=1e9, restore=False)
    old = spikes.graph.module.third.weight.detach()
    kept = torch.ones(12, dtype=torch.bool)
    kept[[0, 2]] = False
    torch.testing.assert_close(drawn.tensors["third.weight"][:, kept], old[:, kept])
    start = {"third.weight": 2 * old}
    options = {"ridge": 1e9, "restore": False, "start": start}
    drawn = lsq(spikes.graph, spikes.groups, removal, spikes.images, **options)
    torch.testing.assert_close(drawn.tensors["third.weight"][:, kept], 2 * old[:, kept])


def test_fewer_rows_than_inputs_are_said_and_survived(spikes: Ready) -> None:
    removal = some(spikes, first=[1, 4], second=[0, 2])
    fit = lsq(spikes.graph, spikes.groups, removal, [torch.cat(spikes.images)[:2]])
    assert any("second.0 36 rows for 72 inputs" in note for note in fit.notes)
    assert all(bool(value.isfinite().all()) for value in fit.tensors.values())


def test_images_that_cannot_be_used_are_named(spikes: Ready) -> None:
    removal = some(spikes, first=[1])
    nan = torch.full((2, 2, 6, 6), float("nan"), dtype=torch.float64)
    same = torch.ones(4, 2, 6, 6, dtype=torch.float64)
    for images, said in (([], "no calibration"), ([nan], "NaN"), ([same], "the same")):
        with pytest.raises(DataError, match=said):
            lsq(spikes.graph, spikes.groups, removal, images)


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.b(self.a(x + y))


def test_two_inputs_are_refused() -> None:
    x = torch.rand(2, 3)
    graph = psvit.capture(Two(), (x, x))
    with pytest.raises(ModelError, match="2 inputs"):
        lsq(graph, psvit.find_groups(graph), {}, [x])


@given(
    seed=st.integers(0, 10_000),
    ridge=st.sampled_from([0.0, 1e-6, 1e-3, 1.0]),
    centred=st.booleans(),
    dead=st.integers(0, 2),
)
@settings(max_examples=40, deadline=None)
def test_a_fit_is_never_worse_than_the_weights_it_starts_from(
    seed: int, ridge: float, centred: bool, dead: int
) -> None:
    with float64():
        draw = torch.Generator().manual_seed(seed)
        x = torch.rand(2, 30, 6, generator=draw)
        x[:, :, :dead] = 0
        x[:, :, 5] = x[:, :, 4]  # rank-deficient
        y = torch.rand(2, 30, 3, generator=draw)
        start = torch.rand(2, 3, 6, generator=draw)
        lost = torch.rand(2, 6, generator=draw) < 0.3
        sums = Sums()
        for part in (slice(0, 7), slice(7, 30)):
            sums.add(x[:, part], y[:, part], Sums.second_of(x[:, part]))
        weight, constant = solve(sums, start, lost, centred=centred, ridge=ridge, restore=False)
        assert not bool(weight.masked_select(lost[:, None, :].expand_as(weight)).any())

        def error(w: Tensor, b: Tensor) -> float:
            return float((x @ w.transpose(1, 2) + b[:, None, :] - y).square().sum())

        plain = start.masked_fill(lost[:, None, :], 0.0)
        zero = torch.zeros(2, 3)
        best = y.mean(1) - (plain @ x.mean(1)[:, :, None])[:, :, 0] if centred else zero
        assert error(weight, constant.reshape(2, 3)) <= error(plain, best) + 1e-9
