"""What a model costs, before and after a removal, without rewriting it.

    prepare(graph, groups) -> Meter          once: shapes, storages, the operations that count
    meter.measure(removal) -> Figures        often: what is left
    measure(graph, groups, removal)          the two in one call
    uncounted(graph)                         operations with weights that no rule counts

and what it fires, from data:

    observe(graph, images, groups) -> Activity     once: runs the model; ``Activity.rates``
    prepare(graph, groups, activity) -> Meter      its figures have SOPs and energy as well
    energy_pj(macs, sops), layer_energy_pj(rates)  the convention of the field

A new unit is a function in a file of its own and a field of ``Figures``.
"""

from psvit.cost.energy import energy_pj as energy_pj
from psvit.cost.energy import layer_energy_pj as layer_energy_pj
from psvit.cost.latency import Latency as Latency
from psvit.cost.latency import LatencyTable as LatencyTable
from psvit.cost.latency import TimedNode as TimedNode
from psvit.cost.latency import list_nodes as list_nodes
from psvit.cost.latency import make_latency as make_latency
from psvit.cost.macs import MAC_RULES as MAC_RULES
from psvit.cost.macs import uncounted as uncounted
from psvit.cost.measure import Meter as Meter
from psvit.cost.measure import measure as measure
from psvit.cost.measure import prepare as prepare
from psvit.cost.observe import observe as observe
from psvit.cost.rates import LayerRate as LayerRate
from psvit.cost.rates import Rates as Rates
from psvit.cost.sops import Activity as Activity
