"""Plans that were measured whole: counted for people, and kept in a file for a killed search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from psvit.allocate import Measure, usual_plans
from psvit.journal import Kind, open_journal
from psvit.records import Removal
from psvit.sensitivity import HASHES, hash_of

MOVES, JUDGES = "moves", "judges"
"""What plans are measured for; see ``psvit.allocate.interaction``."""


@dataclass(frozen=True)
class Measured:
    """The ``loss`` of a ``plan`` (a hash of what it removes), measured ``by`` some images."""

    plan: str
    by: str
    loss: float


MEASURED: Kind[Measured] = Kind(
    mark="psvit_search_journal",
    version=1,
    job="search",
    pieces="measured plans",
    key=lambda one: (one.by, one.plan),
    write=asdict,
    read=lambda data: Measured(str(data["plan"]), str(data["by"]), float(data["loss"])),
    hashes=HASHES | {JUDGES: "the images that plans are judged on differ"},
)


def plans_file(journal: Path) -> Path:
    """Where a search keeps the plans that it measured: beside the journal of its analysis."""
    return journal.with_name(f"{journal.name}.plans")


@dataclass(eq=False)
class Search:
    """Measures plans, each once, whatever was killed on the way.

    ``path``: where losses are kept, None: nowhere. ``fingerprint`` and ``settings``: what the
    losses are of; the file of another search is refused. ``tick`` hears how many images have been
    run, and about how many it will be.
    """

    path: Path | None
    fingerprint: str
    settings: Mapping[str, Any]
    tick: Callable[[int, int | None], None]
    _done: int = field(default=0, init=False)
    _about: int = field(default=0, init=False)

    def kept(self, by: str, images: int, measure: Measure) -> Measure:
        """``measure``, which runs so many ``images`` for a plan that is not known yet."""

        def loss(removal: Removal) -> float:
            key = (by, removal_hash(removal))
            with open_journal(MEASURED, self.path, self.fingerprint, self.settings) as journal:
                known = key in journal.done
                for _ in journal.take([key]):
                    journal.add(Measured(key[1], by, measure(removal)))
                found = journal.done[key].loss
            self._count(images, known=known)
            return found

        return loss

    def expect(self, ties: int, rivals: int, moves: int, judges: int) -> None:
        """A search over so many ties, with so many images for a move and for a judgement."""
        plans, judged = usual_plans(ties, rivals)
        self._about = plans * moves + judged * judges

    def _count(self, images: int, *, known: bool) -> None:
        if known:
            self._about -= images
        else:
            self._done += images
        self.tick(self._done, max(self._done, self._about))


def removal_hash(removal: Removal) -> str:
    """A short hash of which channels go."""
    return hash_of(sorted((group, [int(c) for c in gone]) for group, gone in removal.items()))


def count(batches: Sequence[Sequence[torch.Tensor]]) -> int:
    """How many images there are in batches ``(images [B, C, H, W], ...)``."""
    return sum(len(batch[0]) for batch in batches)
