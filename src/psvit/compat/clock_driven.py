"""``spikingjelly.clock_driven`` (up to 0.0.0.0.12) as modules over SpikingJelly 2.

Neurons keep the old equations (neurons.py); layers, surrogates and functions are those of
``activation_based``, whose single-step defaults are what ``clock_driven`` did.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from psvit.compat.standins import RealModule

NAME = "spikingjelly.clock_driven"
_PARTS = ("base", "encoding", "functional", "layer", "lava_exchange", "monitor", "neuron", "rnn")
PARTS = (*_PARTS, "surrogate")


def build(part: str = "") -> ModuleType:
    """The stand-in for ``spikingjelly.clock_driven`` or one of its PARTS."""
    if not part:
        return RealModule(NAME, {}, PARTS)
    return RealModule(f"{NAME}.{part}", _contents(part))


def _contents(part: str) -> dict[str, Any]:
    if part == "neuron":
        from psvit.compat.neurons import NEURONS

        names = {neuron.__name__: neuron for neuron in NEURONS}
        return names | {p: build(p) for p in ("surrogate", "base")}
    from psvit.compat import clock_driven_layers as renamed
    from psvit.compat.clock_driven_surrogates import SURROGATES

    if part == "lava_exchange":
        return dict(renamed.LAVA)
    changed = {"layer": renamed.LAYERS, "surrogate": SURROGATES, "functional": renamed.FUNCTIONS}
    now = importlib.import_module(f"spikingjelly.activation_based.{part}")
    public = {n: v for n, v in vars(now).items() if not n.startswith("_")}
    return public | changed.get(part, {})
