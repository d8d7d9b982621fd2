"""Plans that were measured whole: counted for people, and kept in a file for a killed search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from psvit.journal import Kind, open_journal
from psvit.records import Removal
from psvit.sensitivity import HASHES, hash_of

Found = TypeVar("Found", float, str)

MOVES, JUDGES, RIGHT = "moves", "judges", "right"
"""What plans are measured for; see ``psvit.allocate.interaction`` and ``psvit.allocate.bounds``."""


@dataclass(frozen=True)
class Measured:
    """What was ``found`` of a ``plan`` (a hash of what it removes), measured ``by`` some images.

    A loss, or which images are right, a bit each, as text.
    """

    plan: str
    by: str
    found: float | str


MEASURED: Kind[Measured] = Kind(
    mark="psvit_search_journal",
    version=2,
    job="search",
    pieces="measured plans",
    key=lambda one: (one.by, one.plan),
    write=asdict,
    read=lambda data: Measured(str(data["plan"]), str(data["by"]), _found(data["found"])),
    hashes=HASHES | {JUDGES: "the images that plans are judged on differ"},
)


def _found(value: Any) -> float | str:
    return value if isinstance(value, str) else float(value)


def plans_file(journal: Path) -> Path:
    """Where a search keeps the plans that it measured: beside the journal of its analysis."""
    return journal.with_name(f"{journal.name}.plans")


@dataclass(eq=False)
class Search:
    """Measures plans, each once, whatever was killed on the way.

    ``path``: where it is kept what was found, None: nowhere. ``fingerprint`` and ``settings``: what
    it is of; the file of another search is refused. ``tick`` hears how many images have been
    run, and about how many it will be.
    """

    path: Path | None
    fingerprint: str
    settings: Mapping[str, Any]
    tick: Callable[[int, int | None], None]
    _done: int = field(default=0, init=False)
    _about: int = field(default=0, init=False)

    def kept(
        self, by: str, images: int, measure: Callable[[Removal], Found]
    ) -> Callable[[Removal], Found]:
        """``measure``, which runs so many ``images`` for a plan that is not known yet."""
        known: dict[str, Found] = {}

        def found(removal: Removal) -> Found:
            plan = removal_hash(removal)
            if plan not in known:
                known[plan] = self._take(by, plan, images, partial(measure, removal))
            return known[plan]

        return found

    def expect(self, images: int) -> None:
        """About so many images more will be run."""
        self._about += images

    def _take(self, by: str, plan: str, images: int, measure: Callable[[], Found]) -> Found:
        key = (by, plan)
        with open_journal(MEASURED, self.path, self.fingerprint, self.settings) as journal:
            old = key in journal.done
            for _ in journal.take([key]):
                journal.add(Measured(plan, by, measure()))
            found: Found = journal.done[key].found  # type: ignore[assignment]
        self._count(images, known=old)
        return found

    def _count(self, images: int, *, known: bool) -> None:
        if known:
            self._about -= images
        else:
            self._done += images
        self.tick(self._done, max(self._done, self._about))


def removal_hash(removal: Removal) -> str:
    """A short hash of which channels go."""
    gone = ((group, sorted(int(c) for c in lost)) for group, lost in removal.items())
    return hash_of(sorted((group, lost) for group, lost in gone if lost))


def count(batches: Sequence[Sequence[torch.Tensor]]) -> int:
    """How many images there are in batches ``(images [B, C, H, W], ...)``."""
    return sum(len(batch[0]) for batch in batches)
