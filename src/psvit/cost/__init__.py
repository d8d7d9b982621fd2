"""What a model costs, before and after a removal, without rewriting it.

    prepare(graph, groups) -> Meter          once: shapes, storages, the operations that count
    meter.measure(removal) -> Figures        often: what is left
    measure(graph, groups, removal)          the two in one call
    uncounted(graph)                         operations with weights that no rule counts

A new unit is a function in a file of its own and a field of ``Figures``.
"""

from psvit.cost.macs import MAC_RULES, uncounted
from psvit.cost.measure import Meter, measure, prepare

__all__ = ["MAC_RULES", "Meter", "measure", "prepare", "uncounted"]
