"""Plans that a search measured are kept: it goes on where it was killed, to the same result."""

from __future__ import annotations

from pathlib import Path

import pytest

from psvit.allocate import METHODS, usual_plans
from psvit.allocate.interaction import correct
from psvit.errors import PlanError
from psvit.measured import Search, plans_file, removal_hash
from psvit.records import Removal
from tests.allocate.test_interaction import shares, three_layers

OPTIMAL = METHODS["optimal"]
RIVALS = [METHODS[name] for name in ("uniform", "psvit", "primesvt")]
MARK = "f" * 16


def search_in(path: Path | None, ticks: list[tuple[int, int | None]] | None = None) -> Search:
    heard = [] if ticks is None else ticks
    return Search(path, MARK, {"seed": 0}, lambda done, most: heard.append((done, most)))


def joint(removal: Removal) -> float:
    one, two, three = shares(removal)
    return one + 3 * two * two + 1.5 * three + 2 * one * three


class Killed(Exception):
    pass


def test_a_killed_search_measures_nothing_twice_and_ends_the_same(tmp_path: Path) -> None:
    problem, path, asked = three_layers(), tmp_path / "plans", []

    def until(most: int):
        def measure(removal: Removal) -> float:
            if len(asked) == most:
                raise Killed
            asked.append(removal_hash(removal))
            return joint(removal) / 3

        return measure

    whole = correct(problem, OPTIMAL, lambda removal: joint(removal) / 3, RIVALS)
    for most in (3, 7):
        with pytest.raises(Killed):
            correct(problem, OPTIMAL, search_in(path).kept("moves", 5, until(most)), RIVALS)
        assert len(asked) == most
    again = correct(problem, OPTIMAL, search_in(path).kept("moves", 5, until(10**6)), RIVALS)
    assert again == whole
    assert len(asked) == len(set(asked)) > 7


def test_moves_and_judgements_of_a_plan_are_kept_apart(tmp_path: Path) -> None:
    search = search_in(tmp_path / "plans")
    moves = search.kept("moves", 5, lambda removal: 1.0)
    judges = search.kept("judges", 5, lambda removal: 2.0)
    assert [moves({0: [1]}), judges({0: [1]}), moves({0: [1]})] == [1.0, 2.0, 1.0]
    again = search_in(tmp_path / "plans")
    assert again.kept("judges", 5, lambda removal: 3.0)({0: [1]}) == 2.0
    assert again.kept("judges", 5, lambda removal: 3.0)({0: [2]}) == 3.0


def test_a_plan_is_known_by_what_it_removes_however_that_is_written() -> None:
    one = removal_hash({0: [2, 1], 3: [4]})
    assert one == removal_hash({3: [4], 5: [], 0: [1, 2]})
    assert one not in {
        removal_hash({}),
        removal_hash({0: [1, 2]}),
        removal_hash({0: [1, 3], 3: [4]}),
    }
    assert removal_hash({}) == removal_hash({7: []})


def test_the_file_of_another_search_is_refused(tmp_path: Path) -> None:
    search_in(tmp_path / "plans").kept("moves", 5, lambda removal: 1.0)({})
    other = Search(tmp_path / "plans", MARK, {"seed": 1}, lambda done, most: None)
    with pytest.raises(PlanError, match="of another search: its seed is 0, now 1"):
        other.kept("moves", 5, lambda removal: 1.0)({})
    assert plans_file(Path("a/out.sensitivity.journal")) == Path("a/out.sensitivity.journal.plans")


def test_progress_says_about_how_much_there_is() -> None:
    ticks: list[tuple[int, int | None]] = []
    search = search_in(None, ticks)
    measured, judged = usual_plans(3, 3)
    about = 2 * measured + 7 * judged
    search.expect(about)
    problem = three_layers()
    moves, judges = search.kept("moves", 2, joint), search.kept("judges", 7, joint)
    correct(problem, OPTIMAL, moves, RIVALS, judge=judges)
    done = [d for d, _ in ticks]
    assert done == sorted(done)
    assert len(done) > 20
    assert [most for _, most in ticks] == [max(about, d) for d in done]
    assert 0.5 * about < done[-1] < 1.5 * about
