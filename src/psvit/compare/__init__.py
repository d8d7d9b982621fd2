"""Methods side by side: the same budgets, the same images, paired, with intervals.

compare(model, images, save, data, eval_data) -> Comparison     the job; goes on if killed
verdicts(comparison) -> tuple[Verdict, ...]                     against dense, control and best
write_comparison, read_comparison                               its folder
"""

from psvit.compare.levels import read_levels as read_levels
from psvit.compare.rows import DEFAULT as DEFAULT
from psvit.compare.rows import read_rows as read_rows
from psvit.compare.run import compare as compare
from psvit.compare.verdicts import Comparison as Comparison
from psvit.compare.verdicts import verdicts as verdicts
