"""What a plan is measured to lose, by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import psvit
from psvit.calibrate import calibrate
from psvit.capture.copying import private_copy
from psvit.errors import DataError
from psvit.guidance import CHECKED, Guidance, Guide, find_guidance
from psvit.neurons import reset_state
from psvit.outputs import CLOSE, at_best_temperature, kl_per_image, predict
from psvit.recover import Origin
from psvit.recover.matching import match_norms, watch_norms
from psvit.whole_plans import loss_on
from tests.sensitivity.tiny import tiny
from tests.zoo.case import float64


def test_the_loss_of_a_plan_is_doubt_and_divergence_at_the_best_temperature() -> None:
    with float64():
        made = tiny()
        group = made.groups.prunable[0]
        measure = loss_on(made.batches, made.graph, made.groups, "cpu")
        plain = loss_on(made.batches, made.graph, made.groups, "cpu", classes=False)
        assert measure({}) == plain({}) == 0.0
        gained = []
        for removal in ({group.id: [0, 1, 2]}, {group.id: [2, 3, 4, 5, 6, 7]}):
            plan = psvit.groups.make_plan(made.graph, made.groups, removal)
            small = psvit.rewrite(made.graph, plan)
            logs = []
            for model in (made.model, small):
                found = []
                for images, _ in made.batches:
                    reset_state(model)
                    with torch.no_grad():
                        found.append(model(images).mean(0).log_softmax(1))
                reset_state(model)
                logs.append(torch.cat(found))
            whole, left = logs
            scaled = [(left * k / 400).log_softmax(1) for k in range(6400)]
            each = [float((whole.exp() * (whole - one)).sum(1).mean()) for one in scaled]
            best = scaled[each.index(min(each))]
            doubts = []
            for said in (whole, best):
                guess = whole.argmax(1)
                rest = said.masked_fill(torch.nn.functional.one_hot(guess, said.shape[1]) > 0, -9e9)
                own = said[range(len(guess)), guess]
                doubts.append(1 / (1 + ((own - rest.amax(1)) / CLOSE).exp()))
            expected = min(each) + float((doubts[1] - doubts[0]).mean())
            assert measure(removal) == pytest.approx(expected, rel=1e-2)
            assert plain(removal) == pytest.approx(min(each), rel=1e-3)
            gained.append(each[400] / min(each))
        assert max(gained) > 1.01  # else the temperature has nothing to do


def _guided(
    made: Any,
    method: str,
    *,
    bounded: bool,
    say: Callable[[str], None] = lambda text: None,
    **how: Any,
) -> Guidance:
    return find_guidance(
        Guide(made.batches, **how),
        made.model,
        made.graph,
        made.groups,
        psvit.saliency(made.graph, made.groups, "l1", 0),
        method=method,
        units=("memory",),
        bounded=bounded,
        say=say,
    )


def test_a_bound_without_images_to_check_it_on_is_refused_before_the_analysis() -> None:
    with float64():
        made = tiny()
        stages: list[str] = []
        with pytest.raises(DataError, match="no more than the 5 of the analysis: give more data"):
            _guided(made, "uniform", bounded=True, n=5, say=stages.append)
        assert stages == []


@pytest.mark.parametrize("compensated", [False, True])
@pytest.mark.parametrize(
    ("n", "bounded", "judges"), [(2, False, True), (5, False, False), (2, True, False)]
)
def test_plans_are_judged_on_images_that_moves_were_not_measured_on(
    n: int, bounded: bool, judges: bool, compensated: bool
) -> None:
    with float64():
        made = tiny()
        images = torch.cat([batch[0] for batch in made.batches])
        assert n <= len(images) < n + CHECKED
        dense = None
        if compensated:
            dense = calibrate(made.graph, made.groups, [images])
        found = _guided(made, "optimal", bounded=bounded, n=n, dense=dense)
        removal = {made.groups.prunable[0].id: [0, 1, 2]}

        def loss(part: torch.Tensor, *, classes: bool = True) -> float:
            measure = loss_on([(part,)], made.graph, made.groups, "cpu", dense, classes=classes)
            return measure(removal)

        if judges:
            assert found.judge_loss is not None
            assert found.judge_loss(removal) == pytest.approx(loss(images[n:]), rel=1e-9)
        else:
            assert found.judge_loss is None
        if not bounded:  # else the images are drawn
            assert found.measure_loss is not None
            moves = loss(images[:n], classes=not (judges and compensated))
            assert found.measure_loss(removal) == pytest.approx(moves, rel=1e-9)


def test_plans_are_measured_with_matched_statistics_if_asked_for() -> None:
    with float64():
        made = tiny()
        images = [batch[0] for batch in made.batches]
        with torch.no_grad():
            for module in made.model.modules():
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    module.running_var.mul_(1.5)
        graph = psvit.capture(made.model, images[0][:1])
        groups = psvit.find_groups(graph)
        removal = {groups.prunable[0].id: [0, 1, 2]}
        measure = loss_on(made.batches, graph, groups, "cpu", classes=False, matched=True)
        plain = loss_on(made.batches, graph, groups, "cpu", classes=False)
        assert measure({}) == pytest.approx(0, abs=1e-9)
        origin = Origin(graph, groups, psvit.groups.make_plan(graph, groups, removal))
        small, whole, logs = psvit.rewrite(graph, origin.plan), [], []
        for batch in images:  # each matched by itself
            one = private_copy(small)
            match_norms(one, [batch], watch_norms(private_copy(made.model), [batch]), origin.cut)
            logs.append(predict(one, [(batch,)]))
            whole.append(predict(private_copy(made.model), [(batch,)]))
        dense = torch.cat(whole)
        expected = kl_per_image(dense, at_best_temperature(dense, torch.cat(logs))).mean()
        assert measure(removal) == pytest.approx(float(expected), rel=1e-9)
        assert measure(removal) != pytest.approx(plain(removal), rel=1e-3)
