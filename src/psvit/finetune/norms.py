"""Batch-norm statistics of a student: whether it keeps what it comes with, and what it ends with.

In train mode a batch norm divides by the deviation of its batch, whatever statistics it has. But
those that recovery has matched to the dense model's (``psvit.recover.matching``) are part of what
the student can: with others it is another, worse function, and fine-tuning spends its first epoch
on getting back. Statistics of a model that nothing has recovered are merely out of date.

And as weights learn, what norms read moves away from either kind: from frozen ones, and, as these
are of augmented images, on plain images from fresh ones. So the weights that are kept have theirs
matched in the end, as recovery does it, if that is better on images held out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from psvit.records import Plan
from psvit.recover import norms_of, reestimate
from psvit.recover.matching import match_norms, watch_norms
from psvit.recover.origin import part_kept
from psvit.train import Devices, Score
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


def match_if_better(
    student: nn.Module,
    teacher: nn.Module,
    plan: Plan,
    images: Sequence[torch.Tensor],
    monitor: Monitor,
    best: Score,
    devices: Devices,
) -> Score | None:
    """Match the student's statistics to the teacher's in place, if that beats ``best``.

    ``images``: batches ``[B, C, H, W]`` of training; ``best``: what ``monitor`` says of the student
    as it is. Returns what it says now; None if nothing was changed, because that is no better, or
    the two have no batch norms in common. Several processes go by what most of them find. Raises
    DataError for images that are not finite.
    """
    own = norms_of(student)
    if not own or not _in_common(student, teacher, plan):
        return None
    weights = copied(student)
    moved = [image.to(devices.device) for image in images]
    match_norms(
        student, moved, watch_norms(teacher, moved), lambda name, v: part_kept(plan, name, v)
    )
    devices.average(tensor for norm in own.values() for tensor in norm.buffers())
    score = monitor(student)
    share = torch.tensor([float(score.beats(best))], device=devices.device)
    devices.average([share])
    if share.item() > 0.5:
        return score
    student.load_state_dict(weights)
    return None


def _in_common(student: nn.Module, teacher: nn.Module, plan: Plan) -> bool:
    """Whether each norm of the student has channels of the teacher's of the same name."""
    wide = norms_of(teacher)
    for name, norm in norms_of(student).items():
        channels = wide[name].num_features if name in wide else 0
        kept = plan.keep.get(f"{name}.running_mean".lstrip("."), {}).get("0", range(channels))
        if len(kept) != norm.num_features or max(kept) >= channels:
            return False
    return True
