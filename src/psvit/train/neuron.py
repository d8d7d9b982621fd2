"""SpikingJelly's LIF neuron with the same numbers, forward and backward, in fewer passes.

The stock multi-step loop takes about forty passes over memory on a CPU and keeps every
intermediate result for autograd. Here the backward recomputes the membrane potential from the
input, and both loops are compiled where a C++ compiler is at hand. Only for training: the
potential is not kept after the batch, which is reset anyhow.

    h[t] = v[t-1] + (x[t] - (v[t-1] - reset)) / tau     charge
    s[t] = 1 if h[t] >= threshold else 0                fire
    v[t] = (1 - s[t]) h[t] + s[t] reset                 hard reset

Gradient: s'(h) = alpha sig(alpha u) (1 - sig(alpha u)) with u = h - threshold; none flows through
the reset (``detach_reset``). T steps, N everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import nn

Spike = Callable[[torch.Tensor, float, float, float], torch.Tensor]
SpikeGradient = Callable[[torch.Tensor, torch.Tensor, float, float, float, float], torch.Tensor]


def spikes_of(x: torch.Tensor, tau: float, threshold: float, reset: float) -> torch.Tensor:
    """The spikes ``[T, N]`` of the input currents ``x [T, N]``, from rest."""
    v = torch.full_like(x[0], reset, dtype=torch.float32)
    spikes = []
    for current in x.unbind(0):
        h = v + (current - (v - reset)) / tau
        s = (h >= threshold).to(h.dtype)
        spikes.append(s.to(x.dtype))
        v = (1.0 - s) * h + s * reset
    return torch.stack(spikes)


def gradient_of(
    x: torch.Tensor, grad: torch.Tensor, tau: float, threshold: float, reset: float, alpha: float
) -> torch.Tensor:
    """The gradient for ``x`` given that for the spikes, both ``[T, N]``."""
    v = torch.full_like(x[0], reset, dtype=torch.float32)
    charged, fired = [], []
    for current in x.unbind(0):
        h = v + (current - (v - reset)) / tau
        s = (h >= threshold).to(h.dtype)
        charged.append(h)
        fired.append(s)
        v = (1.0 - s) * h + s * reset
    carried = torch.zeros_like(v)
    grads = []
    for h, s, g in zip(reversed(charged), reversed(fired), reversed(grad.unbind(0)), strict=True):
        sigmoid = torch.sigmoid(alpha * (h - threshold))
        on_h = g * (alpha * (1.0 - sigmoid) * sigmoid) + carried * (1.0 - s)
        on_x = on_h / tau
        grads.append(on_x.to(x.dtype))
        carried = on_h - on_x
    return torch.stack(grads[::-1])


class _Lif(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        tau: float,
        threshold: float,
        reset: float,
        alpha: float,
        kernels: tuple[Spike, SpikeGradient],
    ) -> torch.Tensor:
        axes = _axes_in_memory(x)
        flat = _flat(x, axes)
        ctx.save_for_backward(flat)
        ctx.constants = tau, threshold, reset, alpha
        ctx.gradient, ctx.axes = kernels[1], axes
        return _restore(kernels[0](flat, tau, threshold, reset), x, axes)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (flat,) = ctx.saved_tensors
        on_x = ctx.gradient(flat, _flat(grads[0], ctx.axes), *ctx.constants)
        return _restore(on_x, grads[0], ctx.axes), None, None, None, None, None


class _TracedLif(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, tau: float, threshold: float, reset: float, alpha: float
    ) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.constants = tau, threshold, reset, alpha
        return spikes_of(x, tau, threshold, reset)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        return gradient_of(x, grads[0], *ctx.constants), None, None, None, None


def _axes_in_memory(x: torch.Tensor) -> list[int]:
    """The axes, T first, then as they lie in memory: so that ``[T, N]`` is a view of ``x``."""
    strides = x.stride()
    return [0, *sorted(range(1, x.ndim), key=lambda axis: -strides[axis])]


def _flat(x: torch.Tensor, axes: list[int]) -> torch.Tensor:
    """``x`` as ``[T, N]``, sharing its memory if that is in this order.

    Not a view in torch's sense: the compiler would guard on the shape of what it is a view of,
    and compile anew for every layer.
    """
    ordered = x.permute(axes).contiguous()
    shape = (len(x), ordered.numel() // len(x))
    place = ordered.untyped_storage(), ordered.storage_offset(), shape, (shape[1], 1)
    return x.new_empty(0).set_(*place)


def _restore(flat: torch.Tensor, like: torch.Tensor, axes: list[int]) -> torch.Tensor:
    """``[T, N]`` as a view with the shape and the order in memory that ``like`` had."""
    ordered = flat.view([like.shape[axis] for axis in axes])
    return ordered.permute([axes.index(axis) for axis in range(like.ndim)])


_PLAIN: tuple[Spike, SpikeGradient] = (spikes_of, gradient_of)


@cache
def _compiled(device: str) -> tuple[Spike, SpikeGradient]:
    """Both loops, compiled; as they stand where there is no working compiler for ``device``."""
    forward = torch.compile(spikes_of, dynamic=True)
    backward = torch.compile(gradient_of, dynamic=True)
    try:
        probe = torch.zeros(2, 64, device=device)
        with torch.no_grad():
            forward(probe, 2.0, 1.0, 0.0)
            backward(probe, probe, 2.0, 1.0, 0.0, 4.0)
    except Exception:
        # Inductor raises whatever its tool chain does; slower is no reason to fail.
        return _PLAIN
    return forward, backward


@contextmanager
def fast_neurons(model: nn.Module, *, compiled: bool) -> Iterator[int]:
    """Within the block, compute plain LIF neurons this way; yields how many there are.

    ``compiled`` costs half a minute, the first time on a machine. Weights are untouched.
    """
    place = next((p.device.type for p in model.parameters()), "cpu")
    kernels = _compiled(place) if compiled and _plain_lifs(model) else _PLAIN
    with _replaced(model, partial(_fire, kernels)) as count:
        yield count


@contextmanager
def traceable_neurons(model: nn.Module) -> Iterator[int]:
    """As ``fast_neurons``, for a model that is compiled as a whole: the compiler sees inside."""
    with _replaced(model, _fire_traced) as count:
        yield count


@contextmanager
def _replaced(model: nn.Module, fire: Callable[[Any, torch.Tensor], torch.Tensor]) -> Iterator[int]:
    nodes = _plain_lifs(model)
    for node in nodes:
        node.forward = partial(fire, node)
    try:
        yield len(nodes)
    finally:
        for node in nodes:
            del node.forward


def _fire(kernels: tuple[Spike, SpikeGradient], node: Any, x: torch.Tensor) -> torch.Tensor:
    run: Any = _Lif.apply  # torch ships no signature for it
    spikes: torch.Tensor = run(x, *_constants(node), kernels)
    return spikes


def _fire_traced(node: Any, x: torch.Tensor) -> torch.Tensor:
    run: Any = _TracedLif.apply
    spikes: torch.Tensor = run(x, *_constants(node))
    return spikes


def _constants(node: Any) -> tuple[float, float, float, float]:
    alpha = float(node.surrogate_function.alpha)
    return node.tau, node.v_threshold, node.v_reset, alpha


def _plain_lifs(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if _is_plain_lif(module)]


def _is_plain_lif(module: Any) -> bool:
    """Whether this is SpikingJelly's own LIFNode in exactly the form computed here."""
    kind = type(module)
    return (
        kind.__name__ == "LIFNode"
        and kind.__module__.startswith("spikingjelly.")
        and type(module.surrogate_function).__name__ == "Sigmoid"
        and module.surrogate_function.spiking
        and module.step_mode == "m"
        and module.decay_input
        and module.detach_reset
        and module.v_reset is not None
        and not module.store_v_seq
        and not module._forward_hooks
        and "forward" not in vars(module)
    )
