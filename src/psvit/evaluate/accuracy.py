"""Top-1 and top-5 accuracy of a spiking classifier.

T steps, B batch, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from psvit.errors import DataError, ModelError
from psvit.evaluate.wilson import wilson
from psvit.neurons import one_pass, reset_state

Progress = Callable[[int, int | None], None]
"""Called with the batches done and, where the loader knows, their total."""


@dataclass(frozen=True)
class Accuracy:
    """Images classified correctly, out of `n`; `correct_top5` only with ten classes or more.

    `classes`: how many the model tells apart.
    """

    correct: int
    n: int
    correct_top5: int | None = None
    classes: int = field(default=0, compare=False)

    @property
    def top1(self) -> float:
        """Share of images whose label is the first guess, in [0, 1]."""
        return self.correct / self.n

    @property
    def top5(self) -> float | None:
        """Share of images whose label is among the first five guesses, in [0, 1]."""
        return None if self.correct_top5 is None else self.correct_top5 / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of `top1`."""
        return wilson(self.correct, self.n)

    @property
    def interval_top5(self) -> tuple[float, float] | None:
        """The 95 % Wilson interval of `top5`."""
        return None if self.correct_top5 is None else wilson(self.correct_top5, self.n)


def accuracy(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Accuracy:
    """Classify every image of `loader`, which yields ``(images, labels)`` batches.

    Logits may be ``[B, K]``, ``[T, B, K]`` (their mean over T counts), or the first entry of a
    tuple or list. Neuron state is reset before every batch. Mode, device and neuron state of
    the model are restored at the end.

    Raises DataError for an empty loader, batches of another form, or labels outside the
    classes, and ModelError if the forward fails or returns no logits.
    """
    hits, classes = _guesses(model, loader, torch.device(device), progress)
    in_five = int(hits.any(1).sum()) if classes >= 10 else None
    return Accuracy(int(hits[:, 0].sum()), len(hits), in_five, classes)


def right_images(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> torch.Tensor:
    """Which images of `loader` the model classifies correctly, bool ``[n]``, for paired tests.

    As `accuracy`, and raises as it does.
    """
    return _guesses(model, loader, torch.device(device), progress)[0][:, 0]


def _guesses(
    model: nn.Module, loader: Iterable[Any], device: torch.device, progress: Progress | None
) -> tuple[torch.Tensor, int]:
    """Which of the first five guesses is the label, bool ``[n, 5]`` (fewer with fewer K); and K."""
    total = _length(loader)
    home = _home(model)
    training = {module: module.training for module in model.modules()}
    found, classes = [], 0
    try:
        model.to(device).eval()
        with torch.no_grad(), one_pass(model):
            for done, batch in enumerate(loader, 1):
                images, labels = _split(batch)
                reset_state(model)
                logits = logits_of(model, images.to(device))
                if logits.shape[0] != len(labels):
                    raise ModelError(
                        f"the model returns logits of shape {list(logits.shape)} for "
                        f"{len(labels)} images: expected [B, K] or [T, B, K]"
                    )
                classes = logits.shape[1]
                _check_labels(labels, classes)
                top = logits.topk(min(5, classes), dim=1).indices.cpu()
                found.append(top == labels.cpu().long()[:, None])
                if progress is not None:
                    progress(done, total)
    finally:
        reset_state(model)
        for module, mode in training.items():
            module.training = mode
        if home is not None:
            model.to(home)
    if not sum(map(len, found)):
        raise DataError("the data has no images: nothing to measure accuracy on")
    return torch.cat(found), classes


def logits_of(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The logits ``[B, K]`` of one batch. Raises ModelError if the forward fails."""
    try:
        output = model(images)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        raise ModelError(
            f"the model's forward fails on an input of shape {list(images.shape)}, "
            f"{str(images.dtype).removeprefix('torch.')}: {_first_line(error)}"
        ) from error
    while isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, torch.Tensor):
        raise ModelError(f"the model returns a {type(output).__name__}, expected logits")
    if output.ndim == 3 and output.shape[1] == images.shape[0]:
        output = output.mean(0)  # the rate over T steps is what SViTs are trained on
    if output.ndim != 2:
        raise ModelError(
            f"the model returns a tensor of shape {list(output.shape)} for {images.shape[0]} "
            "images: expected logits [B, K] or [T, B, K]"
        )
    return output


def _split(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels of a batch, which may carry more after them."""
    if isinstance(batch, tuple | list) and len(batch) >= 2:
        images, labels = batch[0], batch[1]
        if isinstance(images, torch.Tensor) and isinstance(labels, torch.Tensor):
            if labels.ndim == 1 and not labels.is_floating_point():
                return images, labels
            raise DataError(
                f"labels have shape {list(labels.shape)} and dtype {labels.dtype}: expected one "
                "whole number an image"
            )
    raise DataError(
        f"the data yields a {type(batch).__name__}: expected (images, labels), two tensors"
    )


def _check_labels(labels: torch.Tensor, classes: int) -> None:
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise DataError(
            f"a label is {int(wrong[0])}, but the model has {classes} classes "
            f"(0 to {classes - 1}): the data and the model do not belong together"
        )


def _length(loader: Iterable[Any]) -> int | None:
    try:
        return len(loader)  # type: ignore[arg-type]
    except TypeError:
        return None


def _home(model: nn.Module) -> torch.device | None:
    first = next(model.parameters(), None)
    return None if first is None else first.device


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
