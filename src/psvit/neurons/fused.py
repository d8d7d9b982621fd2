"""Multi-step IF and LIF neurons in eval mode: the same spikes in fewer passes over memory.

The operations of ``psvit.neurons.dynamics`` in SpikingJelly's order, so that sums on the threshold
round alike; only a division by a power of two is a product here, which is the same number.

On a CPU they are one function in C where that can be compiled (``psvit.neurons.kernel``). Else,
and in float64, the loop runs over pieces that stay in the cache, in place, four passes a time step,
and three for the first. On other devices it is compiled to one kernel. T steps, N everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from psvit.neurons.dynamics import Dynamics
from psvit.neurons.kernel import steps_in_c

PIECE = 1 << 17
"""Elements of one time step that are worked on at a time, for one thread: 0.5 MB of float32."""


class FusedNeuron(nn.Module):
    """Stands in the place of a multi-step neuron layer: ``[T, *]`` -> spikes ``[T, *]``."""

    def __init__(self, dynamics: Dynamics) -> None:
        super().__init__()
        self.dynamics = dynamics
        self.v_threshold = dynamics.threshold  # how cost and report know a neuron

    def forward(self, x: Tensor) -> Tensor:
        """Spikes of the dtype of ``x``; half precision is computed in float32."""
        if torch.compiler.is_compiling():
            return spikes_in_steps(x, self.dynamics)
        if x.device.type == "cpu":
            return spikes_on_cpu(x.detach(), self.dynamics)
        return _compiled(x.device.type)(x, self.dynamics)

    def extra_repr(self) -> str:
        """What tells one from another."""
        return str(self.dynamics)


def spikes_in_steps(x: Tensor, dynamics: Dynamics) -> Tensor:
    """The equations as they stand, for compilers and exporters: ``[T, *]`` -> ``[T, *]``."""
    rest, threshold = dynamics.rest, dynamics.threshold
    inputs = _in_single(x)
    v: Tensor | None = None
    spikes = []
    for current in torch.split(
        inputs, 1
    ):  # not unbound: joining them again then takes one operation
        h = _charged(current, v, dynamics)
        fired = h >= threshold
        spikes.append(fired.to(x.dtype))
        if dynamics.reset is None:
            v = h - fired.to(h.dtype) * threshold
        else:
            v = torch.where(fired, rest, h)
    return torch.cat(spikes)


def _charged(x: Tensor, v: Tensor | None, dynamics: Dynamics) -> Tensor:
    rest, tau, leak = dynamics.rest, dynamics.tau, dynamics.leak
    if tau is None:
        return (x + rest if rest else x) if v is None else v + x

    def leaked(y: Tensor) -> Tensor:
        return y * leak if leak is not None else y / tau

    if v is None:  # at rest
        y = leaked(x) if dynamics.decay_input else x
        return y + rest if rest else y
    above = v - rest if rest else v
    return v + leaked(x - above) if dynamics.decay_input else v - leaked(above) + x


def _in_single(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def spikes_on_cpu(x: Tensor, dynamics: Dynamics) -> Tensor:
    """As ``spikes_in_steps``, laid out as ``x``, without a gradient: the fastest way."""
    found = steps_in_c(_in_single(x), dynamics)
    return spikes_in_place(x, dynamics) if found is None else found.to(x.dtype)


def spikes_in_place(x: Tensor, dynamics: Dynamics) -> Tensor:
    """As ``spikes_in_steps``, piece by piece in two buffers: on a CPU, without a gradient.

    Spikes come in the memory layout of ``x``, which is copied only if time is not its slowest axis.
    """
    steps = x.stride()
    order = [0, *sorted(range(1, x.ndim), key=lambda axis: (-steps[axis], axis))]
    if not x.permute(order).is_contiguous():
        x, order = x.contiguous(), [*range(x.ndim)]
    spikes = _spikes_of(x.permute(order), dynamics)
    return spikes.permute([order.index(axis) for axis in range(x.ndim)])


def _spikes_of(x: Tensor, dynamics: Dynamics) -> Tensor:
    """The same of a contiguous ``x``."""
    inputs = _in_single(x)
    flat = inputs.view(x.shape[0], -1)
    spikes = torch.empty_like(flat)
    width = min(PIECE * torch.get_num_threads(), flat.shape[1])
    buffers = flat.new_empty(2, width)
    for start in range(0, flat.shape[1], max(width, 1)):
        piece = slice(start, start + width)
        part = flat[:, piece]
        h, y = (b[: part.shape[1]] for b in buffers.unbind(0))
        _run_piece(part.unbind(0), spikes[:, piece].unbind(0), h, y, dynamics)
    return spikes.view(x.shape).to(x.dtype)


def _run_piece(
    inputs: tuple[Tensor, ...], spikes: tuple[Tensor, ...], h: Tensor, y: Tensor, d: Dynamics
) -> None:
    """All time steps of one piece. ``h`` holds -h[t], then -v[t]: negated, so that
    ``nn.functional.threshold``, which keeps what is above a value, is the hard reset."""
    leak = None if d.leak is None else -d.leak
    scale = leak if d.tau is not None and d.decay_input else -1.0  # h[0] = scale x[0] from rest 0
    for t, (x, s) in enumerate(zip(inputs, spikes, strict=True)):
        if t == 0 and not d.rest and scale is not None:
            torch.mul(x, scale, out=h)
            _fire_and_reset(h, s, d, last=len(inputs) == 1)
            continue
        if t == 0:
            h.fill_(-d.rest)
        if d.tau is None:
            torch.sub(h, x, out=h)
        else:
            above = torch.add(h, d.rest, out=y) if d.rest else h  # -(v - r)
            if d.decay_input:
                torch.add(x, above, out=y)
                if leak is not None:
                    h.add_(y, alpha=leak)
                else:
                    h.sub_(y.div_(d.tau))
            else:
                if leak is not None:
                    h.add_(above, alpha=leak)
                else:
                    h.sub_(torch.div(above, d.tau, out=y))
                h.sub_(x)
        _fire_and_reset(h, s, d, last=t + 1 == len(inputs))


def _fire_and_reset(h: Tensor, s: Tensor, d: Dynamics, *, last: bool) -> None:
    """Spikes into ``s``; ``h``, which is -h[t], becomes -v[t] unless that is asked for no more."""
    torch.le(h, -d.threshold, out=s)
    if last:
        return
    if d.reset is None:
        h.add_(s, alpha=d.threshold)
    else:
        functional.threshold(h, -d.threshold, -d.rest, inplace=True)


@cache
def _compiled(device: str) -> Callable[[Tensor, Dynamics], Tensor]:
    """The steps as one kernel of an accelerator; as they stand where there is no compiler."""
    compiled: Callable[[Tensor, Dynamics], Tensor] = torch.compile(spikes_in_steps, dynamic=True)

    def run(x: Tensor, dynamics: Dynamics) -> Tensor:
        with torch.no_grad():
            # Always of two axes: the compiler makes another kernel for each number of them.
            return compiled(x.contiguous().view(len(x), -1), dynamics).view(x.shape)

    try:
        run(torch.zeros(2, 64, device=device), Dynamics(1.0, 0.0, 2.0))
    except Exception:
        # The compiler raises whatever its tool chain does; slower is no reason to fail.
        return spikes_in_steps
    return run
