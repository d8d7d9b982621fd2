"""Spiking neurons as SpikingJelly 0.0.0.0.12 computed them, on the classes of SpikingJelly 2.

Shape legend: T steps, N batch. One step of a neuron with input ``x[t]`` of shape ``[N, *]``:

    charge   h[t] = f(v[t-1], x[t])              the equation of each class
    fire     s[t] = Theta(h[t] - v_threshold)    1 where h[t] >= v_threshold; surrogate gradient
    reset    v[t] = h[t] - s[t] * v_threshold               v_reset is None: soft
             v[t] = (1 - s[t]) * h[t] + s[t] * v_reset      otherwise: hard

``detach_reset`` keeps the gradient out of ``s[t]`` in the reset. The ``MultiStep*`` classes take
``[T, N, *]`` and run the T steps; the others take one step a call. All of them remember ``v``
until ``reset()``.

Two things that SpikingJelly 2 does otherwise are kept as they were, because published models rely
on them: a subclass may override ``neuronal_charge``, ``neuronal_fire`` or ``neuronal_reset`` and
is obeyed, and the operations come in the old order, so that a sum on the threshold rounds alike.
``backend`` is accepted and ignored: "cupy" was a faster way to the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn

from psvit.errors import ModelError

Surrogate = Callable[[Tensor], Tensor]

BACKENDS = ("torch", "cupy")


class BaseNode(neuron.BaseNode):  # type: ignore[misc]
    """The old base class: one step by ``neuronal_charge``, ``neuronal_fire``, ``neuronal_reset``.

    Args:
        v_threshold: the voltage from which the neuron fires.
        v_reset: the voltage after a spike, or None to subtract the threshold instead.
        surrogate_function: what fires, with the gradient used in its place; Sigmoid by default.
        detach_reset: leave the reset out of the backward pass.
        cupy_fp32_inference: accepted and ignored.
    """

    v: Any  # a float until the first input, then [N, *]

    def __init__(
        self,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: Surrogate | None = None,
        detach_reset: bool = False,
        cupy_fp32_inference: bool = False,
    ) -> None:
        # Not super(): the next class in line may be a SpikingJelly neuron with other arguments.
        neuron.BaseNode.__init__(
            self,
            v_threshold=float(v_threshold),
            v_reset=None if v_reset is None else float(v_reset),
            surrogate_function=surrogate.Sigmoid()
            if surrogate_function is None
            else surrogate_function,
            detach_reset=detach_reset,
            step_mode="s",
        )

    def neuronal_charge(self, x: Tensor) -> None:
        """Update ``self.v`` from one input ``[N, *]``."""
        raise NotImplementedError(f"{type(self).__name__} has no neuronal_charge")

    def neuronal_fire(self) -> Tensor:
        """The spikes ``[N, *]`` at the present voltage."""
        spikes: Tensor = self.surrogate_function(self.v - self.v_threshold)
        return spikes

    def neuronal_reset(self, spike: Tensor) -> None:
        """Update ``self.v`` after ``spike``."""
        spent = spike.detach() if self.detach_reset else spike
        if self.v_reset is None:
            self.v = self.v - spent * self.v_threshold
        else:
            self.v = (1.0 - spent) * self.v + spent * self.v_reset

    def single_step_forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Charge, fire, reset: ``[N, *]`` to spikes ``[N, *]``."""
        self.neuronal_charge(x)
        spike = self.neuronal_fire()
        self.neuronal_reset(spike)
        return spike

    def multi_step_forward(self, x_seq: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The T steps of ``[T, N, *]``, one after the other."""
        spikes, voltages = [], []
        for x in x_seq:
            spikes.append(self.single_step_forward(x))
            if self.store_v_seq:
                voltages.append(self.v)
        self.v_seq = torch.stack(voltages) if voltages else None
        return torch.stack(spikes)

    def single_step_functional_forward(
        self, inputs: tuple[Tensor, ...], states: tuple[object, ...], **kwargs: object
    ) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
        """The same step for callers that keep the state themselves."""
        kept = dict(self._memories)
        try:
            self._memories.update(zip(kept, states, strict=True))
            spike = self.single_step_forward(inputs[0])
            return (spike,), tuple(self._memories.values())
        finally:
            self._memories.update(kept)

    def multi_step_functional_forward(
        self, inputs: tuple[Tensor, ...], states: tuple[object, ...], **kwargs: object
    ) -> tuple[tuple[Tensor, ...], tuple[object, ...]]:
        """The same T steps for callers that keep the state themselves."""
        spikes = []
        for x in inputs[0]:
            (spike,), states = self.single_step_functional_forward((x,), states)
            spikes.append(spike)
        return (torch.stack(spikes),), states


class _MultiStep(BaseNode):
    """Mixed in before a single-step class: the same neuron on ``[T, N, *]``."""

    def _run_many_steps(self, backend: str) -> None:
        if backend not in BACKENDS:
            raise ModelError(
                f"{type(self).__name__}: backend {backend!r} computes another neuron, expected one "
                f"of {', '.join(BACKENDS)} (both give the same numbers)"
            )
        self.backend = backend
        self.step_mode = "m"


class IFNode(BaseNode, neuron.IFNode):  # type: ignore[misc]
    """Integrate and fire: ``h[t] = v[t-1] + x[t]``."""

    def neuronal_charge(self, x: Tensor) -> None:
        self.v = self.v + x


class MultiStepIFNode(_MultiStep, IFNode):
    """``IFNode`` on ``[T, N, *]``."""

    def __init__(
        self,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: Surrogate | None = None,
        detach_reset: bool = False,
        backend: str = "torch",
        lava_s_cale: int = 1 << 6,
    ) -> None:
        IFNode.__init__(self, v_threshold, v_reset, surrogate_function, detach_reset)
        self._run_many_steps(backend)


class LIFNode(BaseNode, neuron.LIFNode):  # type: ignore[misc]
    """Leaky integrate and fire, with rest ``r = v_reset``, or 0 for a soft reset.

    ``h[t] = v[t-1] + (x[t] - (v[t-1] - r)) / tau`` if ``decay_input``,
    else ``h[t] = v[t-1] - (v[t-1] - r) / tau + x[t]``.
    """

    def __init__(
        self,
        tau: float = 2.0,
        decay_input: bool = True,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: Surrogate | None = None,
        detach_reset: bool = False,
        cupy_fp32_inference: bool = False,
    ) -> None:
        if not tau > 1:
            raise ModelError(f"{type(self).__name__}: tau must be more than 1, got {tau!r}")
        super().__init__(v_threshold, v_reset, surrogate_function, detach_reset)
        self.tau = float(tau)
        self.decay_input = decay_input

    def neuronal_charge(self, x: Tensor) -> None:
        rests_at_zero = self.v_reset is None or self.v_reset == 0.0
        if self.decay_input:
            if rests_at_zero:
                self.v = self.v + (x - self.v) / self.tau
            else:
                self.v = self.v + (x - (self.v - self.v_reset)) / self.tau
        elif rests_at_zero:
            self.v = self.v * (1.0 - 1.0 / self.tau) + x
        else:
            self.v = self.v - (self.v - self.v_reset) / self.tau + x


class MultiStepLIFNode(_MultiStep, LIFNode):
    """``LIFNode`` on ``[T, N, *]``: the neuron of most published spiking transformers."""

    def __init__(
        self,
        tau: float = 2.0,
        decay_input: bool = True,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: Surrogate | None = None,
        detach_reset: bool = False,
        backend: str = "torch",
        lava_s_cale: int = 1 << 6,
    ) -> None:
        LIFNode.__init__(
            self, tau, decay_input, v_threshold, v_reset, surrogate_function, detach_reset
        )
        self._run_many_steps(backend)


class ParametricLIFNode(BaseNode, neuron.ParametricLIFNode):  # type: ignore[misc]
    """``LIFNode`` whose ``1 / tau = sigmoid(w)`` is learned; ``w`` starts at ``init_tau``."""

    def __init__(
        self,
        init_tau: float = 2.0,
        decay_input: bool = True,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: Surrogate | None = None,
        detach_reset: bool = False,
    ) -> None:
        if not init_tau > 1:
            raise ModelError(
                f"{type(self).__name__}: init_tau must be more than 1, got {init_tau!r}"
            )
        super().__init__(v_threshold, v_reset, surrogate_function, detach_reset)
        self.decay_input = decay_input
        self.w = nn.Parameter(torch.as_tensor(-math.log(init_tau - 1.0)))

    def neuronal_charge(self, x: Tensor) -> None:
        rests_at_zero = self.v_reset is None or self.v_reset == 0.0
        if self.decay_input:
            if rests_at_zero:
                self.v = self.v + (x - self.v) * self.w.sigmoid()
            else:
                self.v = self.v + (x - (self.v - self.v_reset)) * self.w.sigmoid()
        elif rests_at_zero:
            self.v = self.v * (1.0 - self.w.sigmoid()) + x
        else:
            self.v = self.v - (self.v - self.v_reset) * self.w.sigmoid() + x


class MultiStepParametricLIFNode(_MultiStep, ParametricLIFNode):
    """``ParametricLIFNode`` on ``[T, N, *]``."""

    def __init__(
        self,
        init_tau: float = 2.0,
        decay_input: bool = True,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        surrogate_function: Surrogate | None = None,
        detach_reset: bool = False,
        backend: str = "torch",
    ) -> None:
        ParametricLIFNode.__init__(
            self, init_tau, decay_input, v_threshold, v_reset, surrogate_function, detach_reset
        )
        self._run_many_steps(backend)


NEURONS: tuple[type[BaseNode], ...] = (
    BaseNode,
    IFNode,
    MultiStepIFNode,
    LIFNode,
    MultiStepLIFNode,
    ParametricLIFNode,
    MultiStepParametricLIFNode,
)

_STEP = ("neuronal_charge", "neuronal_fire", "neuronal_reset")
_FORWARDS = (
    "single_step_forward",
    "multi_step_forward",
    "single_step_functional_forward",
    "multi_step_functional_forward",
)


def overridden(kind: type, library: type) -> list[str]:
    """The parts of the old step that ``kind`` overrides, while its forward is ``library``'s own.

    SpikingJelly 2 does not call them: such a neuron was written for an older release.
    """
    own = {name for c in kind.__mro__[: kind.__mro__.index(library)] for name in vars(c)}
    return [] if own & set(_FORWARDS) else [name for name in _STEP if name in own]


def step_as_before(kind: type, library: type) -> None:
    """Let the forward of ``kind``, a subclass of ``library``'s, go by the old step again.

    What it does not override is as in the class of the same name above.

    Raises:
        ModelError: ``library`` is a neuron that psvit has no old equations for.
    """
    olds = {old.__name__: old for old in (BaseNode, IFNode, LIFNode, ParametricLIFNode)}
    old = olds.get(library.__name__)
    if old is None:
        raise ModelError(
            f"{kind.__name__} overrides {', '.join(overridden(kind, library))} of SpikingJelly's "
            f"{library.__name__}, which the installed release does not call: expected a neuron "
            f"derived from {', '.join(olds)}, or one that overrides single_step_functional_forward"
        )
    own = {name for c in kind.__mro__[: kind.__mro__.index(library)] for name in vars(c)}
    for name in (*_STEP, *_FORWARDS):
        if name not in own:
            setattr(kind, name, getattr(old, name))
