"""Which channels must live or die together, and why some cannot go."""

from psvit.groups.build import find_groups as find_groups
from psvit.groups.choose import fingerprint as fingerprint
from psvit.groups.choose import make_plan as make_plan
from psvit.groups.choose import removal_of as removal_of
from psvit.groups.choose import removed_channels as removed_channels
from psvit.groups.shapes import dead_lanes as dead_lanes
from psvit.groups.shapes import kept_shape as kept_shape
