"""The page and the picture of a comparison, in a real browser and as XML."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from psvit.compare import Comparison
from psvit.compare.page import charts_of, page, picture
from tests.compare.small import compared
from tests.report.browser import CHROMIUM, Browser


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """All methods, recovered, so that there is a control."""
    return compared(recover="bn")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_no_error_no_request_no_overflow_and_a_point_for_each_result(
    comparison: Comparison, tmp_path: Path
) -> None:
    file = tmp_path / "compare.html"
    file.write_text(page(comparison), encoding="utf-8")
    browser = Browser(tmp_path / "profile")
    try:
        for width in (400, 1600):
            for dark in (False, True):
                browser.open(file, width, dark=dark)
                assert browser.errors == []
                assert browser.requests == [file.resolve().as_uri()]
                assert browser.run("document.documentElement.scrollWidth") <= width
                for name, chart in charts_of(comparison).items():
                    count = f"document.querySelectorAll('[data-chart={name}] circle').length"
                    assert browser.run(count) == 2 * len(chart["series"])
        inside = browser.run(
            "[...document.querySelectorAll('.chart circle')].every(c => {"
            "const b = c.getBoundingClientRect(), s = c.ownerSVGElement.getBoundingClientRect();"
            "return b.left >= s.left && b.right <= s.right + 12; })"
        )
        assert inside
    finally:
        browser.close()


def test_the_picture_is_xml_with_a_point_and_an_interval_for_each_result(
    comparison: Comparison,
) -> None:
    root = ElementTree.fromstring(picture(comparison))
    marks = [e.get("class") for e in root.iter()]
    assert marks.count("fill") == len(comparison.cells)
    assert marks.count("whisker stroke") == len(comparison.cells)
    assert "http" not in picture(comparison).replace("http://www.w3.org/2000/svg", "")
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for circle in root.iter("{http://www.w3.org/2000/svg}circle"):
        assert 0 <= float(circle.get("cx", -1)) <= width
        assert 0 <= float(circle.get("cy", -1)) <= height


def test_names_of_users_cannot_become_markup() -> None:
    comparison = compared(methods=["random"], settings={"model": "<script>x</script>"})
    assert "<script>x" not in page(comparison)
