"""What a plan is measured to lose, by hand."""

from __future__ import annotations

import pytest
import torch

import psvit
from psvit.guidance import KL_SHARE, loss_on
from psvit.neurons import reset_state
from tests.sensitivity.tiny import tiny
from tests.zoo.case import float64


def test_the_loss_of_a_plan_is_the_classes_that_change_and_a_little_of_the_divergence() -> None:
    with float64():
        made = tiny()
        group = made.groups.prunable[0]
        measure = loss_on(made.batches, made.model, made.graph, made.groups, "cpu")
        assert measure({}) == 0.0
        changed = []
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
            changed.append(float((whole.argmax(1) != left.argmax(1)).double().mean()))
            divergence = float((whole.exp() * (whole - left)).sum(1).mean())
            assert measure(removal) == pytest.approx(changed[-1] + KL_SHARE * divergence, rel=1e-9)
        assert max(changed) > 0  # else half of it was not looked at
