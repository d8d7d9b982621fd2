"""The interval against values computed by hand and against its defining equation."""

from __future__ import annotations

import pytest

from psvit.evaluate import wilson


def test_published_value():
    # 81 of 263: Newcombe (1998), table I, method 3.
    low, high = wilson(81, 263)
    assert low == pytest.approx(0.2553, abs=5e-5)
    assert high == pytest.approx(0.3662, abs=5e-5)


@pytest.mark.parametrize(("correct", "n"), [(0, 1), (1, 1), (3, 7), (359, 360), (0, 50), (50, 50)])
def test_bounds_solve_the_score_equation(correct, n):
    p = correct / n
    for bound in wilson(correct, n):
        assert 0 <= bound <= 1
        if 0 < bound < 1:
            assert (p - bound) ** 2 == pytest.approx(1.959964**2 * bound * (1 - bound) / n)


def test_ends_and_nothing():
    assert wilson(0, 20)[0] == 0.0
    assert wilson(20, 20)[1] == 1.0
    assert wilson(0, 0) == (0.0, 1.0)
