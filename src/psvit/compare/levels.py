"""Several levels of saving at once: ``{"memory": [0.1, 0.224]}`` is two budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psvit.allocate import read_budgets
from psvit.errors import OptionError

Budget = Mapping[str, float | str]
"""Unit -> what to save, as ``psvit.allocate`` takes it."""


def read_levels(save: Mapping[str, Sequence[float | str]]) -> tuple[Budget, ...]:
    """The budgets, level by level: the first of every unit together, then the second, ...

    Raises OptionError without a level, for units with different numbers of levels, for a level
    given twice, and for anything that is no budget.
    """
    counts = {unit: len(levels) for unit, levels in save.items()}
    if not counts or not all(counts.values()):
        raise OptionError(
            "no budget was given, expected e.g. save={'memory': [0.1, 0.224]} (--save "
            "memory=10%,22.4%)"
        )
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} of {unit}" for unit, count in counts.items())
        raise OptionError(
            f"the numbers of levels differ ({told}): expected as many of each unit, which go "
            "together level by level"
        )
    budgets = [dict(zip(save, level, strict=True)) for level in zip(*save.values(), strict=True)]
    for i, budget in enumerate(budgets):
        read_budgets(budget)
        if budget in budgets[:i]:
            raise OptionError(f"the level {budget_text(budget)} is given twice, expected once")
    return tuple(budgets)


def budget_text(budget: Budget) -> str:
    """`{"memory": 0.224}` -> `memory 22.4%`."""
    return " and ".join(
        f"{unit} {amount if isinstance(amount, str) else f'{100 * amount:g}%'}"
        for unit, amount in budget.items()
    )
