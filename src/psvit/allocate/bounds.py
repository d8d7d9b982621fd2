"""A bound on the accuracy lost: hold it under the budgets given, or find the smallest model.

A measured drop is an estimate, so it is not compared with the bound itself: what counts is the
limit that the true drop stays below with 95 % confidence (one-sided), on labelled images that
the analysis did not see. A budget that is given is one test. In the search for the smallest
model several plans are tried, from the smallest on until one passes. The k-th is tested at a risk
of 5 % / k (k + 1): these add up to 5 %, so a plan that loses too much is returned in at most 5 %
of all searches.

Confidence is about more images of the same kind. A model has often been trained on the images at
hand and errs less on them than on new ones, and so may the drop: give images that it was not
trained on where there are any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from psvit.allocate.choose import Levels
from psvit.allocate.events import highest
from psvit.allocate.losses import Losses
from psvit.allocate.problem import Method, Problem, floor_percent
from psvit.errors import BudgetError, OptionError
from psvit.records import Removal

PRECISION = 1 / 256
"""To this share of what is reachable the smallest model is found."""

BACK_OFF = 0.85
"""What is saved is multiplied by this as long as measuring finds too much accuracy lost."""

ATTEMPTS = 12
"""Measurements at most before a bound counts as out of reach."""

RISK = 0.05
"""How often, at most, a bound may be taken to hold although it does not."""

DropLimit = Callable[[Removal, float], float]
"""What a choice of channels loses of top-1 at most, by measurement, but for a risk."""
Drop = Callable[[Levels, float], float]


def check_bound(max_drop: float | None, min_accuracy: float | None) -> None:
    """Raise OptionError unless at most one is given, and that is a fraction of all images."""
    if max_drop is not None and min_accuracy is not None:
        raise OptionError("max_drop and min_accuracy were both given, expected one of them")
    for name, value in (("max_drop", max_drop), ("min_accuracy", min_accuracy)):
        known = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (known and 0 <= value <= 1):
            raise OptionError(
                f"{name} is {value!r}, expected a fraction from 0 to 1 (0.01 is one point)"
            )


def read_bound(
    losses: Losses | None, max_drop: float | None, min_accuracy: float | None
) -> float | None:
    """The accuracy that may be lost, a fraction; None without a bound.

    ``max_drop`` and ``min_accuracy`` are fractions of all images, at most one of them given.
    Raises OptionError for a bound that is no such number or above the dense accuracy.
    """
    check_bound(max_drop, min_accuracy)
    if min_accuracy is None:
        return max_drop
    dense = None if losses is None else losses.dense_accuracy
    if dense is None:
        raise OptionError(
            "min_accuracy needs a sensitivity analysis on data with labels: give labelled data, "
            "or leave the bound out"
        )
    if min_accuracy > dense:
        raise OptionError(
            f"min_accuracy is {min_accuracy:.2%}, above the {dense:.2%} of the model before "
            "pruning: ask for less"
        )
    return dense - min_accuracy


def hold_bound(
    problem: Problem, method: Method, bound: float, measure: DropLimit | None, levels: Levels
) -> Levels:
    """These levels, which meet the goals, if they lose at most ``bound``.

    ``method`` says what else would fit. ``measure`` gives the limit of the accuracy lost on images
    that the curves did not see; without it the prediction counts. Raises BudgetError that says by
    how much the plan fails and what fits.
    """
    drop, how = _drop_of(problem, measure)
    lost = drop(levels, RISK)
    if lost <= bound:
        return levels
    goals = " and ".join(f"{goal:.2%} of {unit}" for unit, goal in problem.goals.items())
    share = _largest(lambda s: _fits(scale_goals(problem, s), method, drop, bound), PRECISION)
    scaled = problem.saved(method(scale_goals(problem, share))) if share else {}
    fits = ", ".join(f"{floor_percent(scaled.get(u, 0.0))} of {u}" for u in problem.goals)
    raise BudgetError(
        f"cannot save {goals} within {bound * 100:.2f} points of accuracy: the bound on accuracy "
        f"binds, this plan {how} {lost * 100:.2f} points; within it about {fits} can be saved"
    )


def smallest_within(
    problem: Problem, method: Method, bound: float, measure: DropLimit | None
) -> Levels:
    """The levels of ``method`` that save the most memory and lose at most ``bound``.

    The saving is bisected on what the curves predict (on ``measure`` without them), then the
    plan is measured and backs off until the bound holds; see above for the risk. Raises
    BudgetError if none holds it.
    """
    most = problem.saved(highest(problem))["memory"]
    predicts = problem.losses is not None and problem.losses.drop is not None
    predicted, _ = _drop_of(problem, None if predicts else measure)
    checked, how = _drop_of(problem, measure)

    def at(share: float) -> Problem:
        return replace(problem, goals={"memory": share * most})

    share = _largest(lambda s: _fits(at(s), method, predicted, bound), PRECISION)
    if measure is not None:  # a prediction that finds nothing within the bound may be wrong
        share = max(share, PRECISION)
    lowest, attempt = float("inf"), 0
    last: Levels = {}
    while attempt < ATTEMPTS and share >= PRECISION:
        levels = method(at(share))
        share *= BACK_OFF
        if dict(levels) == last:  # a test of the same plan at less risk cannot pass
            continue
        last, attempt = dict(levels), attempt + 1
        lost = checked(levels, RISK / (attempt * (attempt + 1)))
        if lost <= bound:
            return levels
        lowest = min(lowest, lost)
    found = f"the best {how} {lowest * 100:.2f}" if lowest < float("inf") else "none was found"
    raise BudgetError(
        f"no smaller model is sure to lose at most {bound * 100:.2f} points of accuracy: {found}; "
        "allow more, or give more data"
    )


def scale_goals(problem: Problem, share: float) -> Problem:
    """The problem with every goal multiplied."""
    goals: Mapping[str, float] = {unit: share * goal for unit, goal in problem.goals.items()}
    return replace(problem, goals=goals)


def _fits(problem: Problem, method: Method, drop: Drop, bound: float) -> bool:
    return drop(method(problem), RISK) <= bound


def _drop_of(problem: Problem, measure: DropLimit | None) -> tuple[Drop, str]:
    """How the accuracy lost is told, and the words for it."""
    if measure is not None:
        return lambda levels, risk: measure(problem.removal(levels), risk), "may lose up to"
    if problem.losses is None or problem.losses.drop is None:
        raise OptionError(
            "a bound on accuracy needs a sensitivity analysis on data with labels: give labelled "
            "data, or leave the bound out"
        )
    losses = problem.losses
    return lambda levels, risk: losses.predict_drop(levels) or 0.0, "is predicted to lose"


def _largest(fits: Callable[[float], bool], precision: float) -> float:
    """About the largest share in (0, 1] that fits, or 0 if none is found; larger fits worse."""
    if fits(1.0):
        return 1.0
    low, high = 0.0, 1.0
    while high - low > precision:
        middle = (low + high) / 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low
