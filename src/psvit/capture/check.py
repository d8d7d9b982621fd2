"""Compare a recording with the model it came from, on data and batch sizes it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from psvit.capture.patches import uncompiled
from psvit.capture.replay import RecordedModel
from psvit.errors import CaptureError
from psvit.neurons import reset_state
from psvit.records import Graph


class Repeats(Protocol):
    """Whether the forward of other inputs, and of other steps, is known to be the recorded one."""

    def __call__(self, inputs: Sequence[torch.Tensor], steps: int | None = None) -> bool: ...


def fixed_sizes(
    graph: Graph, example: tuple[torch.Tensor, ...], repeats: Repeats | None = None
) -> list[str]:
    """Which axes of the inputs the recording fixed, in words.

    Runs the eval forward with one more element on axis 0 (the batch, or T of ``[T, B, ...]``),
    and on axis 1 of inputs of rank 5, where ``repeats`` does not tell that it is the same.
    Raises CaptureError if the recording differs from the model even at the example's own sizes,
    so that no later stage builds on a wrong graph.
    """
    replay = RecordedModel(graph.module, {"eval": graph.forwards["eval"]}).eval()
    steps = _fixed_steps(graph, replay, example, repeats)
    axes = [0, 1] if example[0].ndim == 5 else [0]
    fixed = [
        f"axis {axis} of the input is fixed at {example[0].shape[axis]}"
        for axis in axes
        if not (repeats and repeats(_of_other_size(example, axis)))
        and _agrees(graph, replay, _other_data(example, axis)) is False
    ]
    if len(fixed) == len(axes) and not _agrees(graph, replay, _other_data(example, None)):
        raise CaptureError(
            f"the recording of {type(graph.module).__name__} does not reproduce it on other data: "
            "its forward depends on values in a way that cannot be recorded"
        )
    return fixed + steps


def _fixed_steps(
    graph: Graph,
    replay: RecordedModel,
    example: tuple[torch.Tensor, ...],
    repeats: Repeats | None,
) -> list[str]:
    """Whether T, where it is an attribute of the model, can no longer change: a loop over T is
    recorded step by step."""
    holders = [m for m in (*graph.module.modules(), replay) if type(m.__dict__.get("T")) is int]
    before = [module.__dict__["T"] for module in holders]
    if not holders:
        return []
    if len(set(before)) == 1 and repeats and repeats(example, 2 if before[0] == 1 else 1):
        return []
    try:
        for module, steps in zip(holders, before, strict=True):
            module.__dict__["T"] = 2 if steps == 1 else 1
        agrees = _agrees(graph, replay, _other_data(example, None))
    finally:
        for module, steps in zip(holders, before, strict=True):
            module.__dict__["T"] = steps
    return [f"the number of time steps T is fixed at {before[0]}"] if agrees is False else []


def _agrees(graph: Graph, replay: RecordedModel, inputs: tuple[torch.Tensor, ...]) -> bool | None:
    """Equal outputs; None where the model itself does not accept such inputs."""
    try:
        expected = _run(graph.module, inputs)
    except Exception:  # the model's own limit, whatever it raises, is not the recording's
        return None
    try:
        got = _run(replay, inputs)
    except Exception:  # a baked size surfaces as any of torch's errors
        return False
    return _equal(expected, got)


def _run(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
    torch.manual_seed(0)
    reset_state(module)
    with torch.no_grad(), uncompiled():  # compiling takes longer than a few runs save
        out = module(*(x.clone() for x in inputs))
    reset_state(module)
    return out


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return (
            isinstance(b, torch.Tensor)
            and a.shape == b.shape
            and torch.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True)
        )
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[k], b[k]) for k in a)
    return True


def _other_data(example: tuple[torch.Tensor, ...], grow: int | None) -> tuple[torch.Tensor, ...]:
    """Random inputs like the example's, with one more element on axis ``grow``."""
    generator = torch.Generator().manual_seed(1)
    out = []
    for x, like in zip(example, _of_other_size(example, grow), strict=True):
        shape = like.shape
        if x.is_floating_point():
            spread = max(float(x.abs().max()), 1e-3)
            data = torch.rand(shape, generator=generator).to(x) * 2 * spread
        else:
            index = torch.randint(x.numel(), shape, generator=generator)
            data = x.flatten()[index.to(x.device)]
        out.append(data)
    return tuple(out)


def _of_other_size(example: tuple[torch.Tensor, ...], grow: int | None) -> tuple[torch.Tensor, ...]:
    """Inputs like the example's, with one more element on axis ``grow``, that hold nothing yet."""
    size = None if grow is None else example[0].shape[grow]
    shapes = [list(x.shape) for x in example]
    for shape in shapes:
        if grow is not None and grow < len(shape) and shape[grow] == size:
            shape[grow] += 1
    return tuple(x.new_empty(shape) for x, shape in zip(example, shapes, strict=True))
