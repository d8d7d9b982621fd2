"""What the unpruned model computes before the first changed layer: once, not for each point.

Points are measured in the order of their first changed layer. Each batch stands at some position
of the forward with the values that are live there, and only ever moves on.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from psvit.capture.program import (
    Program,
    Values,
    inputs_of,
    run,
    tensors_in,
    writes_into_live,
)

HELD_BYTES = 2 << 30
"""How much memory the values of all batches together may take. A batch that finds no room
starts from its images each time, which is slower and gives the same."""


@dataclass(frozen=True, eq=False)
class _Stand:
    """A batch at a position: live values, and the state of the random numbers there."""

    position: int
    values: Values
    random: tuple[torch.Tensor, ...]
    held_bytes: int = 0


class Prefix:
    """Where each batch stands. ``images``: the batches; random numbers start from ``seed``.

    ``room``: bytes that what is live may take altogether, HELD_BYTES if None.
    """

    def __init__(
        self,
        program: Program,
        images: Sequence[torch.Tensor],
        seed: int,
        room: int | None = None,
    ) -> None:
        self._program = program
        self._images = images
        self._seed = seed
        self._room = room
        self._stands: dict[int, _Stand] = {}

    def at(self, batch: int, position: int) -> Values:
        """What is live at ``position`` for a batch; the caller may use it up.

        Also sets the random numbers to where they are then. The parameters that are read before
        ``position`` must be those of the unpruned model.
        """
        stand = self._stands.get(batch)
        if stand is None or stand.position > position:
            stand = self._start(batch)
        if stand.position < position:
            stand = self._move(batch, stand, position)
        return self._fresh(stand)

    def keep_only(self, batches: Container[int]) -> None:
        """Make room: forget where all others stand."""
        self._stands = {b: stand for b, stand in self._stands.items() if b in batches}

    def size(self, batch: int) -> int:
        """Number of images of a batch."""
        return len(self._images[batch])

    def _start(self, batch: int) -> _Stand:
        images = self._images[batch]
        torch.manual_seed(self._seed * 1_000_003 + batch)
        return _Stand(0, inputs_of(self._program, (images,)), _random_state(images.device))

    def _move(self, batch: int, stand: _Stand, position: int) -> _Stand:
        values = run(self._program, self._fresh(stand), stand.position, position)
        state = _random_state(self._images[batch].device)
        held = _bytes_of(values, known=self._images[batch])
        stand = _Stand(position, values, state, held)
        self._stands.pop(batch, None)
        room = HELD_BYTES if self._room is None else self._room
        if held + sum(other.held_bytes for other in self._stands.values()) <= room:
            self._stands[batch] = stand
        return stand

    def _fresh(self, stand: _Stand) -> Values:
        _set_random_state(stand.random)
        if writes_into_live(self._program, stand.position):
            return copied(stand.values)
        return dict(stand.values)


def copied(values: Values) -> Values:
    """Copies that share memory with one another as the originals do, and not with them."""
    memory: dict[int, torch.UntypedStorage] = {}

    def copy(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            storage = value.untyped_storage()
            if storage._cdata not in memory:
                memory[storage._cdata] = storage.clone()  # type: ignore[no-untyped-call]
            own = memory[storage._cdata]
            empty = torch.empty(0, dtype=value.dtype, device=value.device)
            return empty.set_(own, value.storage_offset(), value.shape, value.stride())
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*(copy(item) for item in value))
        if isinstance(value, tuple | list) and any(True for _ in tensors_in(value)):
            return type(value)(copy(item) for item in value)
        if isinstance(value, dict):
            return {key: copy(item) for key, item in value.items()}
        return value

    return {node: copy(value) for node, value in values.items()}


def _bytes_of(values: Values, known: torch.Tensor) -> int:
    """Memory of the live values that is held for their sake alone."""
    sizes = {
        t.untyped_storage()._cdata: t.untyped_storage().nbytes()
        for node, value in values.items()
        if node.op != "get_attr"
        for t in tensors_in(value)
    }
    sizes.pop(known.untyped_storage()._cdata, None)
    return sum(sizes.values())


def _random_state(device: torch.device) -> tuple[torch.Tensor, ...]:
    if device.type == "cuda":
        return torch.get_rng_state(), torch.cuda.get_rng_state(device)
    return (torch.get_rng_state(),)


def _set_random_state(state: tuple[torch.Tensor, ...]) -> None:
    torch.set_rng_state(state[0])
    for cuda in state[1:]:
        torch.cuda.set_rng_state(cuda)
