"""Batch-norm statistics of a cut model, moved as far as pruning has moved its activations.

Statistics are of a whole training set, of images as training augmented them, and a model's weights
are used to those. Taken anew on a thousand plain images (``psvit.recover.bn``) they can be much
worse: a dense model says so, which has lost nothing. So here they are matched instead (ours): on
the same images, each norm of the cut model shall put out the mean and the deviation that it puts
out in the dense one. With M and V the statistics that the dense model has, m and v the mean and
variance of what the norm reads there, and m' and v' of what it reads in the cut model,

    V' + e = (v' + e) (V + e) / (v + e)        M' = m' + (M - m) sqrt((V' + e) / (V + e))

These are m' and v' where M = m and V = v, and M and V where nothing was removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from psvit.neurons import reset_state
from psvit.recover.bn import norms_of, run_on

Moments = tuple[torch.Tensor, torch.Tensor]
"""Mean and variance of what a norm reads, ``[C]`` each."""


@dataclass(frozen=True, eq=False)
class Norms:
    """Of a dense model: ``own``, the statistics that each norm has, by its name; ``read``, what it
    reads, by its name, call by call (a norm may run once a time step), batch by batch."""

    own: Mapping[str, Moments]
    read: Mapping[str, Sequence[Moments]]


def watch_norms(dense: nn.Module, images: Iterable[torch.Tensor]) -> Norms:
    """What the norms of ``dense`` read of batches of images, ``[B, C, H, W]``.

    The model is as before afterwards. Raises DataError if there are no images, or some are not
    finite.
    """
    norms = norms_of(dense)
    read: dict[str, list[Moments]] = {name: [] for name in norms}

    def note(name: str, norm: _BatchNorm, seen: Moments) -> None:
        read[name].append(seen)

    with _Watch(norms, note):
        _run(dense, images)
    return Norms({name: _own(norm) for name, norm in norms.items()}, read)


def match_norms(
    model: nn.Module,
    images: Iterable[torch.Tensor],
    dense: Norms,
    cut: Callable[[str, torch.Tensor], torch.Tensor],
) -> int:
    """Match the statistics of ``model``, which was cut from ``dense``, in place.

    ``images``: the batches that ``dense`` has read. ``cut(name, value)``: what the cut model has
    of a buffer of the dense one. Returns the number of images; raises what ``watch_norms`` does.
    """
    with matching(model, dense, cut):
        return _run(model, images)


@contextmanager
def matching(
    model: nn.Module, dense: Norms, cut: Callable[[str, torch.Tensor], torch.Tensor]
) -> Iterator[None]:
    """Within the block, ``model`` runs in eval mode on the batches that ``dense`` has read.

    Its norms are matched as it runs: each reads what the norms before it put out when they are
    matched to this very batch. Afterwards their statistics are the averages over batches. As
    ``match_norms``.
    """
    norms = norms_of(model)
    calls = {name: iter(seen) for name, seen in dense.read.items()}
    found: dict[str, list[Moments]] = {name: [] for name in norms}

    def match(name: str, norm: _BatchNorm, seen: Moments) -> None:
        keys = f"{name}.running_mean".lstrip("."), f"{name}.running_var".lstrip(".")
        pairs = dense.own[name], next(calls[name])
        own, there = ([cut(k, t).to(seen[0]) for k, t in zip(keys, p, strict=True)] for p in pairs)
        var = (seen[1] + norm.eps) * (own[1] + norm.eps) / (there[1] + norm.eps)
        mean = seen[0] + (own[0] - there[0]) * (var / (own[1] + norm.eps)).sqrt()
        found[name].append((mean, (var - norm.eps).clamp_min(0)))
        _set(norm, found[name][-1])

    with _Watch(norms, match), torch.no_grad():
        yield
    for name, norm in norms.items():
        if found[name]:
            means, variances = zip(*found[name], strict=True)
            _set(norm, (torch.stack(means).mean(0), torch.stack(variances).mean(0)))


class _Watch(TorchFunctionMode):
    """Tells of every batch norm, right before it runs, by name, and what it is about to read.

    A module sees the shape that its caller likes, with time steps or without; the function that it
    calls always has channels second.
    """

    def __init__(
        self, norms: Mapping[str, _BatchNorm], tell: Callable[[str, _BatchNorm, Moments], None]
    ) -> None:
        super().__init__()
        self._known = {id(norm.running_mean): (name, norm) for name, norm in norms.items()}
        self._tell = tell

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.batch_norm and id(args[1]) in self._known:
            x = args[0]
            others = [dim for dim in range(x.ndim) if dim != 1]
            var, mean = torch.var_mean(x, others, correction=0)
            self._tell(*self._known[id(args[1])], (mean, var))
        return func(*args, **(kwargs or {}))


def _run(model: nn.Module, images: Iterable[torch.Tensor]) -> int:
    """Run ``model`` on images in eval mode; how many there were."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        return run_on(model.eval(), images)
    finally:
        reset_state(model)
        for module, training in modes:
            module.training = training


def _own(norm: _BatchNorm) -> Moments:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean.clone(), norm.running_var.clone()


def _set(norm: _BatchNorm, moments: Moments) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(moments[0])
    norm.running_var.copy_(moments[1])
