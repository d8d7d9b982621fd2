"""Neuron state: what spiking layers remember from one time step, or one batch, to the next."""

from __future__ import annotations

from torch import nn


def reset_state(model: nn.Module) -> None:
    """Forget every membrane potential, as ``spikingjelly.activation_based.functional.reset_net``.

    Calls ``reset()`` on each submodule that has one, so neurons of other libraries and a user's
    own take part; modules without state are left alone.
    """
    for module in model.modules():
        reset = getattr(module, "reset", None)
        if callable(reset):
            reset()
