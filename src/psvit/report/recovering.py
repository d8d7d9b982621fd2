"""How accuracy was brought back: what each step of the recovery gained, on images held out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psvit.report.html import escape, section, signs, table
from psvit.report.tables import recovery_rows
from psvit.report.units import count_text


def recovery_section(told: Mapping[str, Any], control: str = "") -> str:
    """``told`` is what metrics.json says of the recovery; empty where no step was judged.

    ``control``: the accuracy of the unpruned model after the same recovery, where it is known.
    """
    if not told.get("steps"):
        return ""
    titles = ("step", "KL before", "KL after", "kept", "seconds")
    body = (
        f"<p>{signs(escape(_words(told, control)))}</p>"
        + table(titles, recovery_rows(told), kind="recovery")
        + "".join(f"<p>{escape(note)}</p>" for note in told.get("notes", ()))
    )
    return section("recovery", "Recovery", body)


def _words(told: Mapping[str, Any], control: str) -> str:
    stale = told.get("kl_dense")
    dense = "" if stale is None else f", from which the unpruned model as it was is {stale:.4f} off"
    beside = (
        f" After the same recovery the unpruned model has {control} accuracy." if control else ""
    )
    return (
        f"Fitted on {count_text(told['images'])} training images without labels, and judged on "
        f"{count_text(told['held_out'])} others: a step was kept only if it brought the outputs "
        "nearer to those of the unpruned model after batch-norm re-estimation "
        f"(KL divergence in nats an image{dense}).{beside}"
    )
