"""examine(published, T, clone): what psvit makes of one model file, as numbers.

Everything runs in float64. Exact means that each rewritten model equals the original with its
removed channels zeroed to 1e-9, in eval and in train mode, at two batch sizes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import psvit
from benchmarks.repositories.published import Published
from psvit.compat import import_file, legacy_imports
from psvit.groups import make_plan
from psvit.records import Graph, Group, Groups
from psvit.rewrite import zeroed
from tests.zoo.wake import distance, missed, outputs, wake

TOLERANCE = 1e-9
BATCHES = (2, 3)
Choice = dict[int, list[int]]


def examine(published: Published, T: int, clone: Path, every: int = 1) -> dict[str, Any]:
    """Load, wake, capture, prune and compare; ``every`` n-th group and head alone.

    Raises whatever goes wrong: a table that says so is the caller's business.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    file = clone / published.file
    with legacy_imports(file.parent) as standins:
        module = import_file(file)
        with everything_double():
            model = published.build(module, T).double()
    with everything_double():
        found = _findings(_Trial(published, T, model), every)
    needed = {name: version(name) for name in published.needs}
    return {"stand_ins": list(standins.lines()), "needed": needed, **found}


class _Trial:
    """A model, awake, and what psvit found in it."""

    def __init__(self, published: Published, T: int, model: nn.Module) -> None:
        self.published, self.T = published, T
        self.model = wake(model, self.inputs(BATCHES[0]))
        self.awake = missed(model, self.inputs(BATCHES[0]))
        self.before = {k: v.clone() for k, v in model.state_dict().items()}
        self.graph: Graph = psvit.capture(model, self.inputs(BATCHES[0]))
        self.groups: Groups = psvit.find_groups(self.graph)
        self.untouched = all(torch.equal(self.before[k], v) for k, v in model.state_dict().items())
        fixed = f"axis {published.batch_axis} of the input"
        self.batches = BATCHES[:1] if any(fixed in f for f in self.graph.fixed) else BATCHES

    def inputs(self, batch: int) -> tuple[Tensor, ...]:
        """The same random images, or events, for the same batch size."""
        generator = torch.Generator().manual_seed(batch)
        return tuple(
            torch.rand(sizes, generator=generator, dtype=torch.float64)
            for sizes in self.published.sizes(self.T, batch)
        )

    def run(self, model: nn.Module, batch: int, training: bool) -> list[Tensor]:
        """All outputs, with the same random numbers each time."""
        model.train(training)
        torch.manual_seed(1)
        with torch.no_grad():
            return outputs(model, self.inputs(batch))

    def error_of(self, removal: Choice) -> list[float]:
        """How far the rewritten model is from the zeroed one, in eval and in train mode.

        The largest difference over the batch sizes; NaN if there is one. Train mode comes last:
        it moves the statistics of batch norms, of both models alike.
        """
        plan = make_plan(self.graph, self.groups, removal)
        small, reference = psvit.rewrite(self.graph, plan), zeroed(self.graph, plan)
        errors = []
        for training in (False, True):
            gaps = [
                distance(self.run(small, batch, training), self.run(reference, batch, training))
                for batch in self.batches
            ]
            errors.append(float(np.max(gaps)))
        return errors

    def notices(self, removal: Choice) -> bool:
        """Whether the check would see another channel of every cell go."""
        plan = make_plan(self.graph, self.groups, removal)
        other = make_plan(self.graph, self.groups, _swapped(self.groups, removal))
        small, wrong = psvit.rewrite(self.graph, plan), zeroed(self.graph, other)
        batch = self.batches[-1]
        gap = distance(self.run(small, batch, False), self.run(wrong, batch, False))
        return not gap <= TOLERANCE

    def at_budget(self, share: float = 0.224) -> tuple[float, Choice]:
        """All groups at the ratio that comes nearest to a share of the parameters."""
        meter = psvit.cost.prepare(self.graph, self.groups)
        dense = meter.measure({}).params
        options = []
        for ratio in (0.06, 0.09, 0.12, 0.15, 0.2, 0.25, 0.3, 0.35, 0.5):
            removal = _choice(self.groups, self.groups.prunable, ratio)
            options.append((1 - meter.measure(removal).params / dense, removal))
        return min(options, key=lambda option: abs(option[0] - share))


def _findings(it: _Trial, every: int) -> dict[str, Any]:
    groups = it.groups
    ties = {group.tie: group for group in reversed(groups.prunable)}
    alone = [_choice(groups, [group], 0.25) for group in list(ties.values())[::every]]
    heads = [{g: list(c) for g, c in h.channels.items()} for h in groups.heads[::every]]
    saved, together = it.at_budget()
    errors = np.array([it.error_of(removal) for removal in ({}, *alone, *heads, together)])
    return {
        "params": sum(p.numel() for p in it.graph.module.parameters()),
        "prunable_share": _prunable_share(it),
        "groups": len(groups),
        "prunable": len(groups.prunable),
        "heads": len(groups.heads),
        "awake": f"{sum(it.awake)}/{len(it.awake)}",
        "checked": len(alone),
        "checked_heads": len(heads),
        "noticed": sum(it.notices(removal) for removal in alone),
        "saved_together": saved,
        "batches": list(it.batches),
        "error_eval": float(np.max(errors[:, 0])),
        "error_train": float(np.max(errors[:, 1])),
        "exact": bool(np.all(errors <= TOLERANCE) and it.untouched),
        "fixed": list(it.graph.fixed),
        "locked": dict(Counter(g.locked for g in groups if g.locked)),
        "unknown": list(groups.unknown),
    }


def _prunable_share(it: _Trial) -> float:
    """Share of the parameters that have an axis in a prunable group."""
    labels = it.groups.labels
    channels = {int(c) for g in it.groups.prunable for c in g.channels}
    touched = {
        tensor
        for (tensor, _), lanes in labels.slots.items()
        if channels & set(labels.channel_of[lanes].tolist())
    }
    sizes = {name: p.numel() for name, p in it.graph.module.named_parameters()}
    return sum(n for name, n in sizes.items() if name in touched) / sum(sizes.values())


def _choice(groups: Groups, chosen: Iterable[Group], share: float) -> Choice:
    """Random channels, as many from every cell of a tie, of these groups and what is tied."""
    generator = np.random.default_rng(0)
    picked: Choice = {}
    for tie in sorted({group.tie for group in chosen}):
        members = [g for g in groups.prunable if g.tie == tie]
        size = min(len(cell) for g in members for cell in g.cells)
        count = min(max(1, round(share * size)), size - 1)
        for group in members:
            rows = [generator.permutation(cell)[:count] for cell in group.cells]
            picked[group.id] = sorted(int(i) for row in rows for i in row)
    return picked


def _swapped(groups: Groups, removal: Choice) -> Choice:
    """One removed channel of every cell stays, and one that stayed goes."""
    generator = np.random.default_rng(1)
    swapped: Choice = {}
    for group, removed in removal.items():
        gone = set(removed)
        for cell in groups[group].cells:
            out, stays = sorted(gone & set(cell)), sorted(set(cell) - gone)
            if out and stays:
                gone.discard(int(generator.choice(out)))
                gone.add(int(generator.choice(stays)))
        swapped[group] = sorted(gone)
    return swapped


class _OnTheCpu(TorchFunctionMode):
    """A forward that makes tensors with ``device="cuda"`` makes them where the model is."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if str(kwargs.get("device", "")).startswith("cuda"):
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)


@contextmanager
def everything_double() -> Iterator[None]:
    """Within the block, what code makes in float32 is made in float64, the oracle's precision."""
    kept: dict[str, Any] = {name: getattr(Tensor, name) for name in ("float", "to")}
    patched: Any = Tensor

    def upgraded(value: Any) -> Any:
        return torch.float64 if value is torch.float32 else value

    def to(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        named = {key: upgraded(value) for key, value in kwargs.items()}
        return kept["to"](tensor, *map(upgraded, args), **named)

    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    patched.to, patched.float = to, Tensor.double
    try:
        with _OnTheCpu() if not torch.cuda.is_available() else nullcontext():
            yield
    finally:
        torch.set_default_dtype(default)
        patched.to, patched.float = kept["to"], kept["float"]
