"""The loss: zero between equals, by hand where it can be, on the channels that are left."""

from __future__ import annotations

import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from psvit.artefacts import plan_of
from psvit.errors import OptionError
from psvit.finetune.distill import Distillation, softened_kl
from psvit.finetune.tuning import Tuning
from psvit.recover import reestimate
from tests.finetune.tiny import data, dense_model, pruned


def _logits(seed: int, batch: int = 4, classes: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, classes, generator=generator, dtype=torch.float64)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.2, 20))
def test_the_divergence_is_torchs_and_never_negative(seed: int, temperature: float) -> None:
    student, teacher = _logits(seed), _logits(seed + 1)
    found = softened_kl(student, teacher, temperature)
    expected = temperature**2 * F.kl_div(
        F.log_softmax(student / temperature, 1), F.softmax(teacher / temperature, 1),
        reduction="batchmean",
    )  # fmt: skip
    assert abs(float(found - expected)) < 1e-9 * max(1.0, float(expected))
    assert found > -1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_logits_have_no_loss_and_no_gradient(dtype: torch.dtype) -> None:
    student = _logits(0).to(dtype).requires_grad_()
    loss = softened_kl(student, student.detach().clone(), 3.0)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert float(student.grad.abs().max()) == 0.0


def test_the_label_weight_shares_the_loss() -> None:
    dense, images = dense_model(), torch.rand(4, 1, 6, 6)
    small, labels = pruned(dense), torch.tensor([0, 1, 2, 0])
    logits = small(images).detach()
    alone, hard, half = (
        float(Distillation(small, dense, Tuning(label_weight=w))(logits, labels, images))
        for w in (0.0, 1.0, 0.5)
    )
    assert hard == pytest.approx(float(F.cross_entropy(logits, labels)))
    assert half == pytest.approx((alone + hard) / 2)


def test_features_are_compared_on_the_channels_that_are_left() -> None:
    dense, images = dense_model(), torch.rand(4, 1, 6, 6)
    small = pruned(dense)
    # The first convolution reads the image: what is left of it computes what it always did.
    for layers, equal in ((("0", "1"), True), (("3",), False)):
        loss = Distillation(small, dense, Tuning(features=layers), plan_of(small))
        with loss.active():
            small(images)
            dense(images)
            distance = float(loss._features.distance().detach())
        assert (distance < 1e-12) is equal
    assert not small.get_submodule("0")._forward_hooks
    assert not dense[0]._forward_hooks


def test_judging_and_statistics_keep_no_outputs_in_memory() -> None:
    dense = dense_model()
    small = pruned(dense)
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def count(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal most
        most = max(most, sum(1 for other in alive if other() is not None))
        alive.append(weakref.ref(output))

    for model in (small, dense):
        model.get_submodule("0").register_forward_hook(count)
    loss = Distillation(small, dense, Tuning(features=("0",)), plan_of(small))
    batches = list(data().plain(10))
    with loss.active():
        loss.score(small, batches, labelled=True)
        loss.score(dense, batches, labelled=True)
        reestimate(small, [images for images, _ in batches])
        assert len(alive) == 5 * len(batches)
        assert most <= 1
        assert float(loss(small(batches[0][0]), *batches[0][::-1]).detach()) > 0


def test_without_a_plan_nobody_knows_which_channels_are_left() -> None:
    dense, images = dense_model(), torch.rand(4, 1, 6, 6)
    small = pruned(dense)
    loss = Distillation(small, dense, Tuning(features=("0",)))
    with loss.active(), pytest.raises(OptionError, match="no plan says which channels"):
        loss(small(images), torch.zeros(4).long(), images)


def test_a_pattern_that_names_no_layer() -> None:
    dense = dense_model()
    with pytest.raises(OptionError, match=r"no layer with a weight is called 'stem\.\*'"):
        Distillation(pruned(dense), dense, Tuning(features=("stem.*",)))
