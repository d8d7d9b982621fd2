"""Laws: a point is what the really pruned model shows in full forwards, however it is run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import psvit
from psvit.capture import prefix as prefix_file
from psvit.capture import program as program_file
from psvit.cost import measure
from psvit.neurons import reset_state
from psvit.records import Curves
from psvit.rewrite import zeroed
from psvit.sensitivity import trials as trials_file
from tests.laws.support import ready
from tests.sensitivity.tiny import GRID, Noisy, Spiking, Steps, Tiny, Writes, tiny

ZOO_CASES = (
    "spikformer_t4", "fused_reshape", "loop_t4", "temporal_shift_t4", "user_plif_t4", "grouped",
    "shared_block", "parameter_bank", "views_of_parameters", "step_size_of_channels", "in_place",
    "two_outputs", "transposed_grouped",
)  # fmt: skip


def plans(case: Tiny) -> dict[tuple[int, int], psvit.Plan]:
    """The plan of each trial, by (tie, removed)."""
    scores = psvit.saliency(case.graph, case.groups)
    found = trials_file.list_trials(case.graph, case.groups, scores, GRID)
    return {(t.tie, t.removed): t.plan for t in found.items}


def logits(model: nn.Module, case: Tiny) -> torch.Tensor:
    """Logits [n, K] by full forwards, with the random numbers that each batch starts from."""
    parts = []
    for number, (x, _) in enumerate(case.batches):
        reset_state(model)
        torch.manual_seed(number)
        with torch.no_grad():
            out = model(x.clone())
        out = out[0] if isinstance(out, tuple) else out
        parts.append(out.mean(0) if out.ndim == 3 else out)
    reset_state(model)
    return torch.cat(parts)


def full_kl(dense: torch.Tensor, pruned: torch.Tensor) -> float:
    """KL(dense || pruned), by torch's own function, in nats an image."""
    p, q = dense.log_softmax(1), pruned.log_softmax(1)
    return float(nn.functional.kl_div(q, p, reduction="batchmean", log_target=True))


def private(case: Tiny) -> nn.Module:
    """The unpruned model, as the graph holds it; a copy, for models that change themselves."""
    scores = psvit.saliency(case.graph, case.groups)
    plan = psvit.groups.make_plan(case.graph, case.groups, {})
    assert scores
    return zeroed(case.graph, plan)


def check(case: Tiny, curves: Curves) -> None:
    labels = torch.cat([y for _, y in case.batches])
    dense = logits(private(case), case)
    own = plans(case)
    assert {(p.tie, p.removed) for p in curves.points} == set(own)
    for point in curves.points:
        pruned = logits(psvit.rewrite(case.graph, own[point.tie, point.removed]), case)
        assert point.kl == pytest.approx(full_kl(dense, pruned), abs=1e-9)
        drop = (dense.argmax(1) == labels).double() - (pruned.argmax(1) == labels).double()
        assert point.accuracy_drop == pytest.approx(float(drop.mean()), abs=1e-12)
        assert point.kl_low <= point.kl <= point.kl_high
        assert point.accuracy_drop_low <= point.accuracy_drop <= point.accuracy_drop_high


@pytest.mark.parametrize("model", [Spiking, Steps, Writes, Noisy])
def test_a_point_is_what_the_rewritten_model_shows(model: type[nn.Module]) -> None:
    case = tiny(model)
    curves = case.analyse()
    check(case, curves)
    assert max(p.kl for p in curves.points) > 1e-4


@pytest.mark.parametrize("name", ZOO_CASES)
def test_models_of_the_zoo(name: str) -> None:
    of_zoo = ready(name)
    images = [of_zoo.case.inputs(b)[0] for b in (3, 2)]
    classes = logits(of_zoo.graph.module, Tiny(of_zoo.model, of_zoo.graph, of_zoo.groups,
                                               [(x, x) for x in images])).shape[1]  # fmt: skip
    labels = [torch.arange(len(x)) % classes for x in images]
    batches = list(zip(images, labels, strict=True))
    case = Tiny(of_zoo.model, of_zoo.graph, of_zoo.groups, batches)
    check(case, case.analyse())


@pytest.mark.parametrize("model", [Spiking, Steps, Writes, Noisy])
def test_without_room_for_any_prefix_the_result_is_the_same(
    monkeypatch: pytest.MonkeyPatch, model: type[nn.Module]
) -> None:
    case = tiny(model)
    expected = case.analyse()
    monkeypatch.setattr(prefix_file, "HELD_BYTES", -1)
    assert case.analyse() == expected


def test_where_batches_end_changes_nothing_but_rounding(spiking: Tiny) -> None:
    x, y = (torch.cat(parts) for parts in zip(*spiking.batches, strict=True))
    other = spiking.analyse(batches=[(x, y)])
    for a, b in zip(spiking.analyse().points, other.points, strict=True):
        assert a.kl == pytest.approx(b.kl, abs=1e-9)
        assert a.rate_drift == pytest.approx(b.rate_drift, abs=1e-9)


def test_drifts_are_those_of_the_zeroed_model(spiking: Tiny) -> None:
    def activity(model: nn.Module) -> dict[str, tuple[float, float]]:
        sums: dict[str, list[float]] = {}
        handles = []
        for name, module in model.named_modules():
            if hasattr(module, "v_threshold"):

                def after(m: nn.Module, a: tuple, y: torch.Tensor, name: str = name) -> None:
                    total = sums.setdefault(name, [0.0, 0.0, 0])
                    total[0] += float(y.sum())
                    total[1] += float(a[0].sum())
                    total[2] += y.numel()

                handles.append(module.register_forward_hook(after))
        logits(model, spiking)
        for handle in handles:
            handle.remove()
        return {name: (y / n, x / n) for name, (y, x, n) in sums.items()}

    dense = activity(private(spiking))
    assert len(dense) == 2
    for point in spiking.analyse().points:
        pruned = activity(zeroed(spiking.graph, plans(spiking)[point.tie, point.removed]))
        rate, potential = (
            sum(abs(pruned[n][i] - dense[n][i]) for n in dense) / len(dense) for i in (0, 1)
        )
        assert rate > 0
        assert point.rate_drift == pytest.approx(rate, abs=1e-9)
        assert point.potential_drift == pytest.approx(potential, abs=1e-9)


def test_what_is_saved_is_what_the_rewritten_model_lacks(spiking: Tiny) -> None:
    def size(model: nn.Module) -> tuple[int, int]:
        parameters = list(model.parameters())
        tensors = [*parameters, *model.buffers()]
        return sum(t.numel() * t.element_size() for t in tensors), sum(
            p.numel() for p in parameters
        )

    curves = spiking.analyse()
    whole = size(spiking.graph.module)
    assert (curves.dense.memory_bytes, curves.dense.params) == whole
    for point in curves.points:
        left = size(psvit.rewrite(spiking.graph, plans(spiking)[point.tie, point.removed]))
        assert (point.saved["memory"], point.saved["params"]) == (
            whole[0] - left[0],
            whole[1] - left[1],
        )
        assert point.saved["macs"] > 0
        assert "sops" not in point.saved  # nothing has measured them


def test_a_meter_that_knows_more_units_saves_in_them(spiking: Tiny) -> None:
    class Knowing:
        def measure(self, removal: dict[int, list[int]]) -> psvit.Figures:
            figures = measure(spiking.graph, spiking.groups, removal)
            return replace(figures, sops=2.5 * figures.macs, energy_pj=0.5 * figures.params)

    for point in spiking.analyse(meter=Knowing()).points:
        assert point.saved["sops"] == 2.5 * point.saved["macs"] > 0
        assert point.saved["energy"] == 0.5 * point.saved["params"] > 0


def test_the_model_and_the_random_numbers_are_left_alone(spiking: Tiny) -> None:
    before = {n: t.clone() for n, t in spiking.graph.module.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    spiking.analyse()
    assert torch.equal(torch.get_rng_state(), state)
    after = spiking.graph.module.state_dict()
    assert all(torch.equal(before[n], t) for n, t in after.items())
    assert before.keys() == after.keys()
    assert all(
        not isinstance(m.v, torch.Tensor)
        for m in spiking.graph.module.modules()
        if hasattr(m, "v_threshold")
    )


def test_only_what_lies_after_the_first_changed_layer_runs_again(
    spiking: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: dict[str, int] = {}
    evaluate = program_file._evaluate

    def count(program, node, values, observer):
        calls[str(node.target)] = calls.get(str(node.target), 0) + 1
        evaluate(program, node, values, observer)

    monkeypatch.setattr(program_file, "_evaluate", count)
    points = spiking.analyse(grid=(0.2, 0.4, 0.6, 0.8)).points
    names = spiking.analyse(grid=(0.5,)).names
    calls.clear()
    points = spiking.analyse(grid=(0.2, 0.4, 0.6, 0.8)).points
    first, second = sorted({p.tie for p in points})
    assert [names[first], names[second]] == ["blocks.0.0", "blocks.1.0"]
    trials = len(points) // 2
    batches = len(spiking.batches)
    # once to see what writes in place; for each batch once unpruned, once as the prefix
    assert calls["blocks.0.0"] == 1 + batches * (1 + trials + 1)
    assert calls["blocks.1.0"] == 1 + batches * (1 + 2 * trials)
