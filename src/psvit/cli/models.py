"""`psvit models`: the models that have a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psvit.cli.console import reports, say
from psvit.cli.options import Json
from psvit.models import MODELS
from psvit.report.tables import names_table


@reports
def models(json: Json = False) -> Mapping[str, Any] | None:
    """List the models that have a name."""
    if not json:
        rows = [(entry.name, entry.description) for entry in MODELS.values()]
        say(names_table(rows, ("model", "what it is")))
        return None
    return {
        "models": [
            {
                "name": entry.name,
                "description": entry.description,
                "input_shape": list(entry.example[1:]),
                "classes": entry.classes,
                "trained": entry.weights is not None,
                "recipe": entry.recipe,
            }
            for entry in MODELS.values()
        ]
    }
