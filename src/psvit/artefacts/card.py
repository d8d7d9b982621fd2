"""What makes a folder of psvit's a model repository of the Hugging Face Hub: card and config.

Both only say again what plan and metrics say; `load` reads neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from psvit.models.registry import MODELS
from psvit.places import without_place
from psvit.records import Figures, Plan

PLACEHOLDER = "USER/NAME"
"""Stands for the repository's name until the folder is pushed to one."""

_TAGS = ("psvit", "spiking-neural-network", "vision-transformer", "pruning")


def config_text(plan: Plan, metrics: Mapping[str, Any]) -> str:
    """config.json: how the original is built, what the model is fed, and how large it is now."""
    source, after = plan.source, metrics.get("after") or {}
    config = {
        "model_type": "psvit",
        "original": None if source is None else source.factory,
        "original_arguments": {} if source is None else dict(source.arguments),
        "inputs": [{"shape": list(spec.shape), "dtype": spec.dtype} for spec in plan.inputs],
        "preprocessing": (metrics.get("settings") or {}).get("recipe"),
        "params": after.get("params"),
        "memory_bytes": after.get("memory_bytes"),
    }
    return json.dumps(config, indent=1) + "\n"


def card_text(plan: Plan, metrics: Mapping[str, Any]) -> str:
    """README.md: the model card, with every figure of metrics.json that was measured."""
    settings = metrics.get("settings") or {}
    before, after = _figures(metrics.get("before")), _figures(metrics.get("after"))
    name = str(settings.get("model") or (plan.source.factory if plan.source else "a model"))
    name = without_place(name)
    parts = [
        _front_matter(name, after, settings),
        f"# {name}, pruned",
        "A spiking vision transformer that psvit made smaller: channels are gone, whole, and what "
        "stays has the names that it had.",
        _table(before, after),
        "## Use",
        _use(plan),
        "## How it was made",
        _made(settings),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _figures(data: Mapping[str, Any] | None) -> Figures | None:
    """Figures as metrics.json has them; None for what another version wrote otherwise."""
    try:
        return None if data is None else Figures(**data)
    except TypeError:
        return None


def _front_matter(name: str, after: Figures | None, settings: Mapping[str, Any]) -> str:
    """YAML, of which JSON is a part: strings need no other quoting."""
    lines = ["library_name: psvit", "pipeline_tag: image-classification", "tags:"]
    lines += [f"- {tag}" for tag in _TAGS]
    data = settings.get("eval_data") or settings.get("data")
    if data is not None and after is not None and after.accuracy is not None:
        where = json.dumps(without_place(str(data)))
        lines += [
            "model-index:",
            f"- name: {json.dumps(f'{name}, pruned')}",
            "  results:",
            "  - task:",
            "      type: image-classification",
            "    dataset:",
            f"      type: {where}",
            f"      name: {where}",
            "    metrics:",
            "    - type: accuracy",
            f"      name: top-1 over {after.n} images",
            f"      value: {after.accuracy}",
        ]
    return "\n".join(["---", *lines, "---"])


def _table(before: Figures | None, after: Figures | None) -> str:
    if before is None or after is None:
        return ""
    # Imported late: the report reads folders.
    from psvit.report.figures import figure_rows

    lines = ["| | before | after | change |", "|---|---|---|---|"]
    for row in figure_rows(before, after):
        left, right = (f" ({text})" if text else "" for text in row.intervals)
        note = f" ({row.note})" if row.note else ""
        lines.append(
            f"| {row.name}{note} | {row.before}{left} | {row.after}{right} | {row.change} |"
        )
    return "\n".join(lines)


def _use(plan: Plan) -> str:
    factory = None if plan.source is None else plan.source.factory
    if factory in MODELS:
        call, need = f'psvit.load("hub:{PLACEHOLDER}")', ""
    else:
        call = f'psvit.load("hub:{PLACEHOLDER}", model=original)'
        built = "" if factory is None else f", as `{without_place(factory)}` builds it"
        need = f"\n\n`original` is an instance of the model that was pruned{built}; any weights do."
    shape = list(plan.inputs[0].shape) if plan.inputs else []
    return (
        f"```python\nimport psvit\n\nmodel = {call}\nlogits = model(images)  # {shape}, any batch "
        f"size\n```{need}\n\n`plan.json` lists what stays of every tensor; `metrics.json` holds "
        "every figure and setting."
    )


def _budget(unit: str, amount: float | str) -> str:
    """`memory 0.224`; an amount, such as `params 300k`, as it was asked for."""
    return f"{unit} {amount if isinstance(amount, str) else f'{amount:.4g}'}"


def _made(settings: Mapping[str, Any]) -> str:
    recipe, versions = settings.get("recipe"), settings.get("versions") or {}
    budget = settings.get("save") or {}
    told = {
        "command": settings.get("command"),
        "budget": ", ".join(_budget(*item) for item in budget.items()) or None,
        "method": settings.get("method"),
        "saliency": settings.get("saliency"),
        "recovery": settings.get("recover"),
        "seed": settings.get("seed"),
        "preprocessing": None if recipe is None else json.dumps(recipe),
        "versions": ", ".join(f"{k} {v}" for k, v in versions.items()) or None,
    }
    return "\n".join(f"- {key}: `{value}`" for key, value in told.items() if value is not None)
