"""Paired differences of accuracy: by hand, against their defining equations, and as laws."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from psvit.evaluate import drop_limit, pack, paired_drop, unpack
from psvit.evaluate.paired import Z_95_ONE_SIDED

COUNTS = st.tuples(*[st.integers(0, 40)] * 4).filter(sum)
"""Images that both get right, only the first, only the second, neither."""


def models(both: int, first: int, second: int, neither: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which images two models get right."""
    parts = [(True, True, both), (True, False, first), (False, True, second)]
    rows = [(a, b) for a, b, count in parts for _ in range(count)] + [(False, False)] * neither
    table = torch.tensor(rows)
    return table[:, 0], table[:, 1]


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_packed_images_come_back(right: list[bool]) -> None:
    text = pack(torch.tensor(right))
    assert len(text) == 2 * math.ceil(len(right) / 8)
    assert unpack(text, len(right)).tolist() == right


def test_paired_drop_by_hand() -> None:
    dense, pruned = models(4, 2, 1, 1)
    drop, low, high = paired_drop(dense, pruned)
    half = 1.959963984540054 * math.sqrt(4 - 1 / 10) / 10
    assert drop == 1 / 8
    assert (low, high) == (pytest.approx(0.1 - half), pytest.approx(0.1 + half))


def test_models_that_never_differ_still_leave_room_for_doubt() -> None:
    right = torch.ones(50, dtype=torch.bool)
    drop, low, high = paired_drop(right, right)
    assert drop == 0
    assert -0.05 < low < 0 < high < 0.05
    assert paired_drop(right, ~right)[0::2] == (1.0, 1.0)


@given(COUNTS, st.randoms(use_true_random=False))
def test_an_interval_holds_the_drop_and_mirrors_and_knows_no_order(counts, random) -> None:
    dense, pruned = models(*counts)
    drop, low, high = paired_drop(dense, pruned)
    assert drop == pytest.approx(float(dense.double().mean() - pruned.double().mean()))
    assert -1 <= low <= drop <= high <= 1
    assert paired_drop(pruned, dense) == pytest.approx((-drop, -high, -low))
    order = list(range(len(dense)))
    random.shuffle(order)
    assert paired_drop(dense[order], pruned[order]) == (drop, low, high)


@given(COUNTS)
def test_more_of_the_same_images_narrow_the_interval(counts) -> None:
    dense, pruned = models(*counts)
    _, low, high = paired_drop(dense, pruned)
    _, nearer_low, nearer_high = paired_drop(dense.repeat(4), pruned.repeat(4))
    assert nearer_high - nearer_low < high - low
    assert drop_limit(dense.repeat(4), pruned.repeat(4)) <= drop_limit(dense, pruned) + 1e-8


def test_paired_interval_covers_nearly_always() -> None:
    generator = torch.Generator().manual_seed(0)
    inside = 0
    for _ in range(400):
        kind = torch.multinomial(torch.tensor([0.1, 0.04, 0.86]), 64, True, generator=generator)
        _, low, high = paired_drop(kind != 1, kind != 0)
        inside += low <= 0.06 <= high
    assert 0.92 <= inside / 400 <= 0.99


@pytest.mark.parametrize("n", [1, 10, 1000])
def test_the_limit_without_a_difference_is_known(n: int) -> None:
    right = torch.ones(n, dtype=torch.bool)
    z = Z_95_ONE_SIDED
    assert drop_limit(right, right) == pytest.approx(z**2 / (n + z**2), abs=1e-8)
    assert drop_limit(right, ~right) == 1.0


@given(COUNTS.filter(lambda counts: counts[1] or counts[2]))
def test_the_limit_solves_the_score_equation(counts) -> None:
    """With the likeliest table whose drop is d found by search, not by formula."""
    both, first, second, neither = counts
    n, d = sum(counts), drop_limit(*models(*counts))

    def unlikely(q: float) -> float:
        return -(
            first * math.log(q + d)
            + (second * math.log(q) if second else 0.0)
            + (both + neither) * math.log(1 - 2 * q - d + 1e-300)
        )

    if d > 0.99 or d < 1e-3:
        return
    least = max(0.0, -d) + 1e-12
    q = minimize_scalar(
        unlikely, bounds=(least, (1 - d) / 2 - 1e-12), method="bounded", options={"xatol": 1e-12}
    ).x
    z = (first - second - n * d) / math.sqrt(n * (2 * q + d * (1 - d)))
    assert z == pytest.approx(-Z_95_ONE_SIDED, abs=1e-3)


@given(COUNTS)
def test_the_limit_lies_above_the_drop_and_rises_with_every_image_lost(counts) -> None:
    both, first, second, neither = counts
    limit = drop_limit(*models(*counts))
    assert paired_drop(*models(*counts))[0] <= limit <= 1
    if both:
        assert drop_limit(*models(both - 1, first + 1, second, neither)) >= limit - 1e-8


@pytest.mark.parametrize("chances", [(0.02, 0.01), (0.05, 0.0), (0.1, 0.1), (0.3, 0.05)])
def test_the_limit_fails_as_rarely_as_it_says(chances: tuple[float, float]) -> None:
    """Summed over every table of 60 images, not sampled: the score test is off by little."""
    n, (p, q) = 60, chances
    missed = 0.0
    for b in range(16 if p < 0.2 else n + 1):
        for c in range(min(n - b, 24) + 1):
            both = n - b - c
            chance = (
                math.comb(n, b) * math.comb(n - b, c) * p**b * q**c * (1 - p - q) ** both
            )  # fmt: skip
            if chance > 1e-7 and drop_limit(*models(both, b, c, 0)) < p - q:
                missed += chance
    assert missed <= 0.065
