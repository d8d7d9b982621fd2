"""The page as text: what it shows, what it leaves out, and that nothing in it can break it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from psvit.records import Figures
from psvit.report.data import BudgetStep, GroupRow, ReportData
from psvit.report.network import block_of, spacing
from psvit.report.page import render
from psvit.report.predict import predicted_loss
from tests.report.sample import AFTER, BEFORE, curves, full, rows

VOID = {"meta", "link", "input", "br"}


class Outline(HTMLParser):
    """Checks that tags close in order, and collects sections and words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.ids: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        found = dict(attrs)
        self.attributes += [(tag, key, value) for key, value in attrs]
        if "id" in found:
            self.ids.append(str(found["id"]))
        if tag == "section":
            self.sections.append(str(found["id"]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, key, value) for key, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def script_data(page: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found[1])


def test_every_section_where_there_are_data():
    outline = Outline(render(full()))
    assert outline.sections == [
        "result", "recovery", "budget", "network", "sensitivity", "rates", "locked", "load",
        "reproduce",
    ]  # fmt: skip
    assert len(set(outline.ids)) == len(outline.ids)


def test_only_the_result_where_there_is_nothing_else():
    data = ReportData(before=Figures(1000, 250, 10), after=Figures(800, 200, 8))
    page = render(data)
    assert Outline(page).sections == ["result"]
    assert "Accuracy was not measured" in page
    assert "−20.0 %" in page


@pytest.mark.parametrize(
    ("lost", "section"),
    [
        ({"groups": (), "path": ()}, "network"),
        ({"curves": None}, "sensitivity"),
        ({"rates": ()}, "rates"),
        ({"recovery": {}}, "recovery"),
        ({"recovery": {"images": 9, "steps": [], "notes": []}}, "recovery"),
        ({"load": ""}, "load"),
        ({"command": "", "facts": ()}, "reproduce"),
        ({"path": (), "trials": ()}, "budget"),
    ],
)
def test_a_section_goes_with_its_data(lost, section):
    assert section not in Outline(render(replace(full(), **lost))).sections


def test_recovery_says_what_each_step_gained_beside_the_control():
    page = render(full())
    part = page[page.index('<section id="recovery">') :]
    part = part[: part.index("</section>")]
    for text in (
        '<th scope="row">obs, then bn</th><td>0.1200</td><td>0.0140</td><td>yes</td><td>20.4</td>',
        '<th scope="row">lsq</th><td>0.0140</td><td>0.0190</td><td>no</td>',
        "On 768 training images",
        "on 256 others",
        "The unpruned model has 95.5 % accuracy after the same recovery",
        "more images would help &lt;here&gt;",
    ):
        assert text in part, text


def test_headline_says_before_after_and_change_with_units():
    page = render(full())
    for text in (
        "95.4 %", "94.7 %", "95.0–95.8 %", "94.2–95.1 %", "−0.7 points", "10,000 images",
        "16.6 MB", "12.9 MB", "−22.4 %", "2.40 G", "1.84 G", "402 M", "311 M", "362 µJ", "280 µJ",
        "91.6 ms", "74.2 ms", "−19.0 %",
    ):  # fmt: skip
        assert text in page, text


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (0.9544, "leaves the accuracy as it was"), (0.9444, "costs 1.0 point of accuracy"),
        (0.9564, "gains 0.2 points of accuracy"),
    ],
)  # fmt: skip
def test_the_sentence_says_what_it_cost(after, words):
    assert words in render(ReportData(BEFORE, replace(AFTER, accuracy=after)))


def test_text_of_users_cannot_become_markup():
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{body}}"
    data = full()
    group = replace(data.groups[0], name=evil, role=evil, locked=evil)
    curve = replace(data.curves, names={**data.curves.names, 0: evil})
    page = render(
        replace(
            data, title=evil, groups=(group, *data.groups[1:]), curves=curve, load=evil,
            command=evil, facts=((evil, evil),), trials=(replace(data.trials[0], method=evil),),
            rates=(replace(data.rates[0], name=evil),),
        )
    )  # fmt: skip
    outline = Outline(page)
    assert page.count("<script") == 2
    assert not [a for a in outline.attributes if a[1].startswith("on")]
    assert "<img" not in page
    assert evil in [group["name"] for group in script_data(page)["groups"]]


def test_nothing_is_asked_of_the_network():
    page = render(full())
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page)
    assert not re.search(r"@import|url\(", page)
    # the only address is the name of a vocabulary
    assert set(re.findall(r"https?://[^\"'\s<]+", page)) <= {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page


def test_all_holes_of_the_template_are_filled():
    assert not re.search(r"\{\{\w+\}\}", render(full()))


@pytest.mark.parametrize(("count", "one_by_one"), [(23, True), (60, False)])
def test_a_large_model_stays_small_enough(count, one_by_one):
    half = tuple(range(0, 1024, 2))
    groups = tuple(
        GroupRow(f"block.{i}.fc", "hidden", 1024, 512, removed=half, order=tuple(range(1024)))
        for i in range(count)
    )
    step = {"memory": 0.5, "params": 0.5, "macs": 0.5}
    path = tuple(BudgetStep(step, (512,) * count, 0.1, i == 3) for i in range(41))
    page = render(replace(full(), groups=groups, path=path))
    assert len(page.encode()) < 300_000
    assert ("M0 .5m1 0h1m1 0h1" in page) == one_by_one


@pytest.mark.parametrize("method", ["uniform", "optimal"])
def test_a_plan_of_another_method_lies_beside_the_curve_of_uniform_plans(method):
    chart = script_data(render(replace(full(), method=method)))["charts"]["predicted"]
    known = [step for step in full().path if step.loss is not None]
    apart = method != "uniform"
    assert len(chart["series"][0]["points"]) == len(known) - apart
    assert (chart["own"] is not None) == apart
    if apart:
        assert chart["own"]["y"] == pytest.approx(0.61)
        assert chart["own"]["tip"] == "0.6 points predicted at 22.4 % saved"


def test_same_data_same_page():
    assert render(full()) == render(full())


def test_the_slider_starts_at_this_model_and_its_figures_are_right():
    page = render(full())
    at = next(i for i, step in enumerate(full().path) if step.this)
    assert f'value="{at}" data-this="{at}"' in page
    texts = script_data(page)["steps"][at]["texts"]
    assert texts["saved"] == "22.4 %"
    assert texts["memory"] == "12.9 MB"
    kept, whole = sum(g.after for g in rows()), sum(g.before for g in rows())
    assert texts["channels"] == f"{kept:,} of {whole:,}"


def test_bars_show_which_channels_stay_and_gaps_divide_heads():
    group = GroupRow(
        "b.0.q", "qk", 8, 6, cells=2, heads=2, removed=(1, 6), order=(1, 0, 2, 3, 1, 2, 0, 3)
    )
    assert spacing(group) == (4, 1)
    page = render(replace(full(), groups=(group,), path=()))
    # one head is 0..3, a gap, the other 5..8; channel 1 and channel 6 are gone
    assert 'viewBox="0 0 9 1"' in page
    assert 'class="kept" d="M0 .5h1m1 0h2m1 0h2m1 0h1"' in page


@pytest.mark.parametrize(
    ("name", "role", "block"),
    [
        ("blocks.0.mlp.fc1", "hidden", "blocks.0"), ("head", "hidden", "head"),
        ("stem.conv", "hidden", "stem"), ("patch.stages.2.0.conv", "hidden", "patch.stages.2"),
        ("blocks.0.attn.proj (+5)", "residual stream", "residual stream"),
    ],
)  # fmt: skip
def test_groups_are_gathered_by_block(name, role, block):
    assert block_of(GroupRow(name, role, 8, 8)) == block


def test_a_prediction_adds_ties_runs_straight_and_stops_where_nothing_was_measured():
    found = curves()
    at = {(p.tie, p.removed): p.accuracy_drop for p in found.points}
    assert predicted_loss(found, {0: 10, 1: 10}) == pytest.approx(at[0, 10] + at[1, 10])
    assert predicted_loss(found, {0: 11}) == pytest.approx((at[0, 10] * 2 + at[0, 13]) / 3)
    assert predicted_loss(found, {0: 0, 1: 0}) == 0
    assert predicted_loss(found, {0: 27}) is None
    assert predicted_loss(found, {999: 1}) is None
    poor = replace(found, dense=replace(found.dense, accuracy=0.01))
    assert predicted_loss(poor, {0: 26}) is None  # no more can be lost than there is
    assert predicted_loss(poor, {0: 3}) == predicted_loss(found, {0: 3})


def test_a_prediction_without_labels_is_in_nats():
    found = curves()
    blind = replace(found, points=tuple(replace(p, accuracy_drop=None) for p in found.points))
    kl = {(p.tie, p.removed): p.kl for p in found.points}
    assert predicted_loss(blind, {2: 16}) == pytest.approx(kl[2, 16])
    page = render(replace(full(), curves=blind, loss_unit="nats"))
    assert "accuracy drop" not in page
    assert "KL divergence" in page
