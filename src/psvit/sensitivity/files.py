"""An analysis as files: JSON that reads back equal, and CSV for people."""

from __future__ import annotations

import csv
import io
import json
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from psvit.errors import OptionError, OutputError, PlanError
from psvit.groups import fingerprint
from psvit.records import Curves, Figures, Graph, Point
from psvit.sensitivity.identity import weights_hash

CURVES_VERSION = 1
_KEY = "psvit_sensitivity"


def curves_to_json(curves: Curves) -> str:
    """The analysis as JSON text; ``curves_from_json`` reads it back equal."""
    data = {
        _KEY: CURVES_VERSION,
        "fingerprint": curves.fingerprint,
        "settings": dict(curves.settings),
        "dense": asdict(curves.dense),
        "names": {str(tie): name for tie, name in curves.names.items()},
        "points": [point_to(point) for point in curves.points],
    }
    return json.dumps(data, indent=1) + "\n"


def curves_from_json(text: str, where: str = "the sensitivity file") -> Curves:
    """Read an analysis. Raises PlanError for text that is none, or of another version."""
    try:
        data = json.loads(text)
        version = data[_KEY]
        if version != CURVES_VERSION:
            raise PlanError(
                f"{where} has version {version!r}, this psvit reads version {CURVES_VERSION}: "
                "run `psvit sensitivity` again"
            )
        curves = Curves(
            fingerprint=str(data["fingerprint"]),
            settings=dict(data["settings"]),
            names={int(tie): str(name) for tie, name in data["names"].items()},
            dense=Figures(**data["dense"]),
            points=tuple(point_from(point) for point in data["points"]),
        )
        if any(point.tie not in curves.names for point in curves.points):
            raise ValueError("a point of a tie without a name")
        return curves
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlanError(
            f"{where} is not a sensitivity analysis ({type(error).__name__}: {error}): expected "
            "the JSON file that `psvit sensitivity` wrote, unedited"
        ) from error


def write_curves(curves: Curves, path: Path) -> Path:
    """Write ``path``, and a table beside it with the suffix .csv, whole or not at all.

    Returns where the table is. Raises OutputError if a file cannot be written; what was there
    is then still there.
    """
    table = path.with_suffix(".csv")
    write_whole(table, curves_to_csv(curves))
    write_whole(path, curves_to_json(curves))
    return table


def read_curves(path: Path, graph: Graph | None = None, data: str | None = None) -> Curves:
    """Read what ``write_curves`` wrote, and check it as ``check_curves`` does.

    Raises PlanError for a file that is none, damaged, or of another model or data set.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise PlanError(
            f"{path} does not exist: expected the file that `psvit sensitivity -o {path}` writes"
        ) from error
    except (OSError, ValueError) as error:
        raise PlanError(f"{path} cannot be read ({error}): expected a sensitivity file") from error
    curves = curves_from_json(text, str(path))
    if graph is not None:
        check_curves(curves, graph, data, str(path))
    return curves


def check_curves(
    curves: Curves,
    graph: Graph,
    data: str | None = None,
    where: str = "the sensitivity analysis",
    *,
    compensated: bool | None = None,
) -> None:
    """Raise PlanError unless an analysis is of this model with these weights (and this data).

    ``compensated``: whether its points have to be measured with compensation; None: either way.
    """
    own = fingerprint(graph)
    again = "run `psvit sensitivity` on this model"
    if curves.fingerprint != own:
        raise PlanError(
            f"{where} is of another model (fingerprint {curves.fingerprint}, this model has {own})"
            f": {again}"
        )
    if curves.settings.get("weights") != weights_hash(graph):
        raise PlanError(f"{where} is of this model with other weights: {again}")
    recover = curves.settings.get("recover", "none")
    if compensated is not None and (recover != "none") != compensated:
        wanted = "obs" if compensated else "none"
        raise PlanError(
            f"{where} was made with --recover {recover}, and says little about models recovered "
            f"otherwise: run `psvit sensitivity --recover {wanted}`"
        )
    if data is not None:
        check_data(curves, data, where)


def check_data(curves: Curves, data: str, where: str = "the sensitivity analysis") -> None:
    """Raise PlanError unless an analysis was made on this data set."""
    found = curves.settings.get("data")
    if found != data:
        raise PlanError(
            f"{where} was made on {found or 'data it does not name'}, not on {data}: run `psvit "
            f"sensitivity` with --data {data}"
        )


def check_accuracy(curves: Curves, where: str = "the sensitivity analysis") -> None:
    """Raise OptionError if an analysis without labels is asked about accuracy."""
    if any(point.accuracy_drop is None for point in curves.points):
        raise OptionError(
            f"{where} was made without labels, so it knows no accuracy: run `psvit sensitivity` "
            "without --no-labels, or leave bounds on accuracy out"
        )


def curves_to_csv(curves: Curves) -> str:
    """A line a point, with the name of its groups; empty where something was not measured."""
    units = list(dict.fromkeys(unit for point in curves.points for unit in point.saved))
    own = [f.name for f in fields(Point) if f.name != "saved"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *own, *(f"saved_{unit}" for unit in units)])
    for point in curves.points:
        values = [getattr(point, name) for name in own]
        saved = [point.saved.get(unit) for unit in units]
        writer.writerow([curves.names[point.tie], *values, *saved])
    return text.getvalue()


def write_whole(path: Path, text: str) -> None:
    """Replace a file by a new one of ``text``, whole or not at all. Raises OutputError."""
    scratch = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # of a folder that is none, say
            scratch.unlink()


def point_to(point: Point) -> dict[str, Any]:
    """A point as JSON data."""
    return {**vars(point), "saved": dict(point.saved)}


def point_from(data: Mapping[str, Any]) -> Point:
    """A point from JSON data. Raises ValueError, KeyError or TypeError if it is none."""
    names = {f.name for f in fields(Point)}
    if set(data) != names:
        raise ValueError(f"expected the fields {', '.join(sorted(names))}")
    optional = {"accuracy_drop", "accuracy_drop_low", "accuracy_drop_high"}
    for name in names - {"saved"}:
        whole = name in ("tie", "removed", "n")
        allowed = (int,) if whole else (int, float)
        value = data[name]
        if type(value) not in allowed and not (name in optional and value is None):
            raise ValueError(f"{name} is {value!r}, expected a {'whole ' if whole else ''}number")
    saved = {str(unit): value for unit, value in data["saved"].items()}
    if any(type(value) not in (int, float) for value in saved.values()):
        raise ValueError("what is saved is not a number")
    return Point(**{**data, "saved": saved})
