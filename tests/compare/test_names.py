"""Rows and levels: what names mean, and what is refused in one line."""

from __future__ import annotations

import pytest

from psvit.allocate import METHODS
from psvit.compare.levels import budget_text, read_levels
from psvit.compare.rows import DEFAULT, Row, read_rows
from psvit.errors import OptionError
from psvit.saliency import FROM_DATA, SALIENCY


def test_every_saliency_and_every_guided_method_is_a_row() -> None:
    names = [f"uniform-{name}" for name in (*SALIENCY, *FROM_DATA)]
    rows = read_rows(names)
    assert [(row.method, row.saliency) for row in rows] == [
        ("uniform", name) for name in (*SALIENCY, *FROM_DATA)
    ]
    guided = [name for name in METHODS if name != "uniform"]
    assert [row.guided for row in read_rows(guided)] == [True] * 3


def test_without_names_all_of_the_default_that_there_are() -> None:
    rows = read_rows()
    assert [row.name for row in rows] == list(DEFAULT)
    assert rows[0] == Row("random", "uniform", "random")
    assert rows[-1] == Row("unstructured", None)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["best"], "no method is called 'best', expected one of random, uniform-l1"),
        (["uniform"], "no method is called 'uniform'"),
        (["uniform-l3"], "uniform-NAME with NAME one of l1"),
        (["uniform-psvit"], "no method is called 'uniform-psvit'"),
        (["l1"], "no method is called 'l1'"),
        ([""], "no method is called ''"),
        (["psvit", "psvit"], "'psvit' is given twice"),
        ([], "no method is named"),
    ],
)
def test_names_that_mean_nothing(names: list[str], words: str) -> None:
    with pytest.raises(OptionError) as caught:
        read_rows(names)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_levels_of_several_units_go_together() -> None:
    budgets = read_levels({"memory": [0.1, "224kB"], "macs": [0.2, 0.3]})
    assert budgets == ({"memory": 0.1, "macs": 0.2}, {"memory": "224kB", "macs": 0.3})
    assert budget_text(budgets[0]) == "memory 10% and macs 20%"
    assert budget_text(budgets[1]) == "memory 224kB and macs 30%"


@pytest.mark.parametrize(
    ("save", "words"),
    [
        ({}, "no budget was given"),
        ({"memory": []}, "no budget was given"),
        ({"memory": [0.1, 0.2], "macs": [0.1]}, "2 of memory, 1 of macs"),
        ({"memory": [0.1, 0.1]}, "the level memory 10% is given twice"),
        ({"memory": [0.1, 1.0]}, "above 0 and below 1"),
        ({"memory": [0.1, 22.4]}, "for 22.4 % give 0.224"),
        ({"speed": [0.1]}, "a budget cannot be in 'speed'"),
    ],
)
def test_levels_that_mean_nothing(save: dict, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        read_levels(save)
    assert words in str(caught.value)
