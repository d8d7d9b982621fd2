"""Energy of one image by the convention of the papers on spiking transformers.

    E = 4.6 pJ x MACs of real-valued operations + 0.9 pJ x SOPs of spike-driven ones

at 45 nm in fp32: a multiplication takes 3.7 pJ and an addition 0.9 pJ (M. Horowitz, "Computing's
energy problem (and what we can do about it)", ISSCC 2014). Spikformer (Zhou et al., ICLR 2023) and
the Spike-driven Transformer (Yao et al., NeurIPS 2023) report their models so.

The papers estimate SOPs as firing rate x T x MACs; psvit counts them (``psvit.cost.sops``), which
is less: border positions reach fewer outputs, and a product of two spike tensors only accumulates
where both fire. Spikformer's authors also count layers that read an ADD shortcut as spike-driven;
its values are sums of spikes, numbers of several bits, so here (and in SpikingJelly) those are
MACs, which raises the energy of such models.

Left out, as in the papers: memory traffic, the neurons' own updates, batch norm (folded into the
layer before it), pooling, and shortcuts. It is a figure to compare models of one kind by;
``psvit.cost.jelly`` has a model that counts memory.
"""

from __future__ import annotations

from collections.abc import Mapping

from psvit.cost.rates import Rates

MAC_PJ = 4.6
"""A multiply-accumulate, fp32, 45 nm: 3.7 pJ + 0.9 pJ."""
AC_PJ = 0.9
"""An accumulate, fp32, 45 nm."""


def energy_pj(macs: float, sops: float) -> float:
    """Energy in picojoules of ``macs`` real-valued multiply-accumulates and ``sops`` spikes.

    >>> round(energy_pj(macs=10, sops=100), 6)
    136.0
    """
    return MAC_PJ * macs + AC_PJ * sops


def layer_energy_pj(rates: Rates) -> Mapping[str, float]:
    """Energy of one image in every layer, by name."""
    return {name: energy_pj(layer.macs, layer.sops) for name, layer in rates.layers.items()}
