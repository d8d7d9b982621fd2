"""Firing rates before and after, a line a layer."""

from __future__ import annotations

from psvit.report.data import Rate, ReportData
from psvit.report.html import escape, section


def rates_section(data: ReportData) -> str:
    """Two dots a layer on one axis from 0 to the highest rate."""
    if not data.rates:
        return ""
    highest = max(max(rate.before, rate.after) for rate in data.rates) or 1.0
    rows = "".join(_row(rate, highest) for rate in data.rates)
    body = (
        "<p>Spikes per neuron and time step: the hollow dot before pruning, the solid one "
        f'after.</p><ol class="rates">{rows}</ol>'
    )
    return section("rates", "Firing rates", body)


def _row(rate: Rate, highest: float) -> str:
    old, new = (100 * value / highest for value in (rate.before, rate.after))
    text = f"{rate.name}: {rate.before:.3f} → {rate.after:.3f} spikes per neuron and step"
    return (
        f'<li><div class="name"><code>{escape(rate.name)}</code></div><div class="dots" '
        f'tabindex="0" role="img" data-tip="{escape(text)}" aria-label="{escape(text)}"><i style="'
        f"--old:{old:.2f}%;--new:{new:.2f}%;--low:{min(old, new):.2f}%;--high:{max(old, new):.2f}%"
        f'"></i></div><div class="count">{rate.before:.3f} → <b>{rate.after:.3f}</b></div></li>'
    )
