"""Laws of unstructured magnitude pruning."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from psvit.compare.masks import mask_smallest
from psvit.errors import BudgetError


def net(seed: int, coarse: bool) -> nn.Module:
    """Two layers and a norm; ``coarse`` weights are often equal in magnitude."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(7, 9), nn.BatchNorm1d(9), nn.Linear(9, 5))
    if coarse:
        for parameter in model.parameters():
            parameter.data.mul_(8).round_()
    return model


@given(st.floats(0.001, 0.75), st.integers(0, 50), st.booleans())
def test_exactly_the_asked_share_goes_the_smallest_first_and_nothing_else_changes(
    share: float, seed: int, coarse: bool
) -> None:
    with torch.random.fork_rng():
        model = net(seed, coarse)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    masked, count = mask_smallest(model, share)
    total = sum(p.numel() for p in model.parameters())
    assert count == math.ceil(share * total - 1e-9)
    gone, kept = [], []
    for (name, old), new in zip(model.named_parameters(), masked.parameters(), strict=True):
        if old.ndim == 1:
            assert torch.equal(old, new), name
            continue
        changed = (new == 0) & (old != 0)
        assert torch.equal(new[new != 0], old[new != 0])
        gone.append(old[changed].abs())
        kept.append(new[new != 0].abs())
    zeros = sum(int((p == 0).sum()) for p in masked.parameters() if p.ndim > 1)
    were = sum(int((p == 0).sum()) for p in model.parameters() if p.ndim > 1)
    assert zeros == max(count, were)  # weights that were 0 are the smallest of all
    if torch.cat(gone).numel() and torch.cat(kept).numel():
        assert torch.cat(gone).max() <= torch.cat(kept).min()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_more_than_there_are_weights_is_refused() -> None:
    with pytest.raises(BudgetError, match=r"cannot set 13\d weights .* has 108 that masks"):
        mask_smallest(net(0, False), 0.99)
