"""Plans of earlier results are the same plans again, or refused; settings of fine-tuning."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import psvit
from benchmarks.accuracy.cells import key_of, read
from benchmarks.accuracy.plans import earlier, plan_again, widths_of
from benchmarks.tuning import setting
from psvit.allocate.choose import choose
from psvit.errors import PlanError
from psvit.groups.choose import make_plan
from psvit.models import build

MODEL = build("spikformer-digits")
GRAPH = psvit.capture(MODEL.eval(), torch.rand(2, 1, 8, 8))
GROUPS = psvit.find_groups(GRAPH)
SCORES = psvit.saliency(GRAPH, GROUPS, "random", 3)
TIES = {group.tie: min(map(len, group.cells)) for group in GROUPS.prunable}


@settings(max_examples=25, deadline=None)
@given(st.fixed_dictionaries({tie: st.integers(0, most - 1) for tie, most in TIES.items()}))
def test_widths_and_a_ranking_give_the_plan_again(levels: dict[int, int]) -> None:
    plan = make_plan(GRAPH, GROUPS, choose(GROUPS, SCORES, levels))
    keep = json.loads(json.dumps(widths_of(GRAPH, GROUPS, plan)))
    assert plan_again(GRAPH, GROUPS, SCORES, keep) == plan


def test_another_ranking_gives_another_plan() -> None:
    plan = psvit.allocate(GRAPH, GROUPS, SCORES, {"memory": 0.4}, "uniform")
    other = psvit.saliency(GRAPH, GROUPS, "random", 4)
    assert plan_again(GRAPH, GROUPS, other, widths_of(GRAPH, GROUPS, plan)) != plan


def test_widths_that_no_plan_has_are_refused() -> None:
    plan = psvit.allocate(GRAPH, GROUPS, SCORES, {"memory": 0.4}, "uniform")
    keep = widths_of(GRAPH, GROUPS, plan)
    first = next(iter(keep))
    with pytest.raises(PlanError, match="do not fit"):
        plan_again(GRAPH, GROUPS, SCORES, {k: v for k, v in keep.items() if k != first})
    with pytest.raises(PlanError, match="no plan keeps"):
        plan_again(GRAPH, GROUPS, SCORES, keep | {first: "1/7"})


def _cell(recover: str, **changes: Any) -> dict[str, Any]:
    cell = {
        "model": "m",
        "method": "optimal",
        "saliency": "obs",
        "level": "50%",
        "keep": {"a": "1/2"},
    }
    return cell | {"recover": recover} | changes


def test_a_plan_serves_recoveries_that_it_was_searched_for(tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    cells = [_cell("obs"), _cell("auto", keep={"a": "2/2"}), _cell("bn", method="uniform")]
    table.write_text(json.dumps(cells))
    found = read(table)
    assert found.keys() == {key_of(cell) for cell in cells}

    def plan_for(recover: str, **changes: Any) -> str:
        cell = earlier(found.values(), _cell(recover, **changes))
        return "none" if cell is None else cell["recover"]

    assert plan_for("finetune5") == "auto"
    assert plan_for("lsq") == "obs"
    assert plan_for("auto", method="uniform") == "bn"
    assert plan_for("auto", level="40%") == "none"
    assert plan_for("auto", model="other") == "none"


def test_settings_of_fine_tuning_are_read_by_their_kind() -> None:
    assert [setting(text) for text in ("lr=3e-4", "batch=32", "norms=frozen")] == [
        ("lr", 3e-4),
        ("batch", 32),
        ("norms", "frozen"),
    ]
    for text in ("bf16=False", "features=a", "speed=3", "to_dict=1"):
        with pytest.raises(argparse.ArgumentTypeError, match="no number or word"):
            setting(text)
