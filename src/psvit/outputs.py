"""What a model's outputs say: log-probabilities, and how far two models' are apart.

T steps, B batch, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from scipy.optimize import minimize_scalar
from torch import nn

from psvit.errors import ModelError
from psvit.neurons import one_pass, reset_state

MOST_FACTOR = 16.0
"""A model's logits are taken to be too small by no more than this factor."""

CLOSE = 0.25
"""Log-probabilities of two classes that differ by no more, in nats, are close to one another."""


def log_probabilities(output: Any, batch: int) -> torch.Tensor:
    """Log-probabilities ``[B, K]``, float64, on the CPU, of what a model returns.

    Logits may be ``[B, K]``, ``[T, B, K]`` (their mean over T counts), or the first entry of a
    tuple or list. Raises ModelError for anything else, and for logits that are not finite.
    """
    while isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, torch.Tensor):
        raise ModelError(f"the model returns a {type(output).__name__}, expected logits")
    if output.ndim == 3 and output.shape[1] == batch:
        output = output.mean(0)
    if output.ndim != 2 or output.shape[0] != batch:
        raise ModelError(
            f"the model returns a tensor of shape {list(output.shape)} for {batch} images: "
            "expected logits [B, K] or [T, B, K]"
        )
    if not bool(output.isfinite().all()):
        raise ModelError("a logit is NaN or infinite: check the checkpoint and the data")
    logs: torch.Tensor = output.double().cpu().log_softmax(1)
    return logs


def kl_per_image(dense: torch.Tensor, pruned: torch.Tensor) -> torch.Tensor:
    """KL(dense || pruned) of each image, in nats, ``[B]``: sum over K of p (log p - log q)."""
    return (dense.exp() * (dense - pruned)).sum(1).clamp(min=0)


def at_best_temperature(dense: torch.Tensor, pruned: torch.Tensor) -> torch.Tensor:
    """``pruned`` at the temperature that brings it nearest to ``dense``.

    Both, and what is returned, are log-probabilities ``[N, K]``. Logits that are all too small or
    too large by one factor change no class, but cost KL divergence. So that factor, an inverse
    temperature (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2,
    there fitted to labels), is chosen such that the mean divergence from the dense model, which is
    convex in it, is least.
    """

    def left(factor: float) -> float:
        return float(kl_per_image(dense, (pruned * factor).log_softmax(1)).mean())

    found = minimize_scalar(left, bounds=(0.0, MOST_FACTOR), method="bounded")
    return pruned if left(1.0) <= found.fun else (pruned * found.x).log_softmax(1)


def doubt(dense: torch.Tensor, logs: torch.Tensor) -> torch.Tensor:
    """How near each image is to another class than ``dense`` guesses, or how far past it, ``[N]``.

    Both are log-probabilities ``[N, K]``. 0 for the class of the dense model with certainty, 1 for
    another one, 1/2 where two are as likely: the logistic function of their difference in units of
    CLOSE nats.
    """
    guess = dense.argmax(1, keepdim=True)
    own = logs.gather(1, guess)[:, 0]
    other = logs.scatter(1, guess, -math.inf).amax(1)
    return ((other - own) / CLOSE).sigmoid()


def predict(
    model: nn.Module, batches: Iterable[Sequence[torch.Tensor]], device: str | torch.device = "cpu"
) -> torch.Tensor:
    """Log-probabilities ``[N, K]``, on the CPU, of a model in eval mode on batches of images.

    ``batches``: ``(images [B, C, H, W], ...)``. The model is moved to ``device``, and its neurons
    are reset before each batch and at the end. Raises ModelError as ``log_probabilities``.
    """
    model.to(device)
    logs = []
    with torch.no_grad(), one_pass(model):
        for images, *_ in batches:
            reset_state(model)
            logs.append(log_probabilities(model(images.to(device)), len(images)))
    reset_state(model)
    return torch.cat(logs)
