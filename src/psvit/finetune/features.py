"""Outputs of named layers, of student and teacher side by side.

A layer of the student has some of the channels that the teacher's layer of the same name has: the
plan says which. T steps, B batch, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from psvit.errors import OptionError
from psvit.records import Plan

SHOWN = 4


class Features:
    """What the layers that match ``patterns`` gave in the last forward of each model.

    Kept is what a student gives that learns, in a forward with gradients, and then what the teacher
    gives beside it; so forwards that judge or take statistics of whole data sets cost no memory.
    Layers with a weight of their own can be matched: convolutions, linear layers, norms. Raises
    OptionError if a pattern matches none.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, patterns: Sequence[str], plan: Plan | None
    ) -> None:
        self._layers = _matching(student, teacher, patterns)
        self._models = student, teacher
        keep = {} if plan is None else plan.keep
        self._kept = {name: keep.get(f"{name}.weight", {}).get("0") for name in self._layers}
        self._seen: tuple[dict[str, list[torch.Tensor]], dict[str, list[torch.Tensor]]] = ({}, {})

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within the block, outputs are kept."""
        (student, teacher), (learns, knows) = self._models, self._seen
        hooks = [
            model.get_submodule(name).register_forward_hook(_noting(seen, name, when))
            for model, seen, when in (
                (student, learns, torch.is_grad_enabled),
                (teacher, knows, lambda: bool(learns)),
            )
            for name in self._layers
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def distance(self) -> torch.Tensor:
        """Mean over layers of the squared error, in units of the variance of the teacher's output.

        Forgets the outputs. A layer that runs once a time step counts with all its outputs.
        """
        student, teacher = self._seen
        parts = []
        for name in self._layers:
            for one, other in zip(student.pop(name, ()), teacher.pop(name, ()), strict=True):
                goal = self._kept_part(name, other.float(), one.shape)
                spread = goal.var().clamp_min(1e-6)
                parts.append((one.float() - goal).square().mean() / spread)
        if not parts:
            raise OptionError(
                f"features: {', '.join(self._layers[:SHOWN])} do not run in a forward of the model"
            )
        return torch.stack(parts).mean()

    def _kept_part(self, name: str, output: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """The teacher's output on the channels that the student has."""
        if output.shape == shape:
            return output
        kept = self._kept[name]
        axes = [axis for axis in range(output.ndim) if _narrowed(output.shape, shape, axis, kept)]
        if kept is None or not axes:
            raise OptionError(
                f"features: {name} gives {list(shape)} in the pruned model and "
                f"{list(output.shape)} in the teacher, and no plan says which channels these are"
            )
        return output.index_select(axes[0], torch.tensor(kept, device=output.device))


def _noting(
    seen: dict[str, list[torch.Tensor]], name: str, when: Callable[[], bool]
) -> Callable[[nn.Module, Any, torch.Tensor], None]:
    def note(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        if when():
            seen.setdefault(name, []).append(output)

    return note


def _narrowed(wide: torch.Size, shape: torch.Size, axis: int, kept: tuple[int, ...] | None) -> bool:
    """Whether ``shape`` is ``wide`` with so many channels kept on this axis."""
    if kept is None or len(shape) != len(wide):
        return False
    return [*wide[:axis], len(kept), *wide[axis + 1 :]] == list(shape)


def _matching(student: nn.Module, teacher: nn.Module, patterns: Sequence[str]) -> tuple[str, ...]:
    there = dict(teacher.named_modules())
    names = [
        name
        for name, module in student.named_modules()
        if name in there and isinstance(getattr(module, "weight", None), torch.Tensor)
    ]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            some = ", ".join(names[:SHOWN])
            raise OptionError(
                f"features: no layer with a weight is called {pattern!r} in both models, expected "
                f"a name or a pattern of names such as {some}"
            )
    return tuple(n for n in names if any(fnmatchcase(n, pattern) for pattern in patterns))
