"""The page: one HTML file that holds its style, its script and its data, and asks for nothing.

The text is complete without the script, which adds the slider, the charts and the hover.
"""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

from psvit.report.charts import chart_data, methods_table, sensitivity_section
from psvit.report.data import ReportData
from psvit.report.finetuning import finetuning_section
from psvit.report.headline import headline_section
from psvit.report.html import escape, section
from psvit.report.network import (
    channels_left,
    drawn_one_by_one,
    loss_text,
    network_section,
    slider,
    spacing,
)
from psvit.report.provenance import load_section, locked_section, reproduce_section
from psvit.report.rates import rates_section
from psvit.report.recovering import recovery_section
from psvit.report.speed import speed_section
from psvit.report.units import bytes_text, count_text, percent_text

_HOLE = re.compile(r"\{\{(\w+)\}\}")


def render(data: ReportData) -> str:
    """The page as text. Whatever comes from a user is escaped."""
    sections = [
        headline_section(data),
        recovery_section(data.recovery, data.control),
        finetuning_section(data.tuning),
        speed_section(data.bench),
        _explore(data),
        sensitivity_section(data),
        rates_section(data),
        locked_section(data),
        load_section(data),
        reproduce_section(data),
    ]
    body = "\n".join(text for text in sections if text)
    return fill(data.title, body, _script_data(data), "psvit report")


def fill(title: str, body: str, script_data: dict[str, Any], mark: str) -> str:
    """A page of this style around ``body``: sections, whose headings the contents list.

    ``script_data``: what the script draws: ``charts``, ``steps`` and ``groups``, empty or not.
    ``mark``: the small print above the title.
    """
    links = re.findall(r'<section id="([\w-]+)"[^>]*>\s*<h2>(.*?)</h2>', body)
    holes = {
        "title": escape(title),
        "mark": escape(mark),
        "style": _asset("report.css"),
        "script": _asset("report.js"),
        "contents": "".join(f'<li><a href="#{key}">{title}</a></li>' for key, title in links),
        "body": body,
        "data": _embedded(script_data),
    }
    return _HOLE.sub(lambda hole: holes[hole[1]], _asset("page.html"))


def _explore(data: ReportData) -> str:
    """The budget and the network share one slider, which stays in sight over both."""
    charts = chart_data(data)
    if not data.path and not charts:
        return network_section(data)
    figures = "".join(
        f'<figure class="chart" data-chart="{key}"><figcaption>{escape(chart["caption"])}'
        "</figcaption></figure>"
        for key, chart in charts.items()
    )
    what = ""
    if data.path:
        every = "Every" if data.method == "uniform" else "The mark is this model. Every other"
        what = (
            f"<p>{every} stop of the slider is a plan that prunes all groups alike, priced "
            "without cutting anything. Move it to see which channels that budget would take.</p>"
        )
    # The slider is no part of a section: it stays in sight as far as its parent reaches.
    return (
        f'<div class="explore">{section("budget", "Budget", what)}{slider(data)}'
        f'<div class="charts">{figures}</div>{methods_table(data)}{network_section(data)}</div>'
    )


def _script_data(data: ReportData) -> dict[str, Any]:
    """What the script needs: texts are made here, so that it formats no numbers of its own."""
    before = data.before
    steps = []
    for step in data.path:
        left = {unit: 1 - share for unit, share in step.saved.items()}
        texts = {
            "saved": percent_text(step.saved["memory"]),
            "memory": bytes_text(round(before.memory_bytes * left["memory"])),
            "params": count_text(round(before.params * left["params"])),
            "macs": count_text(round(before.macs * left["macs"])),
            "channels": channels_left(data, step.widths),
            "loss": loss_text(step.loss, data.loss_unit),
        }
        changes = {f"{unit}_change": percent_text(-share) for unit, share in step.saved.items()}
        steps.append(
            {
                "saved": round(step.saved["memory"], 5),
                "loss": step.loss,
                "widths": step.widths,
                "this": step.this,
                "texts": {**texts, **changes},
            }
        )
    one_by_one = drawn_one_by_one(data)
    groups = [
        {
            "size": g.before,
            "cells": g.cells,
            "each": spacing(g)[0],
            "gap": spacing(g)[1],
            "order": g.order if one_by_one else (),
            "name": g.name,
            "role": g.role,
            "heads": g.heads,
            "locked": g.locked,
        }
        for g in data.groups
    ]
    return {
        "steps": steps,
        "groups": groups if steps else [],
        "charts": chart_data(data),
    }


def _embedded(data: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _asset(name: str) -> str:
    return (resources.files("psvit.report") / "assets" / name).read_text(encoding="utf-8")
