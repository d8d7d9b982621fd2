"""The points of an analysis that are done, in a file, so that a killed analysis goes on."""

from __future__ import annotations

from psvit.journal import Kind
from psvit.records import Point
from psvit.sensitivity.files import point_from, point_to
from psvit.sensitivity.identity import HASHES

POINTS: Kind[Point] = Kind(
    mark="psvit_sensitivity_journal",
    version=1,
    job="analysis",
    pieces="points",
    key=lambda point: (point.tie, point.removed),
    write=point_to,
    read=point_from,
    hashes=HASHES,
)
