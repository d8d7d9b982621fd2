"""How a value of the model looks to a network that sees one image at one time step.

A tensor of the model holds R rows, one for each image at each time step, on its first axes
(``[T, B, ...]`` or ``[T * B, ...]``; ``[B, ...]`` once T is averaged away), and F features a row.
NIR knows no rows, and keeps features in an order of its own: convolutions want ``(C, H, W)``, a
linear layer over tokens becomes a convolution over ``(C, N)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, fx, nn

from psvit.inference import MOVES, moved, operation

Shape = tuple[int, ...]
_STILL = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_RESHAPING = (nn.Flatten, nn.Unflatten)


@dataclass(frozen=True, eq=False)
class Place:
    """Features of shape ``shape`` in NIR's order: the p-th is the model's ``order[p]``-th."""

    shape: Shape
    order: Tensor


@dataclass(frozen=True, eq=False)
class Read:
    """What an operation reads: feature j of each row is feature ``order[j]`` of ``source``'s.

    ``ends``: the last node of the chain of moves from ``source`` to the reader.
    """

    source: fx.Node
    ends: fx.Node
    order: Tensor


def is_move(node: fx.Node, root: nn.Module) -> bool:
    """Whether a node moves elements about at most, in eval mode."""
    if node.op == "call_module":
        return isinstance(root.get_submodule(str(node.target)), (*_STILL, *_RESHAPING))
    return operation(node) in MOVES


def row_axes(shape: Shape, T: int, B: int) -> int | None:
    """How many axes the rows take: those whose sizes multiply to T B, or to B. None for neither."""
    rows = 1
    for axis, size in enumerate(shape):
        rows *= size
        if rows == T * B:
            return axis + 1
    return 1 if shape and shape[0] == B else None


def features(node: fx.Node, T: int, B: int) -> tuple[int, Shape] | None:
    """Rows and shape of the features of what a node computed; None if it has no rows."""
    shape: Shape | None = node.meta.get("shape")
    if shape is None or (axes := row_axes(shape, T, B)) is None:
        return None
    return math.prod(shape[:axes]), shape[axes:]


def read_of(argument: fx.Node, root: nn.Module, T: int, B: int) -> Read | None:
    """Follow moves back to what computed the value; None if they mix up rows."""
    chain = [argument]
    while is_move(chain[0], root) and chain[0].all_input_nodes:
        chain.insert(0, chain[0].all_input_nodes[0])
    source, found = chain[0], features(argument, T, B)
    begun = features(source, T, B)
    if found is None or begun is None or begun[0] != found[0]:
        return None
    rows, width = found[0], math.prod(found[1])
    if rows * width != math.prod(source.meta["shape"]):
        return None
    labels: Tensor | None = torch.arange(rows * width).view(source.meta["shape"])
    for before, node in pairwise(chain):
        assert labels is not None
        if node.op == "call_module":
            labels = root.get_submodule(str(node.target))(labels)
        else:
            labels = moved(node, before, labels)
        if labels is None:
            return None
    assert labels is not None
    by_row = labels.reshape(rows, width)
    order = by_row[0]
    if not torch.equal(by_row, order + width * torch.arange(rows).unsqueeze(1)):
        return None
    return Read(source, argument, order)


def seen_through(read: Read, place: Place) -> Place:
    """The place of what is read, given that of the source."""
    return Place(place.shape, _inverse(read.order)[place.order])


def channels_first(shape: Shape) -> Place:
    """Of features ``(*N, C)`` that a linear layer reads or gives: ``(C, N)``, or ``(C,)``."""
    *tokens, channels = shape
    if not tokens:
        return Place((channels,), torch.arange(channels))
    n = math.prod(tokens)
    order = torch.arange(n * channels).view(n, channels).t().flatten()
    return Place((channels, n), order)


def as_they_are(shape: Shape) -> Place:
    """Features in the model's own order."""
    return Place(shape, torch.arange(math.prod(shape)))


def flattening(place: Place, wanted: Place) -> tuple[int, int] | None:
    """The axes, first and last, that flattened make one place the other; (0, 0) for none.

    None if no flattening does.
    """
    if not torch.equal(place.order, wanted.order):
        return None
    if place.shape == wanted.shape:
        return (0, 0)
    merged = len(place.shape) - len(wanted.shape)
    for first in range(len(wanted.shape)):
        last = first + merged
        flat = (*place.shape[:first], math.prod(place.shape[first : last + 1]))
        if merged > 0 and (*flat, *place.shape[last + 1 :]) == wanted.shape:
            return (first, last)
    return None


def _inverse(order: Tensor) -> Tensor:
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    return back
