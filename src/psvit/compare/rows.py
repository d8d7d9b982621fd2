"""The methods that can be compared, by name: how many channels go by what, and which.

A row is data. ``uniform-NAME`` is uniform pruning by any saliency that psvit has, so a new
saliency needs no line here; the guided methods are those of ``psvit.allocate``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psvit.allocate import METHODS, NEEDS_CURVES
from psvit.errors import OptionError
from psvit.saliency import FROM_DATA, SALIENCY

UNSTRUCTURED = "unstructured"
"""Single weights set to zero, by masks: the model keeps its size."""


@dataclass(frozen=True)
class Row:
    """A method under the name that tables have.

    ``method``: of ``psvit.allocate``, or None for masks. ``saliency``: how it ranks channels;
    None: as the sensitivity analysis that all guided methods share.
    """

    name: str
    method: str | None
    saliency: str | None = None

    @property
    def guided(self) -> bool:
        """Whether it needs the sensitivity analysis."""
        return self.method in NEEDS_CURVES


NAMED = {"random": "uniform-random", "taylor": "uniform-taylor"}
"""Rows with a name of their own."""

DEFAULT = (
    "random",
    "uniform-l1",
    "uniform-l2",
    "taylor",
    "psvit",
    "primesvt",
    "optimal",
    UNSTRUCTURED,
)


def read_rows(names: Sequence[str] | None = None) -> tuple[Row, ...]:
    """The rows of these names, in their order; all of DEFAULT that psvit has without names.

    Raises OptionError for a name that means nothing, is given twice, or if there is none.
    """
    if names is None:
        found = [row for row in map(_row, DEFAULT) if row is not None]
        return tuple(found)
    rows = []
    for name in names:
        row = _row(name)
        if row is None:
            raise OptionError(
                f"no method is called {name!r}, expected one of {', '.join(DEFAULT)}, or "
                f"uniform-NAME with NAME one of {', '.join((*SALIENCY, *FROM_DATA))}"
            )
        if row in rows:
            raise OptionError(f"method {name!r} is given twice, expected each method once")
        rows.append(row)
    if not rows:
        raise OptionError(f"no method is named, expected some of {', '.join(DEFAULT)}")
    return tuple(rows)


def _row(name: str) -> Row | None:
    if name == UNSTRUCTURED:
        return Row(name, None)
    if name in METHODS and name in NEEDS_CURVES:
        return Row(name, name)
    saliency = NAMED.get(name, name).removeprefix("uniform-")
    if NAMED.get(name, name) == f"uniform-{saliency}" and saliency in {*SALIENCY, *FROM_DATA}:
        return Row(name, "uniform", saliency)
    return None
