"""What fine-tuning minimises: the distance from the teacher, and from labels where there are any.

    loss = (1 - w) tau^2 KL(p_tau || q_tau) + w CE(y, q) + f D

p and q are the class probabilities of teacher and student, p_tau and q_tau those softened by the
temperature tau (Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network",
section 2; tau^2 keeps the gradient's size). w is ``label_weight``, y the label. f is
``feature_weight`` and D how far outputs of layers are apart (Romero et al. 2015, "FitNets",
equation 3, without a regressor: the kept channels are known).

B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from psvit.evaluate.accuracy import logits_of
from psvit.finetune.features import Features
from psvit.finetune.tuning import Tuning
from psvit.neurons import reset_state
from psvit.records import Plan
from psvit.train import Score, fast_neurons, labelled_batch


def softened_kl(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """tau^2 times the KL divergence of the student's probabilities from the teacher's.

    Both are logits ``[B, K]``; the mean over B, in nats. For equal logits it is 0 and so is its
    gradient, to the bit: Adam makes full steps out of rounding errors too. Hence this form,

        KL = sum_k p_k (t_k - s_k) - log sum exp t + log sum exp s,   gradient q - p.
    """
    goal, guess = teacher / temperature, student / temperature
    norm = goal.logsumexp(1, keepdim=True)
    likely = (goal - norm).exp()
    divergence = (likely * (goal - guess)).sum(1) - norm.squeeze(1) + guess.logsumexp(1)
    return divergence.mean() * temperature**2


class Distillation:
    """The loss of a student: call it after the student's forward on the same images."""

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None,
        tuning: Tuning,
        plan: Plan | None = None,
        device: torch.device | None = None,
    ) -> None:
        self._teacher, self._tuning = teacher, tuning
        self._device = device or torch.device("cpu")
        self._features: Features | None = None
        if teacher is not None and tuning.features:
            self._features = Features(student, teacher, tuning.features, plan)

    @contextmanager
    def active(self, *, compiled: bool = False) -> Iterator[None]:
        """Within the block the loss can be computed."""
        with ExitStack() as stack:
            if self._features is not None:
                stack.enter_context(self._features.watched())
            if self._teacher is not None:
                stack.enter_context(fast_neurons(self._teacher, compiled=compiled))
            yield

    def __call__(
        self, logits: torch.Tensor, targets: torch.Tensor, images: torch.Tensor
    ) -> torch.Tensor:
        """The loss; ``logits [B, K]``, ``targets`` labels ``[B]`` or probabilities ``[B, K]``."""
        loss = self.on_outputs(logits, targets, images)
        if self._features is not None and self._tuning.feature_weight:
            loss = loss + self._tuning.feature_weight * self._features.distance()
        return loss

    def on_outputs(
        self, logits: torch.Tensor, targets: torch.Tensor, images: torch.Tensor
    ) -> torch.Tensor:
        """The same without the layers."""
        weight = self._tuning.label_weight
        loss = torch.zeros((), device=logits.device)
        if self._teacher is not None and self._tuning.taught:
            goal = self._said_by_teacher(images)
            if weight < 1:
                kl = softened_kl(logits, goal, self._tuning.temperature)
                loss = loss + (1 - weight) * kl
        if weight:
            loss = loss + weight * F.cross_entropy(logits, targets)
        return loss

    def score(self, student: nn.Module, batches: Iterable[Any], *, labelled: bool) -> Score:
        """How good ``student``, in eval mode, is on images held out of training."""
        loss, right, seen = 0.0, 0, 0
        with torch.no_grad():
            for batch in batches:
                images, labels = (t.to(self._device) for t in labelled_batch(batch))
                reset_state(student)
                logits = self._logits(student, images)
                loss += len(images) * float(self.on_outputs(logits, labels, images))
                right += int((logits.argmax(1) == labels).sum())
                seen += len(images)
        reset_state(student)
        return Score(right / seen if labelled else None, loss / seen)

    def _said_by_teacher(self, images: torch.Tensor) -> torch.Tensor:
        assert self._teacher is not None
        reset_state(self._teacher)
        with torch.no_grad():
            return self._logits(self._teacher, images)

    def _logits(self, model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._tuning.bf16):
            return logits_of(model, images).float()
