"""Laws of the race: it keeps to its cost, ranks as all images do, and can be resumed anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

import psvit
from psvit.journal import Journal
from psvit.sensitivity import Race, curves_to_csv, curves_to_json
from psvit.sensitivity.race import DENSE_RUNS, Key, next_keys
from tests.sensitivity.tiny import GRID, Tiny, journal_of, tiny

RACE = Race(share=1.0, images=6, first=2, close=1e-9)


def run(race: Race, kl: dict[Key, torch.Tensor]) -> dict[Key, torch.Tensor]:
    """A whole race over known divergences ``[N]``: what each point has seen at its end."""
    sizes = race.sizes(len(next(iter(kl.values()))))
    looks = dict.fromkeys(kl, 1)
    while True:
        seen = {key: values[: sum(sizes[: looks[key]])] for key, values in kl.items()}
        chosen = next_keys(race, sizes, seen)
        assert len(chosen) == len(set(chosen))
        if not chosen:
            return seen
        for key in chosen:
            looks[key] += 1


def made(points: int, n: int, seed: int) -> dict[Key, torch.Tensor]:
    """Divergences as pruning gives them: skewed, and high for all points on hard images."""
    draw = torch.Generator().manual_seed(seed)
    hard = torch.randn(n, generator=draw, dtype=torch.float64)
    scale = 4 * torch.rand(points, generator=draw, dtype=torch.float64)
    noise = torch.randn(points, n, generator=draw, dtype=torch.float64)
    return {(i, 1): torch.exp(-scale[i] + hard + 0.5 * noise[i]) for i in range(points)}


@given(
    st.integers(2, 30), st.integers(2, 700), st.sampled_from([0.05, 0.2, 1.0]), st.integers(0, 9)
)
@settings(max_examples=40, deadline=None)
def test_it_costs_no_more_than_its_share(points: int, n: int, share: float, seed: int) -> None:
    race = Race(share=share)
    seen = run(race, made(points, n, seed))
    counts = [len(kl) for kl in seen.values()]
    spent = sum(counts) + DENSE_RUNS * max(counts)
    first = min(race.first, n) * (points + DENSE_RUNS)
    assert spent <= max(race.forwards(n, points), first)
    assert sum(race.sizes(n)) == n
    assert max(counts) <= n


def test_it_ranks_at_a_twentieth_of_the_cost_as_all_images_do() -> None:
    for seed in range(5):
        kl = made(32, 1024, seed)
        seen = run(Race(), kl)
        cheap = [float(values.mean()) for values in seen.values()]
        assert spearmanr(cheap, [float(values.mean()) for values in kl.values()])[0] > 0.97


def test_points_that_are_clear_see_fewer_images_than_rivals() -> None:
    draw = torch.Generator().manual_seed(0)
    noise = torch.rand(4, 512, generator=draw, dtype=torch.float64)
    means = {(0, 1): 0.001, (1, 1): 1.0, (2, 1): 1.01, (3, 1): 30.0}
    seen = run(
        Race(share=1.0, close=0.01),
        {key: mean * (0.5 + noise[i]) for i, (key, mean) in enumerate(means.items())},
    )
    assert len(seen[0, 1]) == len(seen[3, 1]) == 16
    assert len(seen[1, 1]) == len(seen[2, 1]) > 100


def test_points_that_never_differ_are_no_rivals() -> None:
    same = torch.rand(256, dtype=torch.float64)
    seen = run(Race(share=1.0), {(0, 1): same, (1, 1): same, (2, 1): torch.zeros(256).double()})
    assert {len(kl) for kl in seen.values()} == {16}


@pytest.mark.parametrize("share", [0, -1, 1.5, float("nan")])
def test_a_share_that_means_nothing(share: float) -> None:
    with pytest.raises(psvit.OptionError, match="expected a fraction above 0 and up to 1"):
        Race(share=share)


# In an analysis


def test_a_point_says_on_how_many_images_it_was_measured(spiking: Tiny) -> None:
    curves = spiking.analyse(race=RACE)
    full = {(p.tie, p.removed): p for p in spiking.analyse().points}
    counts = [p.n for p in curves.points]
    assert min(counts) < max(counts)
    assert curves.settings["images_run"] == sum(counts)
    for point in curves.points:
        whole = full[point.tie, point.removed]
        assert point.kl_low <= point.kl <= point.kl_high
        assert (point.kl == pytest.approx(whole.kl, abs=1e-9)) == (point.n == whole.n)
    assert any(p.rate_drift != full[p.tie, p.removed].rate_drift for p in curves.points)


def test_a_first_look_at_all_images_is_the_full_analysis(spiking: Tiny) -> None:
    curves = spiking.analyse(race=Race(first=5))
    for point, whole in zip(curves.points, spiking.analyse().points, strict=True):
        assert point.n == whole.n == 5
        assert point.kl == pytest.approx(whole.kl, abs=1e-12)
        assert point.accuracy_drop == whole.accuracy_drop
        assert point.rate_drift == pytest.approx(whole.rate_drift, abs=1e-12)
    assert curves.dense == spiking.analyse().dense


def test_a_race_goes_on_from_anywhere_and_never_looks_twice(
    spiking: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, done = journal_of(tmp_path), []
    add = Journal.add

    def count(self, look):
        done.append((look.tie, look.removed, look.batch))
        return add(self, look)

    monkeypatch.setattr(Journal, "add", count)
    expected = curves_to_json(spiking.analyse(race=RACE, journal=journal))
    whole, every = journal.read_bytes(), list(done)
    assert len(every) == len(set(every)) > 2 * len(GRID)
    lines = whole.splitlines(keepends=True)
    for kept in range(len(lines)):
        journal.write_bytes(b"".join(lines[:kept]))
        done.clear()
        assert curves_to_json(spiking.analyse(race=RACE, journal=journal)) == expected
        assert done == every[max(kept - 1, 0) :]
        assert journal.read_bytes() == whole


def test_a_journal_of_another_race(spiking: Tiny, tmp_path: Path) -> None:
    spiking.analyse(race=RACE, journal=journal_of(tmp_path))
    with pytest.raises(psvit.PlanError, match="its race is"):
        spiking.analyse(journal=journal_of(tmp_path))


# Memory


def test_a_memory_limit_changes_nothing_but_rounding(spiking: Tiny) -> None:
    for limit in (100_000, 300_000, 10_000_000):
        for point, whole in zip(
            spiking.analyse(memory_limit=limit).points, spiking.analyse().points, strict=True
        ):
            assert point.n == whole.n
            assert point.kl == pytest.approx(whole.kl, abs=1e-9)


def test_batches_are_cut_and_the_prefix_keeps_to_its_room(monkeypatch: pytest.MonkeyPatch) -> None:
    from psvit.capture import prefix as prefix_file
    from psvit.sensitivity import bench as bench_file

    case, seen = tiny(), []
    outputs = bench_file._outputs

    def watch(program, prefix, batch, start, activity):
        seen.append((prefix.size(batch), sum(s.held_bytes for s in prefix._stands.values())))
        return outputs(program, prefix, batch, start, activity)

    monkeypatch.setattr(bench_file, "_outputs", watch)
    monkeypatch.setattr(prefix_file, "HELD_BYTES", 1)  # a limit takes its place
    case.analyse(memory_limit=900_000)
    assert max(size for size, _ in seen) == 3  # as they were
    assert 1 < max(held for _, held in seen) <= 900_000
    seen.clear()
    case.analyse(memory_limit=120_000)
    assert max(size for size, _ in seen) < 3
    assert max(held for _, held in seen) <= 120_000


def test_a_limit_below_one_forward_says_what_it_takes(spiking: Tiny) -> None:
    with pytest.raises(psvit.OptionError, match=r"the memory limit is 0 MiB, but a forward of one"):
        spiking.analyse(memory_limit=1000)


def test_the_files_say_n_and_interval_of_each_point(spiking: Tiny) -> None:
    curves = spiking.analyse(race=RACE)
    header, *lines = curves_to_csv(curves).splitlines()
    columns = header.split(",")
    for line, point in zip(lines, json.loads(curves_to_json(curves))["points"], strict=True):
        told = dict(zip(columns, line.split(","), strict=True))
        for name in ("n", "kl", "kl_low", "kl_high"):
            assert float(told[name]) == point[name]
