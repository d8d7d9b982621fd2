"""Make a model with random weights alive, so that a removed channel is missed.

Freshly initialised spiking nets are mostly silent: their oracle would agree with anything.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

RATE = 0.3
THRESHOLDS = (4.0, 3.0, 2.0, 1.5, 1.0, 0.75, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08, 0.05, 0.02)


def wake(model: nn.Module, inputs: tuple[Tensor, ...], seed: int = 0) -> nn.Module:
    """Set BN statistics and affines, flat parameters and thresholds from one forward pass.

    The pass runs in the order of the model, so each layer is set on what it will really see:
    a BN gets the statistics of its input and a jittered affine; a neuron gets the threshold at
    which it fires most nearly at RATE. Works in place and returns the model, in eval mode.
    """
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        reset(model)
        model.eval()
        model(*inputs)  # parameters made at the first call exist from here on
        reset(model)
        for parameter in model.parameters():
            flat = parameter.is_floating_point() and parameter.numel() > 1
            if flat and float(parameter.detach().std()) < 1e-3:
                parameter += 0.4 * torch.randn_like(parameter)
        handles = []
        done: set[nn.Module] = set()

        def before(module: nn.Module, args: tuple[Any, ...]) -> None:
            if module in done or not args or not isinstance(args[0], Tensor):
                return
            done.add(module)
            if isinstance(module, _BatchNorm):
                _settle_norm(module, args[0])
            elif isinstance(getattr(module, "v_threshold", None), float) and not getattr(
                module, "fixed_threshold", False
            ):
                _settle_neuron(module, args)

        for module in model.modules():
            handles.append(module.register_forward_pre_hook(before))
        try:
            model(*inputs)
        finally:
            for handle in handles:
                handle.remove()
        reset(model)
    return model


def reset(model: nn.Module) -> None:
    """Forget the state of every neuron, of SpikingJelly or not."""
    for module in model.modules():
        forget = getattr(module, "reset", None)
        if callable(forget):
            forget()


def firing_rates(model: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, float]:
    """Share of non-zero outputs of every neuron, by name."""
    rates: dict[str, float] = {}
    handles = []
    for name, module in model.named_modules():
        if hasattr(module, "v_threshold"):

            def after(m: nn.Module, a: Any, out: Tensor, name: str = name) -> None:
                rates[name] = float((out != 0).double().mean())

            handles.append(module.register_forward_hook(after))
    try:
        with torch.no_grad():
            reset(model)
            model(*inputs)
            reset(model)
    finally:
        for handle in handles:
            handle.remove()
    return rates


def missed(model: nn.Module, inputs: tuple[Tensor, ...], seed: int = 0) -> list[bool]:
    """For each BN: whether silencing three random channels of it changes the output."""
    generator = torch.Generator().manual_seed(seed)
    noticed = []
    with torch.no_grad():
        dense = outputs(model, inputs)
        for norm in [m for m in model.modules() if isinstance(m, _BatchNorm) and m.affine]:
            with _silenced(norm, generator):
                noticed.append(distance(dense, outputs(model, inputs)) > 1e-6)
    return noticed


def outputs(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """All tensors that a model returns, from a fresh state."""
    reset(model)
    result = list(_tensors(model(*inputs)))
    reset(model)
    return result


def distance(a: list[Tensor], b: list[Tensor]) -> float:
    """The largest difference; NaN if either has one, infinite if the shapes differ."""
    if [t.shape for t in a] != [t.shape for t in b]:
        return float("inf")
    gaps = [(s.double() - t.double()).abs().max() for s, t in zip(a, b, strict=True)]
    return float(torch.stack(gaps).max())


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)


def _settle_norm(norm: _BatchNorm, x: Tensor) -> None:
    axis = 2 if getattr(norm, "step_mode", "s") == "m" else 1
    seen = x.movedim(axis, 0).flatten(1)
    if norm.running_mean is not None and norm.running_var is not None:
        norm.running_mean.copy_(seen.mean(1) + 0.1 * torch.randn_like(norm.running_mean))
        norm.running_var.copy_(seen.var(1) * (0.8 + 0.4 * torch.rand_like(norm.running_var)) + 0.01)
    if norm.affine:
        norm.weight.copy_(0.8 + 0.8 * torch.rand_like(norm.weight))
        norm.bias.copy_(0.4 * torch.randn_like(norm.bias))


def _settle_neuron(neuron: nn.Module, args: tuple[Any, ...]) -> None:
    rates = []
    for threshold in THRESHOLDS:
        twin = copy.deepcopy(neuron)
        twin._forward_pre_hooks.clear()  # copied along: this very settling
        twin.v_threshold = threshold
        rates.append(float((twin(*args) != 0).double().mean()))
        if rates[-1] > 2 * RATE:
            break
    best = min(range(len(rates)), key=lambda i: abs(rates[i] - RATE))
    neuron.v_threshold = THRESHOLDS[best]


@contextmanager
def _silenced(norm: _BatchNorm, generator: torch.Generator) -> Iterator[None]:
    weight, bias = norm.weight.clone(), norm.bias.clone()
    chosen = torch.randperm(len(weight), generator=generator)[:3]
    norm.weight[chosen] = 0.0
    norm.bias[chosen] = 0.0
    try:
        yield
    finally:
        norm.weight.copy_(weight)
        norm.bias.copy_(bias)
