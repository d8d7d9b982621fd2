"""The looks of an analysis that are done, in a file, so that a killed analysis goes on."""

from __future__ import annotations

from psvit.journal import Kind
from psvit.sensitivity.identity import HASHES
from psvit.sensitivity.looks import Look, look_from, look_to

LOOKS: Kind[Look] = Kind(
    mark="psvit_sensitivity_journal",
    version=3,
    job="analysis",
    pieces="looks",
    key=lambda look: (look.tie, look.removed, look.batch),
    write=look_to,
    read=look_from,
    hashes=HASHES,
)
