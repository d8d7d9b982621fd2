"""The last channels: up to every goal where rounding left one open, down where it is overshot."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from psvit.allocate.choose import Levels
from psvit.allocate.problem import Problem


def lift(problem: Problem, levels: Levels) -> dict[int, int]:
    """Raise ties rung by rung until every goal is met: the least loss for what is missing first.

    The goals have to be reachable.
    """
    losses = problem.known_losses("lifting a choice of levels")
    now = {tie: levels.get(tie, 0) for tie in losses.kl}
    while not problem.meets(now):
        saved = problem.saved(now)
        best: tuple[float, float, int, int] | None = None
        for tie, level in now.items():
            rung = next((r for r in problem.ladders.rungs[tie] if r > level), None)
            if rung is None:
                continue
            then = problem.saved({**now, tie: rung})
            gain = sum(
                max(min(then[unit], goal) - min(saved[unit], goal), 0.0) / goal
                for unit, goal in problem.goals.items()
            )
            cost = float(losses.kl[tie][rung] - losses.kl[tie][level])
            ranked = (cost / gain if gain else float("inf"), -gain, tie, rung)
            best = ranked if best is None else min(best, ranked)
        if best is None:
            raise AssertionError("no rung is left although the goals were found reachable")
        now[best[2]] = best[3]
    return now


def trim(problem: Problem, levels: Levels) -> dict[int, int]:
    """Lower ties rung by rung while every goal is still met: the largest loss avoided first.

    Afterwards no tie can go down by one rung. A rung that is needed once stays needed, since
    other ties only go down: so each tie is asked until it first says no.
    """
    losses = problem.known_losses("trimming a choice of levels")
    now = dict(levels)

    def step(tie: int) -> tuple[float, int, int]:
        level = now[tie]
        below = max(rung for rung in problem.ladders.rungs[tie] if rung < level)
        return (float(losses.kl[tie][below] - losses.kl[tie][level]), tie, below)

    queue = [step(tie) for tie, level in now.items() if level]
    heapify(queue)
    while queue:
        _, tie, below = heappop(queue)
        if problem.meets({**now, tie: below}):
            now[tie] = below
            if below:
                heappush(queue, step(tie))
    return now
