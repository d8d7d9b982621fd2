"""How far two models' outputs are apart."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psvit.outputs import at_best_temperature, doubt, kl_per_image


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.2, 8.0), st.floats(0.0, 2.0))
def test_how_sure_a_model_is_of_itself_does_not_count(
    seed: int, factor: float, noise: float
) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(40, 5, generator=draw, dtype=torch.float64)
    changed = logits + noise * torch.randn(40, 5, generator=draw, dtype=torch.float64)
    dense, pruned = logits.log_softmax(1), changed.log_softmax(1)
    best = at_best_temperature(dense, pruned)
    again = at_best_temperature(dense, (changed / factor).log_softmax(1))
    assert torch.equal(best.argmax(1), pruned.argmax(1))
    assert torch.allclose(best, again, rtol=1e-3, atol=1e-3)
    found = float(kl_per_image(dense, best).mean())
    for other in (0.3, 0.9, 1.0, 1.1, 3.0):
        assert found <= float(kl_per_image(dense, (other * best).log_softmax(1)).mean()) + 1e-9


def test_a_model_that_says_the_opposite_is_best_taken_to_say_nothing() -> None:
    dense = torch.tensor([[3.0, 0.0], [0.0, 3.0]], dtype=torch.float64).log_softmax(1)
    best = at_best_temperature(dense, -dense)
    assert torch.allclose(best.exp(), torch.full((2, 2), 0.5, dtype=torch.float64), atol=1e-4)


def test_doubt_is_whether_the_class_changes_but_for_what_is_close() -> None:
    dense = torch.tensor([[9.0, 0.0, 0.0]] * 5).log_softmax(1)
    logits = [[9.0, 0, 0], [0.1, 0, -9], [1.0, -9, 1.0], [0, 0.1, -9], [0, -9, 9.0]]
    found = doubt(dense, torch.tensor(logits).log_softmax(1)).tolist()
    assert found == sorted(found)
    assert found[0] == pytest.approx(0, abs=1e-9)
    assert found[4] == pytest.approx(1, abs=1e-9)
    assert found[2] == pytest.approx(0.5)
    assert 0.3 < found[1] < 0.5 < found[3] < 0.7
