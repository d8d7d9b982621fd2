"""Covariance compensation: let the channels that stay do the work of those that go.

A weight W ``[O, c]`` reads x, of which the entries S stay and R go. For the dense model's x with
mean m and covariance C, the weights W' on S and the constant that come closest to W x are, in
least squares,

    W'_S = W_S + W_R C_RS (C_SS + l I)^-1        constant = (W - W') m

with a ridge l in units of the mean variance. That is the W' that minimises
``tr (W - W') (C + l I) (W - W')^T`` with ``W'_R = 0``: the update of optimal brain surgery
(Hassibi and Stork 1993, eq. 5) for all of R at once, applied to layer outputs as in Frantar and
Alistarh 2022 (Optimal Brain Compression, section 3). Nothing changes where nothing goes. An
operation whose constant nothing can absorb is fitted without one: then C is the second moment.

Least squares shrinks what it cannot predict, and a neuron whose input varies less fires less
often: an error that does not average out over a layer, as flipped spikes do. So each output gets
back the variance that it had (ours):

    W'_o <- W'_o sd(W_o x) / sd(W'_o x_S)

The constant goes into the layer's own bias, or else out of the running mean of the batch norm
that follows: there it is what re-estimating the statistics would find, so the two agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from psvit.calibrate.consumers import Consumer
from psvit.calibrate.moments import Moments, Part
from psvit.records import Removal

RIDGE = 1e-2
"""Share of the mean variance of the inputs that is added to each; 1e-4 to 1e-2 make no
difference that we could measure."""

MOST_GAIN = 3.0
"""A deviation is restored by no more than this factor: beyond it the fit explains a tenth of the
variance at best, and blowing it up adds more noise than signal."""


def compensate(
    module: nn.Module,
    consumers: Iterable[Consumer],
    moments: Moments,
    removal: Removal,
    ridge: float = RIDGE,
    *,
    restore: bool = True,
) -> dict[str, torch.Tensor]:
    """New values of tensors of the unpruned ``module``, by name, for when ``removal`` is gone.

    Of full size: columns of removed channels are 0. Each is of the dtype and on the device of
    the tensor it stands for. Only consumers that lose an input and keep one are changed, so the
    empty removal gives nothing. ``restore``: give outputs their variance back.
    """
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    found: dict[str, torch.Tensor] = {}
    for consumer in consumers:
        parts = moments.parts.get(consumer.weight)
        lost = consumer.lost(removal)
        if parts is None or not bool(lost.any()) or bool(lost.all()):
            continue
        old = tensors[consumer.weight].detach()
        weight, constant = refit(consumer, parts, old, lost, ridge, restore=restore)
        found[consumer.weight] = weight.to(old)
        target = consumer.absorber
        if target is not None:
            before = tensors[target].detach()
            sign = 1.0 if consumer.bias else -1.0
            found[target] = (before.double() + sign * constant.to(before.device)).to(before)
    return found


def refit(
    consumer: Consumer,
    parts: Iterable[Part],
    weight: torch.Tensor,
    lost: torch.Tensor,
    ridge: float = RIDGE,
    *,
    restore: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight without the columns ``lost`` ``[G, c]``, in its own shape, and the constant.

    Both float64, on the device of the moments; the constant ``[G * O]`` is 0 where none can be
    absorbed. ``restore`` False gives the least-squares solution itself.
    """
    groups = consumer.geometry.groups
    parts = tuple(parts)
    place = parts[0].second.device
    lost = lost.to(place)
    old = weight.to(place, torch.float64).reshape(groups, -1, lost.shape[1])
    new = old.clone()
    for part in parts:
        for g in range(groups):
            gone = lost[g, part.columns]
            if not bool(gone.any()):
                continue
            kept, leaving = part.columns[~gone], part.columns[gone]
            covariance = part.covariance(g, centred=consumer.absorbs)
            share = _shares(covariance, gone, ridge)  # [kept, leaving]
            new[g, :, kept] += old[g, :, leaving] @ share.T
            new[g, :, leaving] = 0
    constant = torch.zeros(old.shape[:2], dtype=torch.float64, device=place)
    if consumer.absorbs:
        if restore:
            new *= _gain(parts, old, new)[:, :, None]
        for part in parts:
            change = (old - new)[:, :, part.columns]
            constant += torch.einsum("goc,gc->go", change, part.mean)
    return new.reshape(weight.shape), constant.reshape(-1)


def _gain(parts: Sequence[Part], old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """``[G, O]``: the dense outputs' deviation by that of the refitted ones."""
    before, after = _variance(parts, old), _variance(parts, new)
    alive = after > 1e-12 * before
    return torch.where(alive, (before / after).sqrt().clamp(max=MOST_GAIN), 1.0)


def _variance(parts: Sequence[Part], weight: torch.Tensor) -> torch.Tensor:
    """``[G, O]``: of the outputs of a weight ``[G, O, c]``; of several parts, as if independent."""
    total = torch.zeros(weight.shape[:2], dtype=torch.float64, device=weight.device)
    for part in parts:
        some = weight[:, :, part.columns]
        second = (some @ part.second * some).sum(2)
        total += second - torch.einsum("goc,gc->go", some, part.mean).square()
    return total.clamp(min=0)


def _shares(covariance: torch.Tensor, gone: torch.Tensor, ridge: float) -> torch.Tensor:
    """``[kept, leaving]``: how much of each leaving input each kept one takes over."""
    scale = covariance.diagonal().mean()
    inner = covariance[~gone][:, ~gone].clone()
    outer = covariance[~gone][:, gone]
    if not bool(scale > 0) or not len(inner):
        return torch.zeros_like(outer)
    inner.diagonal().add_(ridge * scale)
    factor, failed = torch.linalg.cholesky_ex(inner)
    if int(failed) == 0:
        solved: torch.Tensor = torch.cholesky_solve(outer, factor)
    else:  # not even the ridge makes it definite: the shortest solution
        solved = torch.linalg.pinv(inner, rtol=1e-12, hermitian=True) @ outer
    return solved
