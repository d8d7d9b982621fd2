"""Batch norms that follow a convolution or a linear layer, folded into its weights.

In eval mode a norm is y = s x + b, channel by channel, with s = gamma / sqrt(var + eps) and
b = beta - s mean. After z = W x + c that is one layer with the weights s W and the bias s c + b
(Jacob et al., "Quantization and Training of Neural Networks", CVPR 2018, section 3.2). A norm is
folded only where that is so exactly:

- its input is a layer's output, moved about at most (views, transposes), and every element that
  the norm scales as channel i is seen, on labels sent the same way, to be of output channel i;
- nothing else reads that output, and nothing else uses the layer, its weights or the norm;
- the norm's module computes this affine map, which is tried on numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import Conv1d, Conv2d, Conv3d

from psvit.inference.moves import MOVES, moved, operation
from psvit.records import Graph


def fold(graph: Graph) -> int:
    """Fold, in place, the norms of the eval forward of ``graph``; how many there were.

    ``graph`` is the caller's own: layers get other weights, and folded norms become identities
    under their names. Layers without a bias get one.
    """
    forward, root = graph.forwards["eval"], graph.module
    calls = _calls(forward, root)
    count = 0
    for node in list(forward.nodes):
        norm = _module(root, node)
        if not isinstance(norm, _BatchNorm) or not _used_once(calls, norm):
            continue
        chain = _chain_before(node, root)
        if chain is None:
            continue
        layer = _module(root, chain[0])
        affine = _affine(norm, _shape(node))
        if layer is None or affine is None or not _own_weights(layer, calls, root):
            continue
        if not _same_channels(chain, node, layer, norm):
            continue
        _scale(layer, *affine)
        node.replace_all_uses_with(chain[-1])
        forward.erase_node(node)
        if not _read(forward, str(node.target)):
            root.set_submodule(str(node.target), nn.Identity())
        count += 1
    return count


def _calls(forward: fx.Graph, root: nn.Module) -> dict[int, int]:
    """How often the forward calls each module."""
    counts: dict[int, int] = {}
    for node in forward.nodes:
        module = _module(root, node)
        if module is not None:
            counts[id(module)] = counts.get(id(module), 0) + 1
    return counts


def _module(root: nn.Module, node: fx.Node) -> nn.Module | None:
    return root.get_submodule(str(node.target)) if node.op == "call_module" else None


def _used_once(calls: dict[int, int], module: nn.Module) -> bool:
    hooked = module._forward_hooks or module._forward_pre_hooks
    return calls.get(id(module)) == 1 and not hooked


def _own_weights(layer: nn.Module, calls: dict[int, int], root: nn.Module) -> bool:
    """Whether its parameters are used by this one call and by nothing else."""
    own = {id(p) for p in layer.parameters(recurse=False)}
    others = (
        id(p)
        for m in root.modules()
        if m is not layer
        for p in m._parameters.values()
        if p is not None
    )
    return _used_once(calls, layer) and own.isdisjoint(others)


def _chain_before(norm: fx.Node, root: nn.Module) -> list[fx.Node] | None:
    """From the layer whose output the norm reads to the last move before it."""
    chain: list[fx.Node] = []
    node = norm
    while True:
        inputs = [a for a in node.args[:1] if isinstance(a, fx.Node)]
        if not inputs or len(list(_readers(inputs[0]))) != 1:
            return None
        node = inputs[0]
        chain.insert(0, node)
        if isinstance(_module(root, node), Conv1d | Conv2d | Conv3d | nn.Linear):
            return None if _weights_read(node) else chain
        if operation(node) not in MOVES:
            return None


def _weights_read(layer: fx.Node) -> bool:
    """Whether the forward also reads the layer's parameters by themselves."""
    return _read(layer.graph, str(layer.target))


def _read(forward: fx.Graph, module: str) -> bool:
    return any(n.op == "get_attr" and str(n.target).startswith(f"{module}.") for n in forward.nodes)


def _readers(node: fx.Node) -> Iterator[fx.Node]:
    """Who reads the values, not only the shape, of a node."""
    for user in node.users:
        if not (user.target is getattr and user.args[1:] in (("shape",), ("device",))):
            yield user


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["shape"])


def _affine(norm: _BatchNorm, shape: tuple[int, ...]) -> tuple[Tensor, Tensor] | None:
    """The norm's scale and shift, float64 ``[C]``; None if it is no such map."""
    if norm.running_mean is None or norm.running_var is None:
        return None
    mean, var = norm.running_mean.double(), norm.running_var.double()
    scale = (var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -mean * scale
    if norm.bias is not None:
        shift = shift + norm.bias.detach().double()
    axis = _norm_axis(norm)
    small = [2 if i != axis else size for i, size in enumerate(shape)]
    view = [-1 if i == axis else 1 for i in range(len(shape))]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(small, generator=generator, dtype=torch.float64).to(mean.device)
    x = x * var.add(norm.eps).sqrt().view(view) + mean.view(view)  # as the norm expects it
    try:
        with torch.no_grad():
            got = copy.deepcopy(norm).double().eval()(x)
    except (RuntimeError, ValueError, TypeError):
        return None
    expected = x * scale.view(view) + shift.view(view)
    if got.shape != expected.shape or not torch.allclose(got, expected, rtol=1e-9, atol=1e-9):
        return None
    return scale, shift


def _norm_axis(norm: nn.Module) -> int:
    """Channels are axis 1, or axis 2 of the time-first tensors of multi-step layers."""
    return 2 if getattr(norm, "step_mode", "s") == "m" else 1


def _same_channels(
    chain: list[fx.Node], norm_node: fx.Node, layer: nn.Module, norm: nn.Module
) -> bool:
    """Send the numbers of the layer's output channels through the moves, as far as the norm."""
    shape = _shape(chain[0])
    spatial = {Conv1d: 1, Conv2d: 2, Conv3d: 3}
    axis = len(shape) - 1
    for kind, axes in spatial.items():
        if isinstance(layer, kind):
            axis = len(shape) - 1 - axes
    index = torch.arange(shape[axis]).view([-1 if i == axis else 1 for i in range(len(shape))])
    labels = index.expand(shape).contiguous()
    for before, node in pairwise(chain):
        sent = moved(node, before, labels)
        if sent is None:
            return False
        labels = sent
    at = _norm_axis(norm)
    if tuple(labels.shape) != _shape(norm_node) or labels.shape[at] != shape[axis]:
        return False
    wanted = torch.arange(shape[axis]).view([-1 if i == at else 1 for i in range(labels.ndim)])
    return bool((labels == wanted).all())


def _scale(layer: Any, scale: Tensor, shift: Tensor) -> None:
    weight = layer.weight
    bias = 0.0 if layer.bias is None else layer.bias.detach().double()
    with torch.no_grad():
        scaled = weight.double() * scale.view(-1, *[1] * (weight.ndim - 1))
        added = bias * scale + shift
        layer.weight = nn.Parameter(scaled.to(weight), requires_grad=False)
        layer.bias = nn.Parameter(added.to(weight), requires_grad=False)
