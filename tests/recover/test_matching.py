"""Matched statistics: each norm puts out what it put out before pruning, on average."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import psvit
from psvit.capture.copying import private_copy
from psvit.errors import DataError
from psvit.groups import make_plan
from psvit.neurons import reset_state
from psvit.recover import Origin
from psvit.recover.bn import reestimate
from psvit.recover.matching import match_norms, watch_norms
from psvit.rewrite import rewrite
from tests.calibrate.nets import Ready, Spikes, ready
from tests.zoo.case import float64


def draw(seed: int, batches: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.rand(batches, 10, 2, 6, 6, generator=generator, dtype=torch.float64))


@pytest.fixture(scope="module")
def net() -> Ready:
    """Its statistics are of other, brighter images."""
    made = ready(Spikes, channels=2)
    reestimate(made.model, [1.5 * x + 0.2 for x in draw(8)])
    return made


def origin_of(net: Ready, removal: dict[str, list[int]]) -> Origin:
    graph = psvit.capture(net.model, draw(0)[0][:2])
    groups = psvit.find_groups(graph)
    by_id = {net.group(f"{name}.weight:0").id: gone for name, gone in removal.items()}
    plan = make_plan(graph, groups, by_id)
    return Origin(graph, groups, plan)


def put_out(model: nn.Module, images: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Mean and deviation of what each norm puts out."""
    found: list[Tensor] = []
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    hooks = [m.register_forward_hook(lambda m, args, out: found.append(out)) for m in norms]
    with torch.no_grad():
        reset_state(model)
        model.eval()(torch.cat(images))
    reset_state(model)
    for hook in hooks:
        hook.remove()
    return [(x.mean((0, 1, 3, 4)), x.std((0, 1, 3, 4), correction=0)) for x in found]


def test_norms_put_out_the_mean_and_deviation_that_they_put_out_in_the_dense_model(
    net: Ready,
) -> None:
    images = draw(1, 1)
    origin = origin_of(net, {"first.0": [1, 4, 6], "second.0": [0, 5, 7, 9]})
    small = rewrite(origin.graph, origin.plan)
    dense = put_out(private_copy(net.model), images)
    norms = watch_norms(private_copy(net.model), images)

    def apart() -> list[float]:
        return [
            float((origin.cut(f"{name}.1.running_mean", goal) - got).abs().max())
            for name, wanted, found in zip(
                ("first", "second"), dense, put_out(small, images), strict=True
            )
            for goal, got in zip(wanted, found, strict=True)
        ]

    before = apart()
    assert max(before[:2]) < 1e-9  # its inputs are all there
    assert min(before[2:]) > 0.05
    assert match_norms(small, images, norms, origin.cut) == 10
    assert max(apart()) < 3e-4  # but for e, which is not part of a variance


def test_where_nothing_was_removed_nothing_moves(net: Ready) -> None:
    origin = origin_of(net, {})
    same = rewrite(origin.graph, origin.plan)
    norms = watch_norms(private_copy(net.model), draw(1))
    match_norms(same, draw(1), norms, origin.cut)
    for name, value in net.model.named_buffers():
        torch.testing.assert_close(same.get_buffer(name), value, rtol=1e-12, atol=1e-12)
    reestimate(same, draw(1))
    assert not torch.allclose(
        same.get_buffer("first.1.running_mean"), net.model.first[1].running_mean
    )


def test_of_the_images_own_statistics_it_makes_those_that_they_give(net: Ready) -> None:
    dense, images = private_copy(net.model), draw(1, 1)
    reestimate(dense, images)
    graph = psvit.capture(dense, images[0][:2])
    groups = psvit.find_groups(graph)
    gone = {net.group("first.0.weight:0").id: [1, 4, 6]}
    origin = Origin(graph, groups, make_plan(graph, groups, gone))
    matched, fresh = (rewrite(origin.graph, origin.plan) for _ in range(2))
    match_norms(matched, images, watch_norms(dense, images), origin.cut)
    reestimate(fresh, images)
    for name, value in fresh.named_buffers():
        if "running" in name:
            torch.testing.assert_close(matched.get_buffer(name), value, rtol=1e-3, atol=1e-3)


def _steps(x: Tensor) -> tuple[Tensor, Tensor]:
    return x, 3 * x * x - 1


class Steps(nn.Module):
    """Its norms run once a time step, on what differs from step to step."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.second, self.last = nn.Conv2d(6, 4, 3, bias=False), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        outs = [self.last(self.second(self.norm(self.first(x)).relu())) for x in _steps(x)]
        return (outs[0] + outs[1]).mean((2, 3))


def test_norms_that_run_once_a_step_match_at_every_step() -> None:
    with float64():
        torch.manual_seed(0)
        model = Steps().eval()
    images = draw(1, 1)
    graph = psvit.capture(model, images[0][:2])
    groups = psvit.find_groups(graph)
    (group,) = (g for g in groups if any(slot.tensor == "first.weight" for slot in g.slots))
    plan = make_plan(graph, groups, {group.id: [1, 4]})
    origin, small = Origin(graph, groups, plan), rewrite(graph, plan)
    match_norms(small, images, watch_norms(private_copy(model), images), origin.cut)
    spread = model.last.running_var + model.last.eps  # as the dense model starts, of 0 and 1
    means, variances = [], []
    for x in _steps(images[0]):
        dense = model.second(model.norm(model.first(x)).relu())
        rest = small.second(small.norm(small.first(x)).relu())
        (v, m), (w, n) = (torch.var_mean(y, (0, 2, 3), correction=0) for y in (dense, rest))
        variances.append((w + 1e-5) * spread / (v + 1e-5) - 1e-5)
        means.append(n - m * ((variances[-1] + 1e-5) / spread).sqrt())
    for found, wanted in ((small.last.running_mean, means), (small.last.running_var, variances)):
        torch.testing.assert_close(found, torch.stack(wanted).mean(0), rtol=0, atol=1e-9)
        assert bool((wanted[0] - wanted[1]).abs().max() > 1e-3)


def test_watching_leaves_no_trace(net: Ready) -> None:
    model = private_copy(net.model).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    norms = watch_norms(model, draw(1))
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {name: len(read) for name, read in norms.read.items()} == {"first.1": 3, "second.1": 3}


@pytest.mark.parametrize(
    ("images", "said"),
    [([], "no calibration images"), ([torch.full((2, 2, 6, 6), torch.nan).double()], "NaN")],
    ids=["none", "nan"],
)
def test_images_that_say_nothing_are_refused(net: Ready, images: list[Tensor], said: str) -> None:
    model = private_copy(net.model)
    with pytest.raises(DataError, match=said):
        watch_norms(model, images)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in net.model.state_dict().items())
