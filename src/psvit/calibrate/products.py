"""Where channels are summed away without a weight: products of two activations, as q k^T.

Nothing can make up for a channel there. What a set R of channels contributes to a product
``sum_c a_c b_c`` has the squared norm ``sum over c, d in R of S_cd`` with

    S = mean over images and steps of (A^T A) * (B B^T)      elementwise

for A ``[..., M, K]`` and B ``[..., K, N]``: exact, and of the size of one head only. (Ours; it is
what the Gram matrix is to a layer.)
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import fx

from psvit.records import Field, Graph, Groups, IntArray

NAMES = frozenset({"matmul", "mm", "bmm"})

CHUNK_ELEMENTS = 1 << 24
"""Elements of Gram matrices that are held at a time."""


@dataclass(frozen=True, eq=False)
class Product:
    """A matrix product over channels of one group.

    ``channel`` ``[*lead, K]``: the index in ``Group.channels`` that each place of the summed axis
    stands for; its leading axes have size 1 where that does not differ (T, B) and are those of
    the heads where it does. ``transposed``: the right operand is ``[..., N, K]``, as the keys of
    ``scaled_dot_product_attention``.
    """

    node: fx.Node
    left: fx.Node
    right: fx.Node
    group: int
    channel: IntArray
    transposed: bool = False


def list_products(graph: Graph, groups: Groups) -> tuple[Product, ...]:
    """Every product of two activations whose summed axis is channels of a group."""
    where = {int(c): (g.id, i) for g in groups for i, c in enumerate(g.channels.tolist())}
    found = []
    for node in graph.forwards["eval"].nodes:
        operands = _operands(node)
        if operands is None:
            continue
        left, right, transposed = operands
        field = _summed_field(groups, left)
        if field is None:
            continue
        owners = [
            where.get(int(c), (-1, -1)) for c in groups.labels.channel_of[field.lanes.ravel()]
        ]
        ids = {group for group, _ in owners}
        if len(ids) != 1 or -1 in ids:
            continue
        channel = np.array([c for _, c in owners], dtype=np.int64).reshape(field.lanes.shape)
        found.append(
            Product(node, left, right, ids.pop(), np.take(channel, 0, axis=-2), transposed)
        )
    return tuple(found)


def squared(product: Product, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """``[*heads, K, K]`` float64: the sum of S over the leading axes that are no heads."""
    right = right.transpose(-1, -2) if product.transposed else right
    a, b = left.unsqueeze(0), right.unsqueeze(0)
    rank = max(a.ndim, b.ndim)
    a, b = (x.reshape(*[1] * (rank - x.ndim), *x.shape) for x in (a, b))
    lead = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])  # type: ignore[no-untyped-call]
    a, b = a.expand(*lead, *a.shape[-2:]), b.expand(*lead, *b.shape[-2:])
    heads = (*[1] * (len(lead) - product.channel.ndim + 1), *product.channel.shape[:-1])
    summed = [d for d in range(len(lead)) if heads[d] == 1]
    width = a.shape[-1]
    # the longest axis that is summed is taken in pieces
    axis = max(summed, key=lambda d: lead[d])
    step = max(1, CHUNK_ELEMENTS * lead[axis] // max(prod(lead) * width * width, 1))
    total = torch.zeros(*heads, width, width, dtype=torch.float64, device=a.device)
    for some_a, some_b in zip(torch.split(a, step, axis), torch.split(b, step, axis), strict=True):
        s = (some_a.transpose(-1, -2) @ some_a) * (some_b @ some_b.transpose(-1, -2))
        total += s.sum(summed, keepdim=True, dtype=torch.float64)
    return total


def _operands(node: fx.Node) -> tuple[fx.Node, fx.Node, bool] | None:
    if "shape" not in node.meta or node.op not in ("call_function", "call_method"):
        return None
    if getattr(node.target, "__module__", "") == "psvit_recorded":
        return None
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    attention = name == "scaled_dot_product_attention"
    if str(name).strip("_") not in NAMES and not attention:
        return None
    pair = [n for n in (*node.args, *node.kwargs.values()) if isinstance(n, fx.Node)]
    if attention:  # query, key, value, ...: the product of the first two
        pair = pair[:2]
    if len(pair) != 2:
        return None
    if any(len(n.meta.get("shape", ())) < 2 or n.op == "get_attr" for n in pair):
        return None
    return pair[0], pair[1], attention


def _summed_field(groups: Groups, left: fx.Node) -> Field | None:
    """The channels along the last axis of the left operand, unless its rows differ in them."""
    found = groups.labels.fields["eval"].get(left.name) or []
    fields = [f for f in found if isinstance(f, Field)]
    rank = len(left.meta["shape"])
    along = [f for f in fields if rank - 1 in f.varying and not f.block]
    if len(along) != 1 or rank - 2 in along[0].varying:
        return None
    return along[0]
