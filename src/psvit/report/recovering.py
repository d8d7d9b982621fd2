"""How accuracy was brought back: what each step of the recovery gained, on images held out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psvit.records import Figures
from psvit.report.html import escape, section, signs, table
from psvit.report.tables import recovery_rows
from psvit.report.units import count_text, percent_text


def recovery_section(told: Mapping[str, Any], control: Figures | None = None) -> str:
    """``told`` is what metrics.json says of the recovery; empty if that is nothing of interest.

    ``control``: the unpruned model after the same recovery, where it was measured.
    """
    steps, notes = told.get("steps", ()), told.get("notes", ())
    if not steps and not notes:
        return ""
    titles = ("step", "KL before", "KL after", "kept", "seconds")
    body = (
        f"<p>{signs(escape(_words(told) + _beside(control)))}</p>"
        + (table(titles, recovery_rows(told), kind="recovery") if steps else "")
        + "".join(f"<p>{escape(note)}</p>" for note in notes)
    )
    return section("recovery", "Recovery", body)


def _words(told: Mapping[str, Any]) -> str:
    fitted = f"On {count_text(told['images'])} training images, without labels."
    if not told.get("steps"):
        return fitted
    return (
        f"{fitted} A step was kept only if it brought the outputs on "
        f"{count_text(told['held_out'])} others nearer to those of the unpruned model "
        "(KL divergence in nats an image)."
    )


def _beside(control: Figures | None) -> str:
    if control is None or control.accuracy is None:
        return ""
    accuracy = percent_text(control.accuracy)
    return f" The unpruned model has {accuracy} accuracy after the same recovery."
