"""The end of the page: what stayed whole, how to load the model, how to make it again."""

from __future__ import annotations

from psvit.report.data import ReportData
from psvit.report.html import code_block, escape, section, table
from psvit.report.units import plural


def locked_section(data: ReportData) -> str:
    """The groups that could not be pruned, and why."""
    locked = [g for g in data.groups if g.locked]
    if not locked:
        return ""
    channels = sum(g.before for g in locked)
    rows = [(f"<code>{escape(g.name)}</code>", f"{g.before:,}", escape(g.locked)) for g in locked]
    body = (
        f"<p>{plural(len(locked), 'group')} with {plural(channels, 'channel')} stayed whole.</p>"
        + table(("group", "channels", "why it stays"), rows, kind="locks")
    )
    return section("locked", "Locked", body)


def load_section(data: ReportData) -> str:
    """Python that loads the model."""
    if not data.load:
        return ""
    body = (
        "<p>Run it beside the folder that holds this page. The model comes in eval mode; it "
        "trains, exports and can be pruned again.</p>" + code_block(data.load, "Python")
    )
    return section("load", "Load it", body)


def reproduce_section(data: ReportData) -> str:
    """The command, versions, seeds and hashes."""
    if not data.command and not data.facts:
        return ""
    command = code_block(data.command, "Shell command") if data.command else ""
    facts = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in data.facts
    )
    return section("reproduce", "Reproduce it", f'{command}<dl class="facts">{facts}</dl>')
