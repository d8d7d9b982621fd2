"""Cut the tensors of a module tree, and tell its layers their new widths."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from psvit.groups.shapes import BoolArray
from psvit.records import Dim, IntArray, Labels

NORMS = (_NormBase, nn.GroupNorm)
"""Layers that hold their number of channels as a plain number."""


def slice_parameters(root: nn.Module, labels: Labels, dead: BoolArray) -> None:
    """Replace every parameter and buffer of ``root`` that loses lanes by a smaller one."""
    holders: dict[int, list[tuple[nn.Module, str]]] = defaultdict(list)
    for module in root.modules():
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None:
                holders[id(tensor)].append((module, name))
    tensors = dict(root.named_parameters()) | dict(root.named_buffers())
    for name, dims in touched(labels, dead).items():
        old = tensors[name]
        data = _cut(old.detach(), root, name, dims, dead)
        new = nn.Parameter(data, old.requires_grad) if isinstance(old, nn.Parameter) else data
        for module, key in holders[id(old)]:
            table = module._parameters if isinstance(old, nn.Parameter) else module._buffers
            table[key] = new  # type: ignore[assignment]
    for module in root.modules():
        _update_widths(module)


def touched(labels: Labels, dead: BoolArray) -> dict[str, dict[Dim, IntArray]]:
    """The slots of which something goes: tensor -> axis -> lanes."""
    found: dict[str, dict[Dim, IntArray]] = defaultdict(dict)
    for (tensor, dim), lanes in labels.slots.items():
        if dead[lanes].any():
            found[tensor][dim] = lanes
    return found


def _cut(
    data: torch.Tensor,
    root: nn.Module,
    name: str,
    dims: dict[Dim, IntArray],
    dead: BoolArray,
) -> torch.Tensor:
    if "in" in dims:
        conv = root.get_submodule(name.rpartition(".")[0])
        inputs = ~dead[dims["in"]].reshape(int(conv.groups), -1)  # type: ignore[arg-type]
        size = data.shape[0] // inputs.shape[0]
        data = torch.cat(
            [
                data[g * size : (g + 1) * size][:, torch.from_numpy(np.flatnonzero(kept))]
                for g, kept in enumerate(inputs)
            ]
        )
    for dim, lanes in dims.items():
        if dim != "in":
            kept = torch.from_numpy(np.flatnonzero(~dead[lanes])).to(data.device)
            data = data.index_select(dim, kept)
    return data


def _update_widths(module: nn.Module) -> None:
    if isinstance(module, _ConvNd) and "weight" in module._parameters:
        _update_convolution(module)
    elif isinstance(module, nn.Linear) and "weight" in module._parameters:
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = module.weight.shape


def update_norm(norm: nn.Module, old: int, new: int) -> None:
    """Tell a norm that its channels went from ``old`` to ``new``; once done it stays done."""
    if isinstance(norm, nn.GroupNorm) and norm.num_channels == old:
        norm.num_groups = norm.num_groups * new // old
        norm.num_channels = new
    elif isinstance(norm, _NormBase) and norm.num_features == old:
        norm.num_features = new


def _update_convolution(conv: _ConvNd) -> None:
    first, second = conv.weight.shape[:2]
    depthwise = conv.groups == conv.in_channels > 1
    multiplier = conv.out_channels // conv.in_channels if depthwise else 1
    if isinstance(conv, _ConvTransposeNd):
        conv.in_channels = first
        conv.groups = first if depthwise else conv.groups
        conv.out_channels = second * conv.groups
        return
    conv.out_channels = first
    if depthwise:
        conv.groups = first // multiplier
    conv.in_channels = second * conv.groups
