"""How fine-tuning went: what taught, what was kept, and the epochs in a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psvit.report.html import escape, section, signs, table
from psvit.report.units import count_text, percent_text, seconds_text

MOST_ROWS = 12


def finetuning_section(told: Mapping[str, Any]) -> str:
    """``told`` is what metrics.json says of fine-tuning; empty where there was none."""
    if not told:
        return ""
    lines = told["log"]
    rows = [
        (
            f"{line['epoch']:g}" + (" (kept)" * (line["step"] == told["kept_step"])),
            "" if "loss" not in line else f"{line['loss']:.4f}",
            _share(line.get("held_out_accuracy")),
            "" if "held_out_loss" not in line else f"{line['held_out_loss']:.4f}",
        )
        for line in _some(lines)
    ]
    titles = ("epoch", "loss", "held-out accuracy", "held-out loss")
    body = f"<p>{signs(escape(_words(told)))}</p>" + table(titles, rows, kind="epochs")
    return section("finetuning", "Fine-tuning", body)


def finetuning_facts(told: Mapping[str, Any]) -> dict[str, str | None]:
    """What the section on reproduction says of it."""
    if not told:
        return {}
    tuning = told["tuning"]
    shown = {key: value for key, value in tuning.items() if value not in ([], 0.0, False)}
    return {"fine-tuning": ", ".join(f"{key} {_plain(value)}" for key, value in shown.items())}


def _words(told: Mapping[str, Any]) -> str:
    tuning = told["tuning"]
    teacher = (
        "Labels taught the pruned model"
        if tuning["label_weight"] == 1
        else "The dense model taught the pruned one"
        + (" without labels" if not tuning["label_weight"] else ", labels helped")
    )
    start = (told.get("start") or {}).get("accuracy")
    had = "" if start is None else f" It had {percent_text(start)} accuracy before."
    kept = (
        f" The weights of epoch {told['kept_epoch']:g} did best on "
        f"{count_text(told['held_out_images'])} training images held out, and were kept."
        if told["held_out_images"]
        else " The last weights were kept."
    )
    norms = (
        " Batch norms kept the statistics that they had." if told.get("norms") == "frozen" else ""
    ) + (
        " In the end their statistics were matched to the dense model's, which did better still: "
        f"held-out loss {told['held_out_loss']:.4f}."
        if told.get("matched")
        else ""
    )
    return (
        f"{teacher}, for {told['steps']:,} steps on {count_text(told['images'])} training images, "
        f"in {seconds_text(told['seconds'])}.{had}{kept}{norms}"
    )


def _some(lines: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The first and the last line, and others between them, evenly."""
    if len(lines) <= MOST_ROWS:
        return lines
    step = (len(lines) - 1) / (MOST_ROWS - 1)
    return [lines[round(i * step)] for i in range(MOST_ROWS)]


def _share(accuracy: float | None) -> str:
    return "" if accuracy is None else percent_text(accuracy)


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
