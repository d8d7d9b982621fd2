"""Batch-norm re-estimation: let the running statistics describe the activations of today.

Removing channels shifts what every later layer sees, while its batch norm still subtracts the
mean and divides by the deviation of the unpruned model, so neurons fall silent or saturate. The
statistics are averages over training images; taking them again needs no labels and no gradients
(Li et al. 2020, "EagleEye", section 3.3: adaptive batch normalisation of pruned sub-networks).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from psvit.errors import DataError, ModelError
from psvit.neurons import one_pass, reset_state


def norms_of(model: nn.Module) -> dict[str, _BatchNorm]:
    """The batch norms of ``model`` that have running statistics, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


def reestimate(model: nn.Module, images: Iterable[torch.Tensor]) -> int:
    """Set the running mean and variance of every batch norm to averages over ``images``.

    ``images``: batches of inputs, e.g. ``[B, C, H, W]``; each counts the same, so keep them of
    equal size. In place; parameters, momenta, modes and neuron state are as before. Only the
    batch norms run in train mode, so dropout stays off. Returns the number of images used.
    Raises DataError if there are none or they are not finite, ModelError if the model has no
    batch norm with running statistics.
    """
    norms = list(norms_of(model).values())
    if not norms:
        raise ModelError(
            "the model has no batch norm with running statistics to re-estimate: use --recover none"
        )
    with _averaging(model, norms):
        return run_on(model, images)


def run_on(model: nn.Module, images: Iterable[torch.Tensor]) -> int:
    """Run ``model`` on batches of images for what its norms see; returns how many images.

    Raises DataError if there are none, or some are not finite.
    """
    count = 0
    with one_pass(model), torch.no_grad():
        for batch in images:
            if not bool(torch.isfinite(batch).all()):
                raise DataError("a calibration image holds NaN or infinite values: check the data")
            reset_state(model)
            model(batch)
            count += len(batch)
    if count == 0:
        raise DataError("no calibration images were given: batch norms need some training images")
    return count


@contextmanager
def _averaging(model: nn.Module, norms: list[_BatchNorm]) -> Iterator[None]:
    modes = [(m, m.training) for m in model.modules()]
    before = [
        (n, n.momentum, {k: v.clone() for k, v in n.named_buffers(recurse=False)}) for n in norms
    ]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches
        norm.train()
    done = False
    try:
        yield
        done = any(bool(n.num_batches_tracked) for n in norms if n.num_batches_tracked is not None)
    finally:
        reset_state(model)
        for norm, momentum, buffers in before:
            norm.momentum = momentum
            if not done or norm.num_batches_tracked == 0:  # never ran: keep what it had
                for key, value in buffers.items():
                    norm._buffers[key].copy_(value)  # type: ignore[union-attr]
        for module, training in modes:
            module.training = training
