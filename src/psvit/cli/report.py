"""`psvit report`: the page that shows what a folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from psvit.cli.console import reports, say
from psvit.cli.options import Json
from psvit.report.rebuild import write_report
from psvit.report.units import bytes_text


@reports
def report(
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="A folder that psvit wrote.", show_default=False),
    ],
    json: Json = False,
) -> Mapping[str, Any] | None:
    """Write OUT/report.html again, from what OUT holds.

    The page is one file and needs no network. Nothing is measured and no model is built.
    """
    path = write_report(out)
    size = path.stat().st_size
    say(f"written to  {path}  ({bytes_text(size)})")
    return {"report": str(path), "bytes": size} if json else None
