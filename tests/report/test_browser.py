"""The page in a real browser: no errors, nothing asked of the network, and everything moves."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from psvit.report.data import ReportData
from psvit.report.page import render
from tests.report.browser import CHROMIUM, Browser
from tests.report.sample import AFTER, BEFORE, full

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)"
)
WIDTHS = (400, 1600)


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture
def browser(process):
    """No test may leave an error on the console."""
    yield process
    process.settle()
    assert process.errors == []


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    long = "a.module.with.a.very.long.name." * 4 + "conv"
    data = full()
    hard = replace(
        data,
        title=long,
        groups=tuple(replace(g, name=f"{long}.{i}") for i, g in enumerate(data.groups)),
        facts=((long, "x" * 300),),
        command="psvit " + "y" * 400,
    )
    kinds = {
        "full": data,
        "hard": hard,
        "bare": ReportData(before=BEFORE, after=AFTER),
        "static": replace(data, path=(), trials=(), curves=None),
        "trials": replace(data, path=(), curves=None),
    }
    for name, kind in kinds.items():
        (folder / f"{name}.html").write_text(render(kind), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in kinds}


def text(browser: Browser, selector: str) -> str:
    return browser.run(f"document.querySelector({json.dumps(selector)}).textContent")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ["full", "hard", "bare", "static", "trials"])
def test_no_error_no_request_and_no_overflow(browser, pages, kind, width, dark):
    browser.open(pages[kind], width, dark=dark)
    assert browser.errors == []
    assert browser.requests == [pages[kind].resolve().as_uri()]
    assert browser.run("document.documentElement.scrollWidth") <= width
    # nothing that people read is cut off by its own box either
    cut = browser.run(
        "[...document.querySelectorAll('main *')].filter(e => e.getClientRects().length && "
        "getComputedStyle(e).position !== 'absolute' && "
        "e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML.slice(0, 80))"
    )
    assert cut == []


@pytest.mark.parametrize("width", WIDTHS)
def test_slider_moves_figures_bars_and_charts_by_arrow_keys(browser, pages, width):
    browser.open(pages["full"], width)

    def seen() -> dict[str, object]:
        return {
            "figures": {
                key: text(browser, f'[data-figure="{key}"]')
                for key in ("saved", "memory", "params", "macs", "channels", "loss")
            },
            "counts": browser.run(
                "[...document.querySelectorAll('.count b')].map(e => e.textContent)"
            ),
            "bars": browser.run(
                "[...document.querySelectorAll('.kept')].map(e => e.getAttribute('d'))"
            ),
            "cursor": browser.run("document.querySelector('.cursor').getAttribute('x1')"),
        }

    start = seen()
    assert start["figures"]["saved"] == "22.4 %"
    browser.run("document.querySelector('#slider').focus()")
    browser.press("ArrowRight", 39, times=3)
    there = seen()
    at = next(i for i, s in enumerate(full().path) if s.this) + 3
    step = full().path[at]
    assert there["figures"]["saved"] == f"{100 * step.saved['memory']:.1f} %"
    assert there["counts"][: len(step.widths)] == [f"{w:,}" for w in _shown(step.widths)]
    for part in ("figures", "counts", "bars", "cursor"):
        assert there[part] != start[part], part
    for key, value in there["figures"].items():
        assert value != start["figures"][key], key
    browser.run("document.querySelector('#reset').click()")
    browser.settle()
    assert seen() == start
    assert browser.errors == []


def _shown(widths: tuple[int, ...]) -> list[int]:
    """In the order of the page: residual streams first."""
    rows = sorted(
        zip(full().groups, widths, strict=True), key=lambda r: r[0].role != "residual stream"
    )
    return [width for _, width in rows]


def test_bars_that_the_script_draws_are_as_python_would_draw_them(browser, pages):
    at = next(i for i, step in enumerate(full().path) if step.this) + 4
    widths = full().path[at].widths
    groups = tuple(
        replace(
            group,
            after=width,
            removed=tuple(
                c for c in range(group.before) if group.order
                and group.order[c] < (group.before - width) // group.cells
            ),
        )
        for group, width in zip(full().groups, widths, strict=True)
    )  # fmt: skip
    markup = render(replace(full(), groups=groups, path=()))
    expected = re.findall(r'class="kept" d="([^"]*)"', markup)
    browser.open(pages["full"], 1600)
    browser.run("document.querySelector('#slider').focus()")
    browser.press("ArrowRight", 39, times=4)
    assert expected == browser.run(
        "[...document.querySelectorAll('.kept')].map(e => e.getAttribute('d'))"
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_slider_stays_in_sight_over_the_whole_network(browser, pages, width):
    browser.open(pages["full"], width)
    browser.run(
        "[...document.querySelectorAll('.bar')].at(-1)"
        ".scrollIntoView({block: 'center', behavior: 'instant'})"
    )
    browser.settle()
    top = "document.querySelector('.control').getBoundingClientRect().top"
    assert browser.run(top) == 0
    assert browser.run(f"scrollY - {top} > 0")


def test_a_loss_that_was_not_measured_is_a_dash(browser, pages):
    browser.open(pages["full"], 1600)
    browser.run("document.querySelector('#slider').focus()")
    browser.press("End", 35)
    assert text(browser, '[data-figure="loss"]') == "–"
    assert browser.errors == []


def test_pointing_at_a_bar_and_focus_tell_the_numbers(browser, pages):
    browser.open(pages["full"], 1600)
    assert browser.run("document.querySelector('#tip').hidden")
    browser.hover('.group[data-group="4"] .bar')
    told = text(browser, "#tip")
    group = full().groups[4]
    assert told == (
        f"block.0.attn.q_conv (qk, 12 heads): {group.before} → {group.after} channels, 75.0 % kept"
    )
    browser.press("Escape", 27)
    assert browser.run("document.querySelector('#tip').hidden")
    browser.run("document.querySelector('.group[data-group=\"5\"] .bar').focus()")
    browser.settle()
    assert "block.0.attn.v_conv" in text(browser, "#tip")
    box = browser.run(
        "(b => [b.left, b.right])(document.querySelector('#tip').getBoundingClientRect())"
    )
    assert box[0] >= 0
    assert box[1] <= 1600


def test_sensitivity_is_read_by_mouse_and_by_keys_and_toggles(browser, pages):
    browser.open(pages["full"], 1600)
    browser.hover(".heat tbody tr:nth-child(2) td:nth-of-type(3)")
    assert text(browser, ".readout").startswith("patch_embed.proj_conv1: 30 % removed; KL 0.027")
    browser.run("document.querySelector('.heat td').focus({preventScroll: true})")
    browser.press("ArrowDown", 40)
    browser.press("ArrowRight", 39)
    assert "patch_embed.proj_conv1: 20 % removed" in text(browser, ".readout")
    assert "accuracy drop -0.0 points" in text(browser, ".readout")
    shade = "document.querySelector('.heat tbody td:last-child').style.getPropertyValue('--v')"
    cell = "getComputedStyle(document.querySelectorAll('.heat tbody td')[4]).backgroundColor"
    kl = browser.run(cell)
    assert browser.run(f"Number({shade})") > 0.6
    browser.run("document.querySelector('input[value=drop]').click()")
    browser.settle()
    assert browser.run(cell) != kl
    assert browser.run("!document.querySelector('[data-scale=drop]').hidden")
    assert browser.run("document.querySelector('[data-scale=kl]').hidden")


def test_frontier_has_a_point_a_trial_and_an_interval_each(browser, pages):
    browser.open(pages["full"], 400)
    chart = '[data-chart="frontier"]'
    count = "document.querySelectorAll('{} {}').length"
    assert browser.run(count.format(chart, "circle:not(.own)")) == len(full().trials)
    assert browser.run(count.format(chart, ".whiskers")) == len(full().trials) + 1
    assert browser.run(count.format(chart, "circle.own")) == 1
    inside = browser.run(
        f"[...document.querySelectorAll('{chart} circle')].every(c => {{"
        "const b = c.getBoundingClientRect(), s = c.ownerSVGElement.getBoundingClientRect();"
        "return b.top >= s.top && b.bottom <= s.bottom && b.left >= s.left"
        " && b.right <= s.right + 6; })"
    )
    assert inside


def test_theme_follows_the_system_until_the_button_is_pressed(browser, pages):
    paper = "getComputedStyle(document.body).backgroundColor"
    browser.open(pages["bare"], 1600)
    browser.run("localStorage.clear()")
    light = browser.run(paper)
    browser.open(pages["bare"], 1600, dark=True)
    dark = browser.run(paper)
    assert light != dark
    browser.run("document.querySelector('#theme').click()")
    assert browser.run(paper) == light
    assert text(browser, "#theme") == "Dark"
    browser.open(pages["bare"], 1600, dark=True)
    assert browser.run(paper) == light  # remembered
    browser.run("localStorage.clear()")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_its_background(browser, pages, dark):
    browser.open(pages["full"], 1600, dark=dark)
    weak = browser.run(
        """(() => {
          const canvas = document.createElement('canvas')
            .getContext('2d', {willReadFrequently: true});
          const parts = (colour) => {
            canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
            return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
          };
          const light = (colour) => parts(colour).map(c => c / 255)
            .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
            .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
          const behind = (e) => {
            for (; e; e = e.parentElement) {
              const colour = getComputedStyle(e).backgroundColor;
              if (!colour.endsWith(', 0)')) return colour;
            }
          };
          const found = new Set();
          for (const e of document.querySelectorAll('main *, nav *, header *, footer *')) {
            if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
            if (!e.getClientRects().length || e.closest('td span') || e.disabled) continue;
            const style = getComputedStyle(e);
            const [a, b] = [light(e.closest('svg') ? style.fill : style.color), light(behind(e))];
            const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            if (ratio < 4.5) found.add(`${e.tagName}.${e.className} ${ratio.toFixed(2)}`);
          }
          return [...found];
        })()"""
    )
    assert weak == []


def test_every_control_is_reached_by_tab_and_shows_it(browser, pages):
    browser.open(pages["full"], 1600)
    seen = []
    for _ in range(16):
        browser.press("Tab", 9)
        seen.append(
            browser.run(
                "(e => `${e.id || e.className || e.tagName}:"
                "${getComputedStyle(e).outlineStyle !== 'none' || e.type === 'range'}`)"
                "(document.activeElement)"
            )
        )
    names = [name.split(":")[0] for name in seen]
    assert names[0] == "skip"
    assert {"theme", "slider", "bar"} <= set(names)
    assert all(name.endswith(":true") for name in seen), seen


def test_controls_have_names(browser, pages):
    browser.open(pages["full"], 1600)
    nameless = browser.run(
        "[...document.querySelectorAll('button, input, [role=img], nav, summary')].filter(e => "
        "!(e.textContent.trim() || e.ariaLabel || (e.labels && e.labels.length))).length"
    )
    assert nameless == 0
    assert browser.run("document.querySelector('#slider').getAttribute('aria-valuetext')") == (
        "22.4 % of the memory saved, this model"
    )
