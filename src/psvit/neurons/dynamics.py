"""What a plain IF or LIF neuron computes, as constants.

    h[t] = v[t-1] + x[t]                                  IF
    h[t] = v[t-1] + (x[t] - (v[t-1] - r)) / tau           LIF that also decays its input
    h[t] = v[t-1] - (v[t-1] - r) / tau + x[t]             LIF that does not
    s[t] = 1 if h[t] >= threshold else 0
    v[t] = r if s[t] else h[t]                            hard reset, to r
    v[t] = h[t] - s[t] threshold                          soft reset; then r = 0

(Fang et al., "SpikingJelly", Science Advances 2023, equations 1 to 4.) From rest, v[-1] = r, as
after ``reset()``: nothing is remembered from one forward to the next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from torch import nn

_OLD, _NEW = "psvit.compat.neurons", "spikingjelly."


@dataclass(frozen=True)
class Dynamics:
    """The constants of a layer: ``tau`` None is IF, ``reset`` None is the soft reset."""

    threshold: float
    reset: float | None
    tau: float | None = None
    decay_input: bool = True

    rest: float = field(init=False)
    """The potential before the first input."""
    leak: float | None = field(init=False)
    """``1 / tau``, if multiplying by it is exactly dividing by tau."""

    def __post_init__(self) -> None:
        exact = self.tau is not None and math.frexp(self.tau)[0] == 0.5
        object.__setattr__(self, "rest", 0.0 if self.reset is None else self.reset)
        object.__setattr__(self, "leak", 1.0 / self.tau if exact and self.tau else None)


def dynamics_of(module: nn.Module) -> Dynamics | None:
    """The constants of a neuron that is computed exactly as above; None for any other.

    That is SpikingJelly's own IFNode and LIFNode, and psvit's of its older releases, in
    multi-step mode and with nothing overridden, hooked in or recorded.
    """
    hooked = module._forward_hooks or module._forward_pre_hooks
    return None if hooked or "forward" in vars(module) else dynamics_inside(module)


def dynamics_inside(module: nn.Module) -> Dynamics | None:
    """As ``dynamics_of``, of what its class computes, whatever is done with that."""
    kind: Any = type(module)
    node: Any = module
    name = kind.__name__.removeprefix("MultiStep")
    old = kind.__module__ == _OLD
    if name not in ("IFNode", "LIFNode") or not (old or kind.__module__.startswith(_NEW)):
        return None
    surrogate = node.surrogate_function
    if (
        node.step_mode != "m"
        or node.store_v_seq
        or not type(surrogate).__module__.startswith((_NEW, "psvit.compat."))
        or not getattr(surrogate, "spiking", True)
        or getattr(node, "_neuron_precision", None) is not None
    ):
        return None
    reset = None if node.v_reset is None else float(node.v_reset)
    if name == "IFNode":
        return Dynamics(float(node.v_threshold), reset)
    found = Dynamics(float(node.v_threshold), reset, float(node.tau), bool(node.decay_input))
    # SpikingJelly 0.0.0.0.12 wrote this charge as a product, which rounds alike only here.
    reordered = old and not found.decay_input and found.rest == 0
    return None if reordered and found.leak is None else found
