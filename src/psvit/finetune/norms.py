"""Whether a student's batch norms keep the statistics that it comes with.

In train mode a batch norm divides by the deviation of its batch, whatever statistics it has. But
those that recovery has matched to the dense model's (``psvit.recover.matching``) are part of what
the student can: with others it is another, worse function, and fine-tuning spends its first epoch
on getting back. Statistics of a model that nothing has recovered are merely out of date.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from psvit.recover import norms_of, reestimate
from psvit.train import Devices
from psvit.train.loop import Monitor
from psvit.train.weights import copied


def keeps_statistics(
    how: str,
    student: nn.Module,
    monitor: Monitor | None,
    fresh: Iterable[torch.Tensor],
    devices: Devices,
) -> bool:
    """Whether they are frozen: as ``how`` says, a setting ``norms`` of ``psvit.finetune.Tuning``.

    With auto, if ``statistics_are_good``; several processes go by what most of them find.
    """
    if how != "auto":
        return how == "frozen"
    good = float(statistics_are_good(student, monitor, fresh))
    share = torch.tensor([good], device=devices.device)
    devices.average([share])
    return share.item() > 0.5


def statistics_are_good(
    student: nn.Module, monitor: Monitor | None, fresh: Iterable[torch.Tensor]
) -> bool:
    """Whether the loss is lower with the student's own statistics than with ones of ``fresh``.

    ``fresh``: batches ``[B, C, H, W]``. The student's weights are as before afterwards. False for
    a student without batch norms, and where nothing is held out to tell (``monitor`` None).
    """
    if monitor is None or not norms_of(student):
        return False
    own = monitor(student.eval())
    weights = copied(student)
    try:
        reestimate(student, fresh)
        return own.beats(monitor(student))
    finally:
        student.load_state_dict(weights)
