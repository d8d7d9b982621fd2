"""The parts: which trials there are, from where a forward can go on, what is zeroed, summaries."""

from __future__ import annotations

import io

import pytest
import torch
from rich.console import Console
from torch import fx

import psvit
from psvit.capture import prefix, program
from psvit.records import Curves, Figures, Point
from psvit.rewrite import zeroed, zeroing
from psvit.sensitivity import blocks, tables, trials
from tests.laws.support import ready
from tests.sensitivity.tiny import Steps, Tiny, Writes, tiny


def counts(spiking: Tiny, *grid: float) -> list[tuple[float, int]]:
    """(ratio, removed) of the first tie, whose cell has 8 channels."""
    scores = psvit.saliency(spiking.graph, spiking.groups)
    found = trials.list_trials(spiking.graph, spiking.groups, scores, trials.check_grid(grid))
    return [(t.ratio, t.removed) for t in found.items if t.tie == found.items[0].tie]


def test_ratios_are_rounded_to_whole_channels(spiking: Tiny) -> None:
    assert counts(spiking, 0.5, 0.25, 0.3) == [(0.25, 2), (0.5, 4)]
    assert counts(spiking, 0.01) == [(0.01, 1)]
    assert counts(spiking, 0.99) == [(0.99, 7)]
    assert counts(spiking, 0.3125) == [(0.3125, 3)]


def test_ratios_of_one_count_are_one_trial_under_the_nearest(spiking: Tiny) -> None:
    assert counts(spiking, 0.2, 0.26, 0.3) == [(0.26, 2)]
    assert counts(spiking, 0.5, 0.5) == [(0.5, 4)]


def test_lowest_scores_of_each_cell_go_and_ties_go_together() -> None:
    of_zoo = ready("spikformer_t4")
    scores = psvit.saliency(of_zoo.graph, of_zoo.groups)
    found = trials.list_trials(of_zoo.graph, of_zoo.groups, scores, (0.25,))
    several = 0
    for trial in found.items:
        members = [g for g in of_zoo.groups if g.tie == trial.tie]
        several += len(members) > 1
        assert set(trial.removal) == {g.id for g in members}
        for group in members:
            gone = set(trial.removal[group.id])
            for cell in group.cells:
                inside = sorted(float(scores[group.id][c]) for c in cell if c in gone)
                outside = sorted(float(scores[group.id][c]) for c in cell if c not in gone)
                assert len(inside) == trial.removed
                assert inside[-1] <= outside[0]
    assert len(set(found.names.values())) == len(found.names)


def test_counts_that_cannot_be_cut_are_left_out_and_said(
    spiking: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = trials.make_plan

    def refuse(graph, groups, removal):
        if any(len(gone) == 4 for gone in removal.values()):
            raise psvit.PlanError("no such view")
        return make(graph, groups, removal)

    monkeypatch.setattr(trials, "make_plan", refuse)
    curves = spiking.analyse()
    assert {p.removed for p in curves.points} == {2}
    assert curves.settings["left_out"] == [
        "blocks.0.0 at 0.5: no such view", "blocks.1.0 at 0.5: no such view"
    ]  # fmt: skip


# Programs


def prepared(case: Tiny) -> program.Program:
    x = case.batches[0][0]
    with torch.no_grad():
        return program.prepare_program(case.graph.module, case.graph.forwards["eval"], (x,))


def test_a_neuron_that_is_called_step_by_step_is_entered_at_its_first_step() -> None:
    found = prepared(tiny(Steps))
    names = [str(node.target) for node in found.nodes]
    calls = [i for i, name in enumerate(names) if name == "blocks.0.2"]
    assert len(calls) == 4
    assert program.safe_start(found, calls[0]) == calls[0]
    assert program.safe_start(found, names.index("blocks.1.0")) == calls[0]
    assert program.safe_start(found, calls[-1]) == calls[0]
    after = names.index("blocks.1.2", calls[-1]) + 1  # the last call of the last neuron
    assert program.safe_start(found, after) == after


def test_writing_into_live_values_is_seen() -> None:
    found = prepared(tiny(Writes))
    names = [str(n.target) for n in found.nodes]
    writing = [program.writes_into_live(found, i) for i in range(len(names))]
    assert writing[names.index("second")]
    assert writing[names.index("third")]
    assert not writing[names.index("head")]
    assert len(found.scratch) == 1


def test_nothing_is_copied_where_nothing_is_written(spiking: Tiny) -> None:
    found = prepared(spiking)
    assert not any(program.writes_into_live(found, i) for i in range(len(found.nodes)))
    assert not found.scratch


def test_copies_share_memory_as_the_originals_do() -> None:
    graph = fx.Graph()
    a, b, c = (graph.placeholder(n) for n in "abc")
    base = torch.arange(6.0).reshape(2, 3)
    copy = prefix.copied({a: base, b: (base.t()[1:], 3), c: [torch.ones(1)]})
    copy[a][0, 1] = 9.0
    assert copy[b][0][0, 0] == 9.0
    assert copy[b][0].stride() == base.t()[1:].stride()
    assert base[0, 1] == 1.0


def test_a_changed_tensor_that_nothing_reads_changes_only_the_output(spiking: Tiny) -> None:
    found = prepared(spiking)
    assert program.first_reader(found, [torch.zeros(3)]) == len(found.nodes) - 1
    weight = spiking.graph.module.blocks[1][0].weight
    position = program.first_reader(found, [weight.data])
    assert str(found.nodes[position].target) == "blocks.1.0"


# Zeroing


@pytest.mark.parametrize("name", ["grouped", "step_size_of_channels", "shared_conv"])
def test_zeroed_slices_are_the_oracles_and_come_back_bit_for_bit(name: str) -> None:
    case = ready(name)
    scores = psvit.saliency(case.graph, case.groups)
    root = case.graph.module
    before = {n: t.clone() for n, t in root.state_dict().items()}
    for trial in trials.list_trials(case.graph, case.groups, scores, (0.5,)).items:
        edits = zeroing.edits_of(root, case.groups.labels, trial.plan)
        inside = {}

        def fail(edits: tuple = edits, inside: dict = inside) -> None:
            with zeroing.zeroed(edits):
                inside.update({n: t.clone() for n, t in root.state_dict().items()})
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        expected = zeroed(case.graph, trial.plan).state_dict()
        assert all(torch.equal(tensor, expected[n]) for n, tensor in inside.items())
        assert any(not torch.equal(tensor, before[n]) for n, tensor in inside.items())
        assert all(torch.equal(tensor, before[n]) for n, tensor in root.state_dict().items())


# Summaries


def point(tie: int, ratio: float, kl: float, drop: float | None = 0.01) -> Point:
    values = (kl, kl, kl, drop, drop, drop, 0.0, 0.0)
    return Point(tie, ratio, int(8 * ratio), 64, *values, {"memory": 1000 * (tie + 1)})


def curves(*points: Point, names: dict[int, str], labels: bool = True) -> Curves:
    grid = sorted({p.ratio for p in points})
    return Curves("f", {"grid": grid}, names, Figures(10, 10, 10, 0.9 if labels else None), points)


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("blocks.0.attn.q_conv.0", "blocks.0"),
        ("blocks.11.mlp.fc1 (+2)", "blocks.11"),
        ("stages.1.blocks.2.attn.qkv, stages.1.blocks.2.attn.v", "stages.1.blocks.2"),
        ("backbone.blocks.3.x", "backbone.blocks.3"),
        ("patch_embed.proj_conv", "patch_embed"),
        ("attn.q_conv.0", "attn"),
        ("head", "head"),
        ("stem.0[0]", "stem"),
        ("residual stream of blocks.0.attn (+5)", "residual stream"),
    ],
)
def test_block_of_a_name(name: str, block: str) -> None:
    assert blocks.block_of(name) == block


def test_blocks_sum_their_ties_at_the_nearest_point() -> None:
    found = blocks.by_block(
        curves(
            point(0, 0.25, 0.1), point(0, 0.5, 0.2), point(1, 0.5, 1.0), point(2, 0.25, 3.0),
            names={0: "blocks.0.a", 1: "blocks.0.b", 2: "head"},
        )
    )  # fmt: skip
    assert [b.name for b in found] == ["blocks.0", "head"]
    assert found[0].ties == (0, 1)
    assert found[0].kl == {0.25: pytest.approx(1.1), 0.5: pytest.approx(1.2)}
    assert found[0].accuracy_drop[0.5] == pytest.approx(0.02)
    assert found[0].saved[0.5] == {"memory": 3000}


@pytest.mark.parametrize("labels", [True, False])
def test_tables_fit_80_columns_and_cut_no_name(labels: bool) -> None:
    name = "backbone.stages.10.blocks.11.attention.projections.query_key_value_convolution"
    drop = -0.123 if labels else None
    grid = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9)
    own = curves(
        *(point(0, ratio, 10 * ratio, drop) for ratio in grid), names={0: name}, labels=labels
    )
    for table in (tables.layer_table(own), tables.block_table(own)):
        console = Console(width=80, record=True, file=io.StringIO())
        console.print(table)
        text = console.export_text()
        assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
        assert "…" not in text
        assert ("points lost" in text) == labels
        assert ("-12.3" in text) == labels
        assert "5 %" in text
        assert "90 %" in text


@pytest.mark.parametrize(
    ("kl", "text"), [(0.0, "0"), (1e-6, "<.0001"), (0.00123, "0.0012"), (1.234, "1.23")]
)
def test_kl_text(kl: float, text: str) -> None:
    assert tables.kl_text(kl) == text


def test_forwards_of_several_inputs_are_refused() -> None:
    of_zoo = ready("two_inputs")
    with pytest.raises(psvit.ModelError, match="takes 2 inputs"):
        psvit.sensitivity(of_zoo.graph, of_zoo.groups, {}, [])


def test_the_name_of_the_neuron_layers(spiking: Tiny) -> None:
    assert prepared(spiking).neurons == ("blocks.0.2", "blocks.1.2")
