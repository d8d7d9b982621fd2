"""Plans of earlier results, made again from the channels that they keep of each group.

A plan takes minutes to find and seconds to make: the ranking says which channels go once it is
known how many. So another recovery of the same plan needs no second search.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from psvit.allocate.choose import choose
from psvit.errors import PlanError
from psvit.groups import removal_of
from psvit.groups.choose import make_plan
from psvit.records import Graph, Group, Groups, Plan, Scores
from psvit.recover import MATCHED

Cell = dict[str, Any]

ALIKE = ("model", "method", "saliency", "level")


def label_of(group: Group) -> str:
    """A group for people. Groups of one layer differ by their role."""
    return f"{group.name} ({group.role})"


def widths_of(graph: Graph, groups: Groups, plan: Plan) -> dict[str, str]:
    """Channels that stay of each group that can be pruned, as in ``152/192``."""
    gone = removal_of(graph, plan)
    return {
        label_of(group): f"{group.size - len(gone.get(group.id, ()))}/{group.size}"
        for group in groups.prunable
    }


def is_matched(cell: Cell) -> bool:
    """Whether its plan was measured with matched statistics: if recovery is, or begins with, auto.

    Only ``optimal`` measures plans.
    """
    how = cell["recover"]
    return cell["method"] == "optimal" and (how in MATCHED or how.startswith("finetune"))


def earlier(cells: Iterable[Cell], line: Cell) -> Cell | None:
    """The first result whose plan is one for ``line`` too, whatever its recovery."""
    return next(
        (
            cell
            for cell in cells
            if cell.get("keep")
            and all(cell[name] == line[name] for name in ALIKE)
            and is_matched(cell) == is_matched(line)
        ),
        None,
    )


def plan_again(graph: Graph, groups: Groups, scores: Scores, keep: dict[str, str]) -> Plan:
    """The plan that keeps so many channels of each group (as ``widths_of`` says), by ``scores``.

    Raises PlanError for widths of other groups, and for some that no plan has.
    """
    labels = [label_of(group) for group in groups.prunable]
    if list(keep) != labels:
        raise PlanError(f"widths of {', '.join(keep)} do not fit the groups {', '.join(labels)}")
    levels: dict[int, int] = {}
    for group, text in zip(groups.prunable, keep.values(), strict=True):
        kept, size = map(int, text.split("/"))
        gone, rest = divmod(size - kept, len(group.cells))
        if size != group.size or rest or levels.setdefault(group.tie, gone) != gone:
            raise PlanError(f"{label_of(group)}: no plan keeps {text} of {group.size} channels")
    return make_plan(graph, groups, choose(groups, scores, levels))
