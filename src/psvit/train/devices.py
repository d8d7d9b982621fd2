"""One device, or several that train as one: the only file that knows of Hugging Face accelerate.

Under `accelerate launch` or `torchrun` every process runs the same program. Each takes its part
of a batch; gradients and batch-norm statistics are averaged after every step, so that all hold
the same weights, and one of them, `main`, writes. No wrapper is put around the model: its names,
its neurons and its state dict stay what one process has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from psvit.errors import MissingExtra, OptionError
from psvit.team import team_size


@dataclass(frozen=True)
class Devices:
    """The device of this process, which is number ``rank`` of ``count``."""

    device: torch.device
    rank: int = 0
    count: int = 1
    accelerator: Any = None

    @property
    def main(self) -> bool:
        """Whether this process writes files and talks to people."""
        return self.rank == 0

    def wait(self) -> None:
        """Until every process is here."""
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()

    def average(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace floating-point tensors by their mean over all processes, in one exchange."""
        if self.accelerator is None:
            return
        parts = [t for t in tensors if t.is_floating_point()]
        flat = torch.cat([t.detach().float().reshape(-1) for t in parts])
        flat = self.accelerator.reduce(flat, reduction="mean")
        for tensor, mean in zip(parts, flat.split([t.numel() for t in parts]), strict=True):
            tensor.detach().copy_(mean.view_as(tensor))


def find_devices(device: str | torch.device = "cpu") -> Devices:
    """``device``, or this process's own where several were started together.

    Raises MissingExtra if they were, and accelerate is not installed; OptionError for a device
    that is not there.
    """
    try:
        place = torch.device(device)
        torch.zeros(1, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise OptionError(f"device {str(device)!r} cannot be used: {reason}") from error
    if team_size() < 2:
        return Devices(place)
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise MissingExtra(
            f"training on several devices needs accelerate ({error}): pip install 'psvit[finetune]'"
        ) from error
    accelerator = Accelerator(cpu=place.type == "cpu")
    return Devices(
        accelerator.device, accelerator.process_index, accelerator.num_processes, accelerator
    )
