"""What the page shows: plain data, all of it optional but the figures before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from psvit.records import Curves, Figures


@dataclass(frozen=True)
class GroupRow:
    """A group of channels, drawn as one bar.

    ``heads``: attention heads that share the group, 0 where it is none of theirs. ``cells``: see
    ``psvit.records``. ``removed``: which of the ``before`` channels are gone; None: not known.
    ``order``: as in ``BudgetPath``; empty where unknown. ``in_order``: the channels of a cell
    lie side by side.
    """

    name: str
    role: str
    before: int
    after: int
    cells: int = 1
    heads: int = 0
    locked: str | None = None
    removed: tuple[int, ...] | None = None
    order: tuple[int, ...] = ()
    in_order: bool = True


@dataclass(frozen=True)
class BudgetStep:
    """A plan that the slider stops at: unit -> fraction saved, channels left of each group.

    ``loss``: the predicted loss, the sum of what each tie loses alone; None: not known or
    beyond what was measured. ``this``: the plan of this folder.
    """

    saved: Mapping[str, float]
    widths: tuple[int, ...]
    loss: float | None = None
    this: bool = False


@dataclass(frozen=True)
class Trial:
    """A method at a budget: fraction of the memory saved, accuracy with its interval."""

    method: str
    saved: float
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Rate:
    """Spikes per neuron and time step of a layer, before and after."""

    name: str
    before: float
    after: float


@dataclass(frozen=True)
class ReportData:
    """Everything that ``psvit.report.page.render`` may show; sections without data are left out.

    ``load``: Python that loads the model. ``facts``: rows of the section on reproduction.
    ``recovery`` and ``tuning``: what metrics.json says of recovery and of fine-tuning.
    ``control``: the unpruned model after the same recovery. ``bench``: what bench.json says.
    ``loss_unit``: what ``BudgetStep.loss`` is, ``points`` (of accuracy, a fraction) or ``nats``.
    """

    before: Figures
    after: Figures
    title: str = "A pruned model"
    groups: tuple[GroupRow, ...] = ()
    path: tuple[BudgetStep, ...] = ()
    loss_unit: str = "nats"
    curves: Curves | None = None
    trials: tuple[Trial, ...] = ()
    rates: tuple[Rate, ...] = ()
    load: str = ""
    command: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    method: str = "uniform"
    recovery: Mapping[str, Any] = field(default_factory=dict)
    control: Figures | None = None
    tuning: Mapping[str, Any] = field(default_factory=dict)
    bench: Mapping[str, Any] = field(default_factory=dict)
