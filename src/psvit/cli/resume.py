"""Jobs that keep what they have done in journals beside their output, and go on from there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psvit.cli.console import note
from psvit.errors import BudgetError, PsvitError
from psvit.journal import leave


class Interrupted(PsvitError):
    """Ctrl-C in a job that can go on."""

    exit_code = 130


def analysis_journal(out: Path) -> Path:
    """Where a job that writes ``out`` keeps its sensitivity analysis until it is done."""
    folder = out.parent
    while not folder.exists():  # `out` may be in a folder that is only made at the end
        folder = folder.parent
    return folder / f"{out.name}.sensitivity.journal"


@contextmanager
def resumable(*journals: Path) -> Iterator[None]:
    """A job that is done when the block ends well: then its journals go, else they stay."""
    for journal in journals:
        if journal.exists():
            note(f"going on from {journal}")
    try:
        yield
    except KeyboardInterrupt as error:
        kept = [str(journal) for journal in journals if journal.exists()]
        if not kept:
            raise
        raise Interrupted(
            f"interrupted; what is done is kept in {' and '.join(kept)}, and the same command "
            "goes on from it"
        ) from error
    except BudgetError:
        for journal in journals:
            if journal.exists():
                note(f"what is done is kept in {journal}, for the same command with other budgets")
        raise
    for journal in journals:
        leave(journal)
