"""Which plan led from the original model to a pruned one.

Pruning what was pruned before needs the first plan, so that the second can be written in terms
of the original. It is kept beside the model, weakly, and not on it: a pruned model carries no
attribute of psvit's.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from torch import nn

from psvit.artefacts.compose import compose
from psvit.records import Plan

_plans: WeakKeyDictionary[nn.Module, Plan] = WeakKeyDictionary()


def remember(model: nn.Module, plan: Plan, *, pruned_from: nn.Module | None = None) -> None:
    """Note that `plan` made `model` out of `pruned_from`, which may have been pruned itself."""
    first = None if pruned_from is None else _plans.get(pruned_from)
    _plans[model] = plan if first is None else compose(first, plan)


def plan_of(model: nn.Module) -> Plan | None:
    """The plan from the original to `model`; None if psvit did not make or load it."""
    return _plans.get(model)
