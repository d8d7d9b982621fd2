"""The zoo itself: every model runs, is awake, and names axes that exist."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.zoo import THEMES, ZOO
from tests.zoo.case import float64
from tests.zoo.wake import distance, firing_rates, missed, outputs, wake


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    with float64():
        yield


def test_no_two_cases_share_a_name() -> None:
    assert len(ZOO) == sum(len(theme.CASES) for theme in THEMES)


@pytest.mark.parametrize("name", ZOO)
def test_a_model_is_alive_at_any_batch_size_and_has_the_axes_of_its_case(name: str) -> None:
    case = ZOO[name]
    torch.manual_seed(0)
    model = wake(case.build(), case.inputs(2))

    tensors = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers()),
    }
    axes = {f"{key}:{dim}" for key, t in tensors.items() for dim in range(t.ndim)}
    assert not {*case.prunable, *case.locked} - axes
    assert not {*case.prunable} & {*case.locked}

    with torch.no_grad():
        for batch in (2, 5):
            out = outputs(model, case.inputs(batch))
            assert all(torch.isfinite(t).all() for t in out)
            # a sample's outputs differ from its neighbour's, so the inputs reach them
            assert float(out[0].std()) > 1e-3
            assert distance(out, outputs(model, case.inputs(batch))) == 0.0
        rates = list(firing_rates(model, case.inputs(5)).values())
        assert all(0.01 < rate <= 1 for rate in rates)
        assert sum(0.05 <= rate <= 0.6 for rate in rates) >= 0.75 * len(rates) - 2
        noticed = missed(model, case.inputs(5))
        assert sum(noticed) >= 0.75 * len(noticed)
        model.train()
        assert all(torch.isfinite(t).all() for t in outputs(model, case.inputs(2)))
