"""`psvit report`: the page that shows what a folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from psvit.cli.console import reports, say
from psvit.cli.options import Json
from psvit.compare.files import read_comparison
from psvit.compare.frontier import trials_of
from psvit.report.rebuild import add_methods, write_report
from psvit.report.units import bytes_text


@reports
def report(
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="A folder that psvit wrote.", show_default=False),
    ],
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What `psvit compare` wrote about the same model: shown as the frontier, and kept "
            "in OUT.",
        ),
    ] = None,
    json: Json = False,
) -> Mapping[str, Any] | None:
    """Write OUT/report.html again, from what OUT holds.

    The page is one file and needs no network. Nothing is measured and no model is built.
    """
    if compare is not None:
        found = read_comparison(compare)
        add_methods(out, trials_of(found), found.fingerprint, found.settings)
    path = write_report(out)
    size = path.stat().st_size
    say(f"written to  {path}  ({bytes_text(size)})")
    return {"report": str(path), "bytes": size} if json else None
