"""How much memory an analysis takes beside the model and its images, and how to keep to a limit.

Two things grow: what one forward holds while it runs, which grows with the images of a batch, and
what the prefix keeps of batches that stand in the middle of the forward. A forward is watched on a
few images; batches are cut until one takes no more than half of the limit, and the prefix gets the
rest. A batch that finds no room there is run from its images again each time.
"""

from __future__ import annotations

import torch

from psvit.capture.program import Program, inputs_of, tensors_in, walk
from psvit.errors import OptionError

WATCHED = 4
"""Images that a forward is watched on."""

INSIDE = 4
"""Tensors of the size of its output that a layer may hold while it computes: a neuron's input,
its potential, its spikes and one to work with."""


def divide(program: Program, images: torch.Tensor, limit: int) -> tuple[int, int]:
    """The most images of a batch, and the bytes left for the prefix.

    Raises OptionError where not even a forward of one image fits.
    """
    few = images[:WATCHED]
    each = forward_bytes(program, few) / len(few)
    if each > limit:
        raise OptionError(
            f"the memory limit is {limit / 2**20:,.0f} MiB, but a forward of one image takes about "
            f"{each / 2**20:,.0f} MiB: allow more"
        )
    most = max(1, int(limit / 2 / each))
    return most, max(0, int(limit - min(most, len(images)) * each))


def forward_bytes(program: Program, images: torch.Tensor) -> int:
    """Bytes that a forward holds at its fullest: live values, and what a layer works with."""
    values = inputs_of(program, (images.clone(),))
    largest, before = 0, 0
    for node in walk(program, values, 0, len(program.nodes)):
        held = _held(values)
        largest = max(largest, held + INSIDE * max(0, held - before))
        before = held
        del node
    return max(largest, _held(values))


def _held(values: dict[torch.fx.Node, object]) -> int:
    sizes = {
        t.untyped_storage()._cdata: t.untyped_storage().nbytes()
        for node, value in values.items()
        if node.op != "get_attr"
        for t in tensors_in(value)
    }
    return sum(sizes.values())
