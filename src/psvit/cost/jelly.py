"""Energy by SpikingJelly's counters, with memory traffic: another model than ``energy.py``'s.

    E = 4.6 pJ x MACs + 0.9 pJ x ACs + 24.96 pJ x bytes of weights, biases and neuron state moved

SpikingJelly 2 defines it ("simple energy": Horowitz 2014 for arithmetic at 45 nm, STEP for
memory). It differs from the convention of the papers, so the two figures are never to be mixed:

- weights are read for every spike and output that it reaches, membrane potentials are read and
  written once a step: that is most of the energy;
- ACs also count additions in batch norm, neurons, pooling and shortcuts, not only in synapses, and
  MACs the scaling in batch norm (nothing is folded);
- operations are those of PyTorch's own kernels, so that a fused kernel has no rule.

What it cannot count is listed in ``missed``, never skipped in silence: operations without a rule,
and layers whose parameters or state are not counted as memory traffic. Neurons that are written in
plain PyTorch have no state that it could see; attention kernels have no rule.

The counters of operations and of memory run one after the other: together, SpikingJelly would
count the sums that its memory counter computes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from psvit.cost.spikes import is_neuron
from psvit.errors import DataError, MissingExtra, ModelError
from psvit.neurons import reset_state

try:
    from spikingjelly.activation_based.op_counter import (
        ACCounter,
        DispatchCounterMode,
        MACCounter,
        ModuleCounterMode,
        NeuromorphicMemoryAccessCounter,
        SimpleEnergyCostConfig,
    )
except ImportError as error:
    raise MissingExtra(
        f"energy with memory traffic needs SpikingJelly, which did not import ({error}): "
        "install it with `pip install 'psvit[spikingjelly]'`"
    ) from error

MODEL = "SpikingJelly simple energy: MACs, ACs, and memory traffic, fp32, 45 nm"

BETWEEN = "between layers"
"""Where operations are listed that no layer holds, such as products of activations."""

_FREE = frozenset(
    {"view", "_unsafe_view", "reshape", "permute", "transpose", "t", "expand", "unsqueeze"}
    | {"squeeze", "slice", "select", "unbind", "split", "split_with_sizes", "chunk", "stack", "cat"}
    | {"clone", "detach", "alias", "copy_", "_to_copy", "repeat", "index", "constant_pad_nd"}
    | {"empty", "empty_like", "full", "full_like", "zeros", "zeros_like", "ones", "ones_like"}
    | {"as_strided", "lift_fresh", "arange", "scalar_tensor", "zero_", "fill_", "new_zeros"}
)
"""Kernels that move or make values and compute nothing."""


@dataclass(frozen=True)
class LayerEnergy:
    """One layer and one image, all T steps: operations, bytes moved, picojoules."""

    macs: float
    acs: float
    memory_bytes: float
    energy_pj: float


@dataclass(frozen=True)
class MemoryEnergy:
    """Energy of one image by ``model``, the mean over ``n`` images, in all and by layer.

    ``compute_pj + memory_pj = energy_pj``, which is also the sum over ``layers``. ``missed``: what
    the counters have no rule for, in words.
    """

    model: str
    n: int
    compute_pj: float
    memory_pj: float
    energy_pj: float
    layers: Mapping[str, LayerEnergy]
    missed: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold."""
        return {
            **{k: v for k, v in vars(self).items() if k not in ("layers", "missed")},
            "layers": {name: asdict(layer) for name, layer in self.layers.items()},
            "missed": list(self.missed),
        }


def memory_energy(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    limit: int | None = None,
    device: str | torch.device = "cpu",
) -> MemoryEnergy:
    """Run ``model`` on at most ``limit`` images of ``batches``, [B, C, H, W] or with labels after.

    Neuron state is reset before every batch; modes and device are restored. Raises DataError for
    no image, ModelError if the forward fails.
    """
    device = torch.device(device)
    macs, acs = MACCounter(), ACCounter()
    memory = NeuromorphicMemoryAccessCounter()
    operations = DispatchCounterMode([macs, acs])
    skipped: set[str] = set()
    n = 0
    with _settled(model, device):
        for batch in batches:
            images = batch if isinstance(batch, torch.Tensor) else batch[0]
            images = images[: None if limit is None else limit - n].to(device)
            n += len(images)
            for mode in (operations, ModuleCounterMode([memory], model=model)):
                reset_state(model)
                with mode:
                    _call(model, images)
            skipped |= _unsupported(operations, macs) & _unsupported(operations, acs)
            if n == limit:
                break
    if n == 0:
        raise DataError("the data have no images: nothing to measure energy on")
    missed = [f"the operation {name}" for name in sorted(skipped)]
    layers = _layers(model, macs, acs, memory, n)
    cost = SimpleEnergyCostConfig.fp32()
    compute = (macs.get_total() * cost.e_mac_pj + acs.get_total() * cost.e_ac_pj) / n
    moved = memory.get_total() * cost.e_memory_pj_per_byte / n
    return MemoryEnergy(
        MODEL,
        n,
        compute,
        moved,
        compute + moved,
        layers,
        (*missed, *_without_memory(model, memory)),
    )


def _call(model: nn.Module, images: torch.Tensor) -> None:
    try:
        model(images)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        raise ModelError(
            f"the model fails on a batch of shape {list(images.shape)}: "
            f"{(str(error).strip() or type(error).__name__).splitlines()[0]}"
        ) from error


def _layers(
    model: nn.Module,
    macs: MACCounter,
    acs: ACCounter,
    memory: NeuromorphicMemoryAccessCounter,
    n: int,
) -> dict[str, LayerEnergy]:
    """Every layer that costs something, and what is left over between them."""
    root = type(model).__name__
    counts = [counter.get_counts() for counter in (macs, acs, memory)]
    cost = SimpleEnergyCostConfig.fp32()

    def entry(figures: list[float]) -> LayerEnergy:
        mac, ac, moved = figures
        pj = mac * cost.e_mac_pj + ac * cost.e_ac_pj + moved * cost.e_memory_pj_per_byte
        return LayerEnergy(mac, ac, moved, pj)

    rest = [sum(count.get("Global", {}).values()) / n for count in counts]
    layers: dict[str, LayerEnergy] = {}
    for name, _ in _leaves(model):
        scope = f"{root}.{name}" if name else root
        figures = [sum(count.get(scope, {}).values()) / n for count in counts]
        rest = [left - one for left, one in zip(rest, figures, strict=True)]
        if any(figures):
            layers[name] = entry(figures)
    if any(left > 0 for left in rest):
        layers[BETWEEN] = entry(rest)
    return layers


def _leaves(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Layers without layers inside; a neuron counts as one, whatever it holds."""
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in inside:
            continue
        if is_neuron(module) or not any(True for _ in module.children()):
            inside.update(module.modules())
            yield name, module


def _without_memory(model: nn.Module, memory: NeuromorphicMemoryAccessCounter) -> list[str]:
    """Kinds of layers that hold parameters, or potentials, which the memory counter ignores."""
    kinds = Counter(
        type(module).__name__
        for _, module in _leaves(model)
        if not memory.has_rule(("forward", module))
        and (is_neuron(module) or any(True for _ in module.parameters(recurse=False)))
    )
    return [f"memory traffic of {count} {kind} layers" for kind, count in sorted(kinds.items())]


def _unsupported(mode: DispatchCounterMode, counter: Any) -> set[str]:
    """Kernels that compute, and that the counter has no rule for."""
    return {name.split(".")[1] for name in mode.get_unsupported(counter)} - _FREE


@contextmanager
def _settled(model: nn.Module, device: torch.device) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    home = next((p.device for p in model.parameters()), device)
    try:
        with torch.no_grad():
            model.to(device).eval()
            yield
    finally:
        reset_state(model)
        model.to(home)
        for module, mode in modes.items():
            module.training = mode
