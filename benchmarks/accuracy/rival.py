"""Torch-Pruning 1.6.1, the field's default, on the same model, used the way its README shows."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from psvit.capture.copying import private_copy
from psvit.neurons import reset_state

NAME = "torch-pruning"
LIMIT_S = 120
STEPS = 6


class Unusable(Exception):
    """It gave no model that runs; the text says what happened."""


def pruned(model: nn.Module, images: torch.Tensor, share: float) -> nn.Module:
    """A model with about ``share`` of the parameters less: group L2 importance, one ratio for all.

    The ratio of channels is found by bisection. Raises Unusable, also after two minutes.
    """
    try:
        import torch_pruning
    except ImportError:
        raise Unusable("not installed (pip install --no-deps torch-pruning==1.6.1)") from None
    before = _count(model)
    low, high = 0.0, 1.0
    best: nn.Module | None = None
    for _ in range(STEPS):
        ratio = (low + high) / 2
        best = _at(torch_pruning, model, images, ratio)
        low, high = (ratio, high) if 1 - _count(best) / before < share else (low, ratio)
    assert best is not None
    return best


def _at(tp: Any, model: nn.Module, images: torch.Tensor, ratio: float) -> nn.Module:
    model = private_copy(model).cpu().eval()
    stage = "the graph"
    try:
        with _limited():
            with (
                torch.no_grad()
            ):  # state of the right shape, so that tracing does not stumble on it
                model(images)
            reset_state(model)
            pruner = tp.pruner.MagnitudePruner(
                model,
                images,
                importance=tp.importance.GroupMagnitudeImportance(p=2),
                pruning_ratio=ratio,
                ignored_layers=[m for m in model.modules() if isinstance(m, nn.Linear)][-1:],
            )
            stage = "pruning"
            pruner.step()
            reset_state(model)
            stage = "the pruned forward"
            with torch.no_grad():
                model(images)
    except TimeoutError:
        raise Unusable(f"{stage}: not done after {LIMIT_S} s") from None
    except Exception as error:  # whatever its graph makes of the model's code
        first = (str(error).splitlines() or [""])[0][:120]
        raise Unusable(f"{stage} raises {type(error).__name__}: {first}") from error
    reset_state(model)
    return model


@contextmanager
def _limited() -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
