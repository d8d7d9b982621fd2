"""A budget in latency: what the table predicts, where it is kept, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import psvit
from psvit import latency as latency_file
from psvit.cost import LatencyTable, prepare
from psvit.cost.latency import fit_line, list_nodes, make_latency
from psvit.errors import BudgetError, OptionError
from psvit.groups import make_plan
from psvit.latency import check_latency, describe_machine, read_table, table_path, with_latency
from psvit.places import cache_folder


class Wide(nn.Module):
    """Wide enough that a layer's time is its own."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(64, width), nn.Linear(width, width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.two(torch.relu(self.one(x)))))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSVIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def case() -> tuple:
    torch.manual_seed(0)
    model = Wide()
    graph = psvit.capture(model, torch.rand(4, 64))
    return model, graph, psvit.find_groups(graph)


def made_up(case: tuple, ms) -> tuple:
    """A meter with a table of made-up times: ``ms(kind, share)``; models are sums of layers."""
    _, graph, groups = case
    meter = prepare(graph, groups)
    nodes = list_nodes(graph, meter.operations)
    shares = np.linspace(0, 1, 101)
    curves = {n.kind: [(float(s), ms(n.kind, float(s))) for s in shares] for n in nodes}
    whole = sum(ms(n.kind, 1.0) for n in nodes)
    table = LatencyTable(curves, [(whole, whole)], describe_machine(torch.device("cpu"), graph), 1)
    fields = groups.labels.fields["eval"]
    return replace(meter, latency=make_latency(table, nodes, graph, fields)), nodes


def removal_of(groups, share: float) -> dict[int, list[int]]:
    return {g.id: list(range(int(share * g.size))) for g in groups.prunable}


def test_times_in_proportion_to_work_add_up_to_the_macs_that_are_left(case) -> None:
    _, _, groups = case
    macs = {"Linear(in_features=64": 64 * 256, "Linear(in_features=256": 256 * 256}

    def ms(kind: str, share: float) -> float:
        found = [m for name, m in macs.items() if kind.startswith(name)]
        return share * (2560 if "out_features=10" in kind else found[0] if found else 0)

    meter, nodes = made_up(case, ms)
    assert len(nodes) == 5
    for share in (0.0, 0.25, 0.5):
        figures = meter.measure(removal_of(groups, share))
        assert figures.latency_ms == pytest.approx(figures.macs)


def test_steps_between_widths_are_followed(case) -> None:
    _, _, groups = case
    meter, _ = made_up(case, lambda kind, share: float(share > 0.5) + 1.0)
    whole, half, less = (meter.measure(removal_of(groups, s)).latency_ms for s in (0.0, 0.48, 0.75))
    assert whole > less
    assert half < whole  # the product of two widths is below a half
    assert less == pytest.approx(5.0)


def test_less_work_never_counts_as_slower(case) -> None:
    _, _, groups = case
    meter, _ = made_up(case, lambda kind, share: 2.0 - share)
    figures = [meter.measure(removal_of(groups, s)).latency_ms for s in (0.1, 0.3, 0.9)]
    assert figures[0] == pytest.approx(figures[1]) == pytest.approx(figures[2])


def test_the_line_from_sums_to_forwards_by_hand() -> None:
    assert fit_line([(1.0, 3.0), (2.0, 5.0), (4.0, 9.0)]) == (
        pytest.approx(1.0), pytest.approx(2.0),
    )  # fmt: skip
    assert fit_line([(2.0, 3.0)]) == (0.0, pytest.approx(1.5))
    constant, slope = fit_line([(1.0, 1.0), (2.0, 3.0)])  # a constant below 0 is noise
    assert constant == 0
    assert 1 < slope < 1.5


def test_a_budget_in_latency_is_met_as_predicted(case) -> None:
    _, graph, groups = case
    meter, _ = made_up(case, lambda kind, share: share)
    scores = psvit.saliency(graph, groups)
    whole = meter.measure({}).latency_ms
    for budget, least in ((0.3, 0.3 * whole), ("2ms", 2.0)):
        plan = psvit.allocate(graph, groups, scores, {"latency": budget}, meter=meter)
        left = meter.measure(psvit.groups.removal_of(graph, plan)).latency_ms
        assert whole - left >= least - 1e-9
        assert whole - left < least + 0.2


def test_a_budget_out_of_reach_says_what_can_be_reached(case) -> None:
    _, graph, groups = case
    meter, _ = made_up(case, lambda kind, share: 1.0 + 0.1 * share)
    scores = psvit.saliency(graph, groups)
    with pytest.raises(BudgetError, match=r"cannot save 50.00% of latency: at most 9\.\d+% is"):
        psvit.allocate(graph, groups, scores, {"latency": 0.5}, meter=meter)
    with pytest.raises(BudgetError, match=r"of 5.5 ms\)"):
        psvit.allocate(graph, groups, scores, {"latency": 0.5}, meter=meter)
    with pytest.raises(BudgetError, match=r"cannot save 1s of latency: the whole model has 5.5"):
        psvit.allocate(graph, groups, scores, {"latency": "1s"}, meter=meter)


def test_without_times_it_says_what_is_missing(case) -> None:
    _, graph, groups = case
    with pytest.raises(OptionError, match="needs times measured on this machine"):
        psvit.allocate(graph, groups, psvit.saliency(graph, groups), {"latency": 0.5})


# The table of this machine


def test_it_is_measured_once_and_then_read(case, monkeypatch: pytest.MonkeyPatch) -> None:
    _, graph, groups = case
    meter, said = prepare(graph, groups), []
    first = with_latency(meter, graph, groups, say=said.append)
    assert len(said) == 1
    monkeypatch.setattr(latency_file, "measure_table", lambda *a: pytest.fail("measured again"))
    again = with_latency(meter, graph, groups, say=said.append)
    assert len(said) == 1
    half, pace = removal_of(groups, 0.5), again.latency.pace
    for removal in ({}, half):
        now, then = (one.measure(removal).latency_ms for one in (again, first))
        assert now == pytest.approx(pace * then)
    assert first.latency.pace == 1
    assert first.measure(half).latency_ms > 0
    names = [p.name for p in (cache_folder() / "latency").iterdir()]
    assert [name.endswith(".json") for name in names] == [True]  # nothing half-written


def test_a_table_is_taken_at_the_pace_of_now(case, monkeypatch: pytest.MonkeyPatch) -> None:
    _, graph, groups = case
    meter, half = prepare(graph, groups), removal_of(groups, 0.5)
    then = with_latency(meter, graph, groups)
    dense = then.measure({}).latency_ms
    monkeypatch.setattr(latency_file, "_dense_ms", lambda *a: 3 * dense)
    now = with_latency(meter, graph, groups)
    assert now.measure({}).latency_ms == pytest.approx(3 * dense)
    assert now.measure(half).latency_ms == pytest.approx(3 * then.measure(half).latency_ms)


@pytest.mark.parametrize(("align", "odd"), [(1, True), (8, False)])
def test_widths_are_tried_that_a_plan_may_have(case, align: int, odd: bool) -> None:
    _, graph, groups = case
    x, cpu = torch.rand(1, 64), torch.device("cpu")
    with torch.no_grad():
        dense, *tried = latency_file._candidates(graph, groups, x, cpu, align)
    assert dense.removal == {}
    widths = {256 - len(gone) for one in tried for gone in one.removal.values()}
    assert len(widths) >= 5
    assert all(width % 2 == 1 if odd else width % 8 == 0 for width in widths)


@pytest.mark.parametrize("damage", ["other machine", "other version", "torn", "no numbers"])
def test_a_table_of_another_machine_or_a_damaged_one_is_measured_again(
    case, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    _, graph, groups = case
    meter = prepare(graph, groups)
    machine = describe_machine(torch.device("cpu"), graph)
    nodes = list_nodes(graph, meter.operations)
    path = table_path(machine, nodes, 1)
    curves = {node.kind: [[0.5, 1.0], [1.0, 2.0]] for node in nodes}
    data = {
        "psvit_latency": latency_file.VERSION, "machine": machine, "batch": 1,
        "models": [[1, 1]], "curves": curves,
    }  # fmt: skip
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(data))
    assert read_table(path, machine) is not None
    if damage == "other machine":
        data["machine"] = {**machine, "name": "another"}
    elif damage == "other version":
        data["psvit_latency"] = 99
    elif damage == "no numbers":
        data["models"] = [["fast", "slow"]]
    text = json.dumps(data)
    path.write_text(text[: len(text) // 2] if damage == "torn" else text)
    assert read_table(path, machine) is None
    measured = []
    measure = latency_file.measure_table
    monkeypatch.setattr(
        latency_file, "measure_table", lambda *a: (measured.append(1), measure(*a))[1]
    )
    with_latency(meter, graph, groups)
    assert measured == [1]
    assert read_table(path, machine) is not None


def test_other_threads_devices_and_layers_have_other_tables(case) -> None:
    _, graph, groups = case
    machine = describe_machine(torch.device("cpu"), graph)
    nodes = list_nodes(graph, prepare(graph, groups).operations)
    other = psvit.capture(Wide(128), torch.rand(4, 64))
    others = list_nodes(other, prepare(other, psvit.find_groups(other)).operations)
    paths = {
        table_path(machine, nodes, 1), table_path(machine, nodes, 8),
        table_path(machine, nodes, 1, 8),
        table_path({**machine, "threads": 99}, nodes, 1),
        table_path({**machine, "torch": "1.0"}, nodes, 1), table_path(machine, others, 1),
    }  # fmt: skip
    assert len(paths) == 6


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(
    case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, graph, groups = case
    (tmp_path / "file").touch()
    monkeypatch.setenv("PSVIT_CACHE", str(tmp_path / "file"))
    assert with_latency(prepare(graph, groups), graph, groups).latency is not None


def test_pruning_by_latency_reports_what_was_predicted_and_measured() -> None:
    result = psvit.prune(Wide(1536), torch.rand(4, 64), {"latency": 0.05})
    check = result.measured["latency_check"]
    assert check["predicted_ms"] == result.after.latency_ms
    assert check["saved_predicted"] >= 0.05 - 1e-9
    assert check["measured_ms"] > 0
    assert check["error"] == pytest.approx(check["predicted_ms"] / check["measured_ms"] - 1)
    assert check["machine"]["threads"] == torch.get_num_threads()


def test_a_prediction_is_checked_against_the_models_themselves(case) -> None:
    model, graph, groups = case
    meter = with_latency(prepare(graph, groups), graph, groups)
    removal = removal_of(groups, 0.5)
    small = psvit.rewrite(graph, make_plan(graph, groups, removal))
    check = check_latency(
        meter.latency, meter.measure({}), meter.measure(removal), model, small, "cpu"
    )
    assert check["dense_measured_ms"] > 0
    assert check["medians_ms"][0] >= check["dense_measured_ms"]
