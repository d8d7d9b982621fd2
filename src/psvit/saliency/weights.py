"""What the weight criteria share: which slots produce a channel, and norms along a slot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from psvit.records import Dim, Graph, Group, Slot

_PRODUCED_BY_FUNCTION = {
    "linear": 0,
    "conv1d": 0,
    "conv2d": 0,
    "conv3d": 0,
    "conv_transpose1d": 1,
    "conv_transpose2d": 1,
    "conv_transpose3d": 1,
}
"""Function that a parameter is the weight of -> the axis of the weight that it puts out."""


class Weights:
    """The parameters of a graph, with the sums of powers along their axes computed once."""

    def __init__(self, graph: Graph) -> None:
        self._module = graph.module
        self._parameters = dict(graph.module.named_parameters(remove_duplicate=False))
        self._functional = _functional_weights(graph.forwards["eval"])
        self._sums: dict[tuple[str, Dim, int], torch.Tensor] = {}

    def producers(self, group: Group) -> tuple[Slot, ...]:
        """The slots that put the channels out; all slots of parameters if there is none.

        A producer is axis 0 of the weight of a convolution or linear layer, axis 1 of a
        transposed convolution's, be it a module or a function.
        """
        parameters = [slot for slot in group.slots if slot.tensor in self._parameters]
        producers = [slot for slot in parameters if slot.dim == self._output_axis(slot.tensor)]
        return tuple(producers or parameters)

    def batch_norms(self, group: Group) -> tuple[Slot, ...]:
        """The slots on weights (gamma) of BatchNorm layers."""
        return tuple(
            slot
            for slot in group.slots
            if slot.tensor in self._parameters
            and slot.tensor.rpartition(".")[2] == "weight"
            and isinstance(self._owner(slot.tensor), _BatchNorm)
        )

    def norm(self, slot: Slot, power: int) -> torch.Tensor:
        """``[C]``: for each channel the sum over its positions of the p-norm of the slice.

        ``power`` p is 1 or 2. Sums run in float64 whatever the weights are.
        """
        along = self._sum_of_powers(slot.tensor, slot.dim, power)
        if power == 2:
            along = along.sqrt()
        return along[torch.from_numpy(np.asarray(slot.index, dtype=np.int64))].sum(dim=1)

    def mean_norm(self, slots: Sequence[Slot], group: Group, power: int) -> torch.Tensor:
        """``[C]``: the mean of ``norm`` over the slots, 0 where there is none.

        The mean keeps a channel that many layers put out (a residual stream) on the scale of
        one that a single layer does.
        """
        if not slots:
            return torch.zeros(group.size, dtype=torch.float64)
        return torch.stack([self.norm(slot, power) for slot in slots]).mean(dim=0)

    def _owner(self, tensor: str) -> nn.Module:
        return self._module.get_submodule(tensor.rpartition(".")[0])

    def _output_axis(self, tensor: str) -> int | None:
        """The axis of the tensor that its layer, or the function it is given to, puts out."""
        owner = self._owner(tensor)
        if isinstance(owner, _ConvNd | nn.Linear):
            is_weight = tensor.rpartition(".")[2] == "weight"
            return int(isinstance(owner, _ConvTransposeNd)) if is_weight else None
        return self._functional.get(tensor)

    def _sum_of_powers(self, tensor: str, dim: Dim, power: int) -> torch.Tensor:
        """Sum of ``|w| ** power`` over all axes but ``dim``, on the CPU."""
        key = (tensor, dim, power)
        if key not in self._sums:
            weight = self._parameters[tensor].detach()
            weight = weight.abs() if power == 1 else weight.double().square()
            self._sums[key] = _sum_all_but(weight, dim, self._owner(tensor)).cpu()
        return self._sums[key]


def _sum_all_but(weight: torch.Tensor, dim: Dim, owner: nn.Module) -> torch.Tensor:
    if dim != "in":
        others = [d for d in range(weight.ndim) if d != dim]
        return weight.sum(dim=others, dtype=torch.float64) if others else weight.double()
    # [groups * out, in, *kernel] -> one value for each input of each group
    groups = int(getattr(owner, "groups", 1))
    blocks = weight.reshape(groups, -1, *weight.shape[1:])
    return blocks.movedim(2, 1).flatten(2).sum(dim=2, dtype=torch.float64).flatten()


def _functional_weights(forward: fx.Graph) -> dict[str, int]:
    """Parameters that go as a weight into a function, and the axis that comes out."""
    found: dict[str, int] = {}
    for node in forward.nodes:
        name = getattr(node.target, "__name__", "") if node.op == "call_function" else ""
        if name in _PRODUCED_BY_FUNCTION:
            weight = node.args[1] if len(node.args) > 1 else node.kwargs.get("weight")
            if isinstance(weight, fx.Node) and weight.op == "get_attr":
                found[str(weight.target)] = _PRODUCED_BY_FUNCTION[name]
    return found
