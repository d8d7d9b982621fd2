"""Recovery auto: judged on held-out images, a step that hurts leaves no trace."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import psvit
from psvit.allocate import allocate
from psvit.calibrate import calibrate
from psvit.capture.copying import private_copy
from psvit.data import open_data
from psvit.errors import DataError, ModelError
from psvit.groups import make_plan
from psvit.models.load import load_model
from psvit.outputs import kl_per_image, predict
from psvit.recover import Origin, recover
from psvit.recover.auto import STEPS, auto, split
from psvit.recover.bn import reestimate
from psvit.recover.lsq import Fit
from psvit.report.page import render
from psvit.report.rebuild import report_data
from psvit.rewrite import rewrite
from psvit.saliency import obs_scores
from tests.calibrate.nets import Ready, Spikes, ready
from tests.zoo.case import float64


@pytest.fixture(scope="module")
def net() -> Ready:
    return ready(Spikes, channels=2)


@pytest.fixture(scope="module")
def images() -> list[Tensor]:
    draw = torch.Generator().manual_seed(5)
    return list(torch.rand(4, 40, 2, 6, 6, generator=draw, dtype=torch.float64))


def origin_of(net: Ready) -> Origin:
    first, second = net.group("first.0.weight:0").id, net.group("second.0.weight:0").id
    plan = make_plan(net.graph, net.groups, {first: [1, 4, 6, 7], second: [0, 2, 5, 7, 9, 11]})
    return Origin(net.graph, net.groups, plan)


def held_kl(net: Ready, model: nn.Module, images: Sequence[Tensor]) -> float:
    """Worked out anew: from the dense model, as it is."""
    pairs = [predict(m, [(images[3],)]) for m in (private_copy(net.model), model)]
    return float(kl_per_image(*pairs).mean())


def test_the_divergence_only_falls_and_is_what_the_record_says(
    net: Ready, images: list[Tensor]
) -> None:
    origin = origin_of(net)
    small = rewrite(origin.graph, origin.plan)
    none = held_kl(net, small, images)
    record = auto(small, images, origin)
    assert [one.step for one in record.steps] == ["bn", "obs", "lsq"]
    assert (record.images, record.held_out) == (120, 40)
    assert record.steps[0].kl_before == pytest.approx(none, rel=1e-9)
    least = none
    for one in record.steps:
        assert one.kl_before == least
        assert one.kept == (one.kl_after < least)
        least = min(least, one.kl_after)
    assert held_kl(net, small, images) == pytest.approx(least, rel=1e-9)
    assert least < none
    assert any(one.kept for one in record.steps[1:])
    assert json.loads(json.dumps(record.to_dict()))["steps"][0]["step"] == "bn"


def worse(origin: Origin, start: Mapping[str, Tensor], images: Sequence[Tensor]) -> Fit:
    weight = origin.graph.module.get_parameter("head.weight").detach()
    return Fit({"head.weight": -9 * weight}, ("it is worse",))


def test_a_step_that_hurts_leaves_no_trace(net: Ready, images: list[Tensor]) -> None:
    origin = origin_of(net)
    plain, tried = (rewrite(origin.graph, origin.plan) for _ in range(2))
    auto(plain, images, origin, {})
    record = auto(tried, images, origin, {"worse": worse})
    assert [one.kept for one in record.steps if one.step == "worse"] == [False]
    assert record.steps[-1].kl_after > record.steps[-1].kl_before
    assert record.notes == ("it is worse",)
    for name, value in plain.state_dict().items():
        assert torch.equal(tried.state_dict()[name], value), name


def test_fits_see_no_held_out_image_and_start_from_what_was_kept(
    net: Ready, images: list[Tensor]
) -> None:
    origin, seen = origin_of(net), {}

    def look(origin: Origin, start: Mapping[str, Tensor], given: Sequence[Tensor]) -> Fit:
        seen.update(images=list(given), start=dict(start))
        return Fit(start)

    steps = {"obs": STEPS["obs"], "look": look}
    record = auto(rewrite(origin.graph, origin.plan), images, origin, steps)
    assert torch.equal(torch.cat(seen["images"]), torch.cat(images[:3]))
    kept = {one.step: one.kept for one in record.steps}
    assert kept["obs"]
    assert bool(seen["start"])
    assert not kept["look"]  # no better is not good enough


def test_a_step_that_the_model_does_not_allow_is_left_out(net: Ready, images: list[Tensor]) -> None:
    def refuse(origin: Origin, start: Mapping[str, Tensor], given: Sequence[Tensor]) -> Fit:
        raise ModelError("not this one")

    origin = origin_of(net)
    record = auto(rewrite(origin.graph, origin.plan), images, origin, {"new": refuse})
    assert record.notes == ("recovery new is left out: not this one",)


def test_a_dense_model_has_lost_nothing_and_stays_as_it_is(
    net: Ready, images: list[Tensor]
) -> None:
    one = private_copy(net.model)
    assert auto(one, images, None).images == 0
    for name, value in net.model.state_dict().items():
        assert torch.equal(one.state_dict()[name], value)


def test_statistics_of_other_images_than_these_are_kept_but_for_what_pruning_moved(
    net: Ready, images: list[Tensor]
) -> None:
    brighter = [3 * batch for batch in images]  # as augmentation may make them
    trained = private_copy(net.model)
    reestimate(trained, brighter)
    graph = psvit.capture(trained, images[0][:2])
    groups = psvit.find_groups(graph)
    plan = make_plan(graph, groups, {net.group("second.0.weight:0").id: [1, 4, 5]})
    small = rewrite(graph, plan)
    own = {name: value.clone() for name, value in small.named_buffers()}
    auto(small, images, Origin(graph, groups, plan), {})
    for name, value in small.named_buffers():
        if "running" in name and not torch.equal(value, own[name]):
            assert "head" in name or "third" in name, name
    first = small.get_buffer("first.1.running_mean")
    torch.testing.assert_close(first, own["first.1.running_mean"], rtol=0, atol=1e-12)


def test_pruning_tells_of_the_steps_and_of_a_model_that_guesses(
    net: Ready, images: list[Tensor], tmp_path: Path
) -> None:
    labels = torch.arange(40) % 5  # random weights know nothing of them
    data = [(x, labels) for x in images]
    result = psvit.prune(net.model, images[0][:2], {"params": 0.3}, data=data, recover="auto", n=40)
    assert result.settings["saliency"] == "obs"
    told = result.measured["recovery"]
    assert [one["step"] for one in told["steps"]] == ["bn", "obs", "lsq"]
    assert any("no better than guessing among 5 classes" in note for note in told["notes"])
    assert result.control is not None
    psvit.save(result, tmp_path / "out")
    page = render(report_data(tmp_path / "out"))
    assert '<section id="recovery">' in page
    assert "guessing among 5 classes" in page


def test_images_are_split_whatever_their_batches() -> None:
    whole = torch.arange(8.0)[:, None]
    for batches in ([whole], list(whole.split(2)), list(whole.split(4)), [whole[:1], whole[1:]]):
        fitted, held = split(batches)
        assert torch.equal(torch.cat([*fitted, *held]), whole)
        assert fitted
        assert held
    with pytest.raises(DataError, match="at least 2"), float64():
        split([whole[:1]])


def test_half_a_trained_model_gets_nearer_to_it_than_by_compensation_alone() -> None:
    model = load_model("spikformer-digits").model.eval()
    batches = [x for x, _ in open_data("digits", split="train", shuffle=True, batch_size=128)]
    images, unseen = batches[:6], batches[6:]
    graph = psvit.capture(model, images[0][:2])
    groups = psvit.find_groups(graph)
    dense = calibrate(graph, groups, images)
    plan = allocate(graph, groups, obs_scores(dense), {"memory": 0.5}, "uniform")
    teacher = predict(model, [(batch,) for batch in unseen])

    def left(how: str) -> float:
        small = recover(rewrite(graph, plan), images, how, Origin(graph, groups, plan, dense))
        logs = predict(small, [(batch,) for batch in unseen])
        return float(kl_per_image(teacher, logs).mean())

    none, compensated, found = (left(how) for how in ("none", "obs", "auto"))
    assert none > 10 * compensated  # there was something to recover
    assert found < 0.8 * compensated
