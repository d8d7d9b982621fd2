"""A comparison as a folder: compare.json, which reads back equal, a page, and a picture."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from psvit.artefacts.folder import Kind, written_folder
from psvit.compare.cells import Cell, cell_from, cell_to
from psvit.compare.page import page, picture
from psvit.compare.verdicts import Comparison, Difference, verdicts
from psvit.errors import PlanError

COMPARISON = "compare.json"
PAGE = "compare.html"
PICTURE = "compare.svg"
COMPARISON_VERSION = 1
_KEY = "psvit_compare"


def is_comparison(folder: Path) -> bool:
    """True for a folder that ``psvit compare`` wrote."""
    try:
        return _KEY in json.loads((folder / COMPARISON).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


COMPARED = Kind(frozenset({COMPARISON, PAGE, PICTURE}), is_comparison)
"""A folder with a comparison."""


def comparison_to_json(comparison: Comparison) -> str:
    """The comparison as JSON text; ``comparison_from_json`` reads it back equal.

    Wall times stand apart under ``seconds``: all else is the same for the same command.
    """
    data = {
        _KEY: COMPARISON_VERSION,
        "fingerprint": comparison.fingerprint,
        "settings": dict(comparison.settings),
        "dense": _untimed(comparison.dense),
        "control": None if comparison.control is None else _untimed(comparison.control),
        "results": [
            {
                **_untimed(verdict.cell),
                "saved": dict(verdict.saved),
                "lost": asdict(verdict.lost),
                "lost_to_control": _difference(verdict.lost_to_control),
                "behind_best": _difference(verdict.behind),
            }
            for verdict in verdicts(comparison)
        ],
        "left_out": list(comparison.left_out),
        "seconds": {
            "analysis": comparison.analysis_s,
            "control": None if comparison.control is None else comparison.control.seconds,
            "results": [round(cell.seconds, 3) for cell in comparison.cells],
        },
    }
    return json.dumps(data, indent=1) + "\n"


def comparison_from_json(text: str, where: str = COMPARISON) -> Comparison:
    """Read a comparison. Raises PlanError for text that is none, or of another version."""
    try:
        data = json.loads(text)
        version = data[_KEY]
        if version != COMPARISON_VERSION:
            raise PlanError(
                f"{where} has version {version!r}, this psvit reads version {COMPARISON_VERSION}: "
                "run `psvit compare` again"
            )
        seconds, control = data["seconds"], data["control"]
        results = zip(data["results"], seconds["results"], strict=True)
        return Comparison(
            fingerprint=str(data["fingerprint"]),
            settings=dict(data["settings"]),
            dense=_cell(data["dense"], 0.0),
            control=None if control is None else _cell(control, seconds["control"]),
            cells=tuple(_cell(result, taken) for result, taken in results),
            analysis_s=seconds["analysis"],
            left_out=tuple(map(str, data["left_out"])),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlanError(
            f"{where} is not a comparison ({type(error).__name__}: {error}): expected the file "
            f"{COMPARISON} that `psvit compare` wrote, unedited"
        ) from error


def read_comparison(path: Path) -> Comparison:
    """Read ``compare.json``, or that of a folder. Raises PlanError for a file that is none."""
    file = path / COMPARISON if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise PlanError(
            f"{file} does not exist: expected the file that `psvit compare` writes"
        ) from error
    except (OSError, ValueError) as error:
        raise PlanError(f"{file} cannot be read ({error}): expected a comparison") from error
    return comparison_from_json(text, str(file))


def write_comparison(comparison: Comparison, out: Path, *, force: bool = False) -> None:
    """Write the folder ``out``, whole or not at all. Raises OutputError if that fails."""
    texts = {
        COMPARISON: comparison_to_json(comparison),
        PAGE: page(comparison),
        PICTURE: picture(comparison),
    }
    with written_folder(out, force=force, kind=COMPARED) as folder:
        for name, text in texts.items():
            with (folder / name).open("w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())


def _cell(data: Mapping[str, Any], seconds: float) -> Cell:
    """The cell of a result, which tells what follows from it besides."""
    own = ("method", "budget", "figures", "right", "zeroed")
    return cell_from({**{name: data[name] for name in own}, "seconds": float(seconds)})


def _untimed(cell: Cell) -> dict[str, Any]:
    return {key: value for key, value in cell_to(cell).items() if key != "seconds"}


def _difference(difference: Difference | None) -> dict[str, float] | None:
    return None if difference is None else asdict(difference)
