"""Input sequences, and the spikes and voltages that the equations give for them by hand.

All numbers are sums of powers of two (or nearly so): float64 holds them exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sequence:
    """What a neuron with these arguments makes of ``x``: one number a time step."""

    name: str
    kind: str
    x: tuple[float, ...]
    spikes: tuple[float, ...]
    voltages: tuple[float, ...]  # after the reset
    arguments: dict[str, Any] = field(default_factory=dict)


SEQUENCES = (
    # h = v + (x - v) / 2; h = 1 fires: the threshold itself is enough
    Sequence(
        "lif by default: tau 2, decayed input, threshold 1, hard reset to 0",
        "MultiStepLIFNode",
        x=(1.0, 1.5, 0.5, 3.0, 0.0),
        spikes=(0, 1, 0, 1, 0),
        voltages=(0.5, 0.0, 0.25, 0.0, 0.0),
    ),
    # the fourth step reaches 1.625 and keeps 0.625, which then decays towards 0
    Sequence(
        "lif, soft reset",
        "MultiStepLIFNode",
        x=(1.0, 1.5, 0.5, 3.0, 0.0),
        spikes=(0, 1, 0, 1, 0),
        voltages=(0.5, 0.0, 0.25, 0.625, 0.3125),
        arguments={"v_reset": None},
    ),
    # starts at -0.5; h = v + (x - (v + 0.5)) / 2
    Sequence(
        "lif, hard reset to -0.5",
        "MultiStepLIFNode",
        x=(1.0, 2.0, 2.0, 1.0),
        spikes=(0, 0, 1, 0),
        voltages=(0.0, 0.75, -0.5, 0.0),
        arguments={"v_reset": -0.5},
    ),
    # h = v / 2 + x
    Sequence(
        "lif, input not decayed",
        "MultiStepLIFNode",
        x=(0.75, 0.75, 0.5, 0.5),
        spikes=(0, 1, 0, 0),
        voltages=(0.75, 0.0, 0.5, 0.75),
        arguments={"decay_input": False},
    ),
    # h = v - (v + 0.5) / 2 + x, from -0.5
    Sequence(
        "lif, input not decayed, hard reset to -0.5",
        "MultiStepLIFNode",
        x=(1.0, 1.0, 0.25),
        spikes=(0, 1, 0),
        voltages=(0.5, -0.5, -0.25),
        arguments={"decay_input": False, "v_reset": -0.5},
    ),
    # h = v / 2 + x; 1.25 keeps 0.25
    Sequence(
        "lif, input not decayed, soft reset",
        "MultiStepLIFNode",
        x=(0.5, 1.0, 0.5),
        spikes=(0, 1, 0),
        voltages=(0.5, 0.25, 0.625),
        arguments={"decay_input": False, "v_reset": None},
    ),
    # h = v + (x - v) / 4
    Sequence(
        "lif, tau 4, threshold 0.5",
        "MultiStepLIFNode",
        x=(1.0, 1.0, 2.0, 2.0),
        spikes=(0, 0, 1, 1),
        voltages=(0.25, 0.4375, 0.0, 0.0),
        arguments={"tau": 4.0, "v_threshold": 0.5},
    ),
    # h = v + x
    Sequence(
        "if, hard reset",
        "MultiStepIFNode",
        x=(0.5, 0.25, 0.5, -0.25),
        spikes=(0, 0, 1, 0),
        voltages=(0.5, 0.75, 0.0, -0.25),
    ),
    Sequence(
        "if, soft reset",
        "MultiStepIFNode",
        x=(0.5, 1.75, 0.0),
        spikes=(0, 1, 1),
        voltages=(0.5, 1.25, 0.25),
        arguments={"v_reset": None},
    ),
    # 1 / tau = sigmoid(w) = 1 / 4
    Sequence(
        "plif, init_tau 4",
        "MultiStepParametricLIFNode",
        x=(2.0, 2.0, 2.0, 2.0),
        spikes=(0, 0, 1, 0),
        voltages=(0.5, 0.875, 0.0, 0.5),
        arguments={"init_tau": 4.0},
    ),
    # h = v * 3 / 4 + x
    Sequence(
        "plif, input not decayed",
        "MultiStepParametricLIFNode",
        x=(0.5, 0.5, 0.5),
        spikes=(0, 0, 1),
        voltages=(0.5, 0.875, 0.0),
        arguments={"init_tau": 4.0, "decay_input": False},
    ),
)
