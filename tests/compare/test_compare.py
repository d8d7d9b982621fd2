"""Laws of a comparison: budgets met, differences paired, and killed and resumed is the same."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import psvit
from psvit.compare import run as run_file
from psvit.compare import verdicts
from psvit.compare.cells import cell_from, cell_to, judged
from psvit.compare.files import comparison_from_json, comparison_to_json
from psvit.compare.frontier import trials_of
from psvit.compare.verdicts import Comparison, best_cells
from psvit.evaluate import paired_drop, right_images
from psvit.records import Figures
from tests.compare.small import compared, labelled
from tests.sensitivity.tiny import Tiny
from tests.zoo.case import float64

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole() -> Comparison:
    """An uninterrupted comparison of all methods."""
    return compared()


@pytest.fixture(scope="module")
def model() -> Tiny:
    """The model that is compared."""
    return labelled()


def untimed(text: str) -> str:
    """A comparison's JSON without its wall times."""
    return json.dumps({k: v for k, v in json.loads(text).items() if k != "seconds"}, indent=1)


def journals(folder: Path) -> dict[str, Path]:
    """Where a comparison keeps what is done."""
    return {"journal": folder / "j", "analysis_journal": folder / "a"}


def test_every_method_meets_every_budget_and_masks_keep_the_size(whole: Comparison) -> None:
    assert len(whole.cells) == 2 * 8
    for verdict in verdicts(whole):
        asked = verdict.cell.budget["memory"]
        if verdict.cell.method == "unstructured":
            assert verdict.saved["memory"] == 0
            assert verdict.cell.zeroed >= asked * whole.dense.figures.params
            assert verdict.cell.zeroed - 1 < asked * whole.dense.figures.params
        else:
            assert verdict.saved["memory"] >= asked
            assert verdict.cell.zeroed is None


def test_the_dense_model_is_the_model_and_it_is_not_touched(model: Tiny) -> None:
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    found = compared(model, recover="bn", methods=["uniform-l2", "unstructured"])
    assert found.dense.hits().tolist() == [True, True, True, True, False]
    with float64():
        assert torch.equal(found.dense.hits(), right_images(model.model, model.batches))
    for name, value in model.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_result_is_what_prune_gives(model: Tiny) -> None:
    found = compared(model, recover="bn", methods=["uniform-l2", "optimal"], save={"macs": [0.3]})
    for cell, options in zip(
        found.cells, ({"saliency": "l2"}, {"saliency": "l1", "method": "optimal"}), strict=True
    ):
        with float64():
            result = psvit.prune(
                model.model, model.batches[0][0][:2], {"macs": 0.3}, data=model.batches, n=5,
                recover="bn", **options,
            )  # fmt: skip
            assert cell.figures.params == result.after.params
            assert torch.equal(cell.hits(), right_images(result.model, model.batches))
            control = right_images(result.control, model.batches)
    assert torch.equal(found.control.hits(), control)


def test_without_labels_at_stake_masks_are_left_out_and_said_so(model: Tiny) -> None:
    found = compared(model, methods=["uniform-l1", "unstructured"], save={"macs": [0.3]})
    assert [cell.method for cell in found.cells] == ["uniform-l1"]
    assert found.left_out == (
        "unstructured: masks are compared at a share of memory or params, not of macs",
    )


def made(*rights: list[int], budget: float = 0.2) -> Comparison:
    """A comparison of results that are made up: dense first, masks last."""
    figures = Figures(1000, 250, 100)
    small = Figures(800, 200, 80)
    cells = [
        judged(f"m{i}", {"memory": budget}, small, torch.tensor(right).bool(), 1.0)
        for i, right in enumerate(rights[1:-1])
    ]
    masks = judged("unstructured", {"memory": budget}, figures, torch.tensor(rights[-1]).bool(),
                   1.0, 50)  # fmt: skip
    dense = judged("dense", {}, figures, torch.tensor(rights[0]).bool(), 0.0)
    return Comparison("f" * 16, {"recover": "none"}, dense, None, (*cells, masks))


RIGHT = st.lists(st.integers(0, 1), min_size=9, max_size=9)


@given(RIGHT, RIGHT, RIGHT, RIGHT)
def test_differences_are_paired_and_the_best_is_a_smaller_model(dense, one, two, masks) -> None:
    comparison = made(dense, one, two, masks)
    found = verdicts(comparison)
    for verdict, right in zip(found, (one, two, masks), strict=True):
        pair = paired_drop(torch.tensor(dense).bool(), torch.tensor(right).bool())
        assert (verdict.lost.drop, verdict.lost.low, verdict.lost.high) == pair
    best = max(sum(one), sum(two))
    (kept,) = best_cells(comparison).values()
    assert int(kept.hits().sum()) == best
    assert kept.zeroed is None
    assert [v.behind is None for v in found].count(True) == 1
    for verdict in found[:2]:
        assert verdict.behind is None or verdict.behind.drop >= 0
    assert [t.method for t in trials_of(comparison)] == ["m0", "m1"]


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_a_cell_reads_back_equal(right: list[bool]) -> None:
    cell = judged("m", {"memory": 0.1}, Figures(9, 8, 7), torch.tensor(right), 1.5, 3)
    assert cell.hits().tolist() == right
    again = cell_from(json.loads(json.dumps(cell_to(cell))))
    assert again == cell
    assert again.seconds == 1.5


def test_a_file_reads_back_equal_and_says_what_follows(whole: Comparison) -> None:
    text = comparison_to_json(whole)
    assert comparison_from_json(text) == whole
    assert comparison_to_json(comparison_from_json(text)) == text
    result = json.loads(text)["results"][1]
    assert set(result) > {"saved", "lost", "behind_best", "figures"}
    assert "seconds" not in result


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.__setitem__("psvit_compare", 9), "has version 9"),
        (lambda data: data.pop("dense"), "is not a comparison (KeyError"),
        (lambda data: data["results"][0].pop("right"), "is not a comparison (KeyError"),
        (lambda data: data["results"].pop(), "is not a comparison (ValueError"),
        (lambda data: data["dense"].__setitem__("right", "ffff"), "of another number"),
        (lambda data: data["dense"].__setitem__("right", "f8"), "the accuracy is not that of"),
    ],
)
def test_a_file_that_was_edited(whole: Comparison, change, words: str) -> None:
    data = json.loads(comparison_to_json(whole))
    change(data)
    with pytest.raises(psvit.PlanError) as caught:
        comparison_from_json(json.dumps(data))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("results", [pytest.param(0, marks=pytest.mark.thorough), 7])
def test_killed_and_resumed_equals_uninterrupted_byte_for_byte(
    tmp_path: Path, monkeypatch, whole: Comparison, results: int
) -> None:
    where = journals(tmp_path)
    command = [sys.executable, "-m", "tests.compare.killed", *map(str, where.values()),
               str(results)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run(command, cwd=ROOT, env=environment, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL
    done = len(where["journal"].read_bytes().splitlines()) - 2  # the header, the dense model
    assert done == results
    made_again = []
    pruned = run_file.pruned
    monkeypatch.setattr(run_file, "pruned", lambda *a: made_again.append(a) or pruned(*a))
    again = compared(**where)
    assert untimed(comparison_to_json(again)) == untimed(comparison_to_json(whole))
    assert len(made_again) == len(whole.cells) - done
    assert again.analysis_s is None  # it was cut short, or there was none
    assert whole.analysis_s > 0


def test_what_is_done_serves_other_methods_and_levels_too(tmp_path: Path, monkeypatch) -> None:
    where = journals(tmp_path)
    compared(methods=["uniform-l1"], save={"memory": [0.2]}, **where)
    made_again = []
    pruned = run_file.pruned
    monkeypatch.setattr(
        run_file, "pruned", lambda *a: made_again.append((a[2].name, dict(a[3]))) or pruned(*a)
    )
    compared(methods=["uniform-l1", "random"], **where)
    assert made_again == [
        ("random", {"memory": 0.2}), ("uniform-l1", {"memory": 0.45}), ("random", {"memory": 0.45}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": 1}, "its seed is 0, now 1"),
        ({"recover": "bn"}, 'its recover is "none", now "bn"'),
        ({"saliency": "l2"}, 'its saliency is "l1", now "l2"'),
        ({"align": 2}, "its align is 1, now 2"),
    ],
)
def test_a_journal_of_another_comparison(tmp_path: Path, options: dict, words: str) -> None:
    where = journals(tmp_path)
    one = {"methods": ["uniform-l1"], "save": {"memory": [0.2]}}
    compared(**one, **where)
    before = where["journal"].read_bytes()
    with pytest.raises(psvit.PlanError) as caught:
        compared(**one, **options, **where)
    assert f"is the journal of another comparison: {words}" in str(caught.value)
    assert where["journal"].read_bytes() == before


def test_a_journal_of_other_images(tmp_path: Path, model: Tiny) -> None:
    where = {**journals(tmp_path), "methods": ["uniform-l1"], "save": {"memory": [0.2]}}
    compared(model, **where)
    changed = [(x + 0.1, y) for x, y in model.batches]
    with pytest.raises(psvit.PlanError, match="the training images or labels differ"):
        compared(model, data=changed, **where)
    with pytest.raises(psvit.PlanError, match="the evaluation images or labels differ"):
        compared(model, eval=changed, **where)


def test_a_disk_that_fills_up_loses_nothing(tmp_path: Path) -> None:
    where, names = journals(tmp_path), ["uniform-l1", "random", "uniform-l2", "unstructured"]
    expected = comparison_to_json(compared(methods=names, **where))
    lines = where["journal"].read_bytes().splitlines(keepends=True)
    where["journal"].unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        # the third result is cut short
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(b"".join(lines[:4])) + 20, hard))
        with pytest.raises(psvit.OutputError, match=r"cannot write .* 3 results are kept"):
            compared(methods=names, **where)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    again = compared(methods=names, **where)
    assert untimed(comparison_to_json(again)) == untimed(expected)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"save": {"memory": [0.2, 0.99]}}, psvit.BudgetError, "cannot save 99.00% of memory"),
        ({"recover": "magic"}, psvit.OptionError, "no recovery is called 'magic'"),
        ({"recover": "finetune"}, psvit.OptionError, "a comparison does not train"),
        ({"saliency": "l3"}, psvit.OptionError, "no saliency is called 'l3'"),
        ({"n": 6}, psvit.DataError, "is to use 6 images, the data has 5"),
        ({"data": [1]}, psvit.DataError, "yields a int: expected"),
        ({"eval": []}, psvit.DataError, "no images: nothing to measure accuracy on"),
        ({"eval": [torch.zeros(2, 1, 8, 8)]}, psvit.DataError, "expected \\(images, labels\\)"),
    ],
)
def test_input_that_cannot_be_used(model: Tiny, options: dict, error, words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        compared(model, **options)
    assert "\n" not in str(caught.value)


def test_cells_of_other_images_are_not_equal() -> None:
    right = torch.tensor([True, False])
    one = judged("m", {}, Figures(1, 1, 1), right, 1.0)
    assert one != judged("m", {}, Figures(1, 1, 1), ~right, 1.0)
    assert one == judged("m", {}, Figures(1, 1, 1), right, 2.0)  # time is no part of the result
