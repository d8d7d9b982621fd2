"""A user's own DataLoader, from `package.module:factory` or `path/to/file.py:factory`.

B batch, C channels, H height, W width.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from psvit.data.info import DataInfo, Split
from psvit.errors import DataError, ModelError, PsvitError
from psvit.pointer import resolved, said

Batch = tuple[torch.Tensor, torch.Tensor]


class FactoryLoader(DataLoader[Batch]):
    """Batches ``(images float32 [B, C, H, W], labels int64 [B])`` of a user's DataLoader, ``own``;
    frames of events may be ``[B, T, C, H, W]``.

    Each batch is checked; a wrong one raises DataError. With `limit`, the first that many
    images. Preprocessing, order and workers are the factory's own.
    """

    info: DataInfo
    skipped: tuple[str, ...] = ()

    def __init__(
        self,
        spec: str,
        split: Split,
        *,
        batch_size: int,
        workers: int,
        seed: int,
        limit: int | None,
        classes: int | None,
    ) -> None:
        given = {"split": split, "batch_size": batch_size, "workers": workers, "seed": seed}
        loader = _open(spec, given)
        batches = _Checked(spec, loader, limit, classes)
        with torch.random.fork_rng(devices=[]):  # looking at a batch may draw random numbers
            first = next(iter(batches), None)
        if first is None:
            raise DataError(f"{spec} gives no batch: expected at least one")
        super().__init__(
            batches,
            batch_size=None,
            collate_fn=_as_is,
            generator=torch.Generator().manual_seed(seed),
        )
        self._batches = loader if limit is None else None
        self.own = loader
        size = len(loader.dataset) if hasattr(loader.dataset, "__len__") else None
        self.info = DataInfo(
            spec=spec,
            split=split,
            origin="the factory's own loader",
            shape=tuple(first[0].shape[1:]),
            images=size if limit is None or size is None else min(size, limit),
            classes=classes,
        )

    def __len__(self) -> int:
        """Number of batches. Raises TypeError where the user's loader cannot say, or a limit
        cuts it short."""
        if self._batches is None:
            raise TypeError("how many batches a limit leaves is known only once they are read")
        return len(self._batches)

    def __bool__(self) -> bool:
        """True: data that cannot say how much they are, are data."""
        return True


def _as_is(batch: Any) -> Any:
    return batch


class _Checked(IterableDataset[Batch]):
    def __init__(
        self, spec: str, loader: DataLoader[Any], limit: int | None, classes: int | None
    ) -> None:
        self._spec = spec
        self._loader = loader
        self._left = limit
        self._classes = classes

    def __iter__(self) -> Iterator[Batch]:
        left = self._left
        shape: torch.Size | None = None
        for number, batch in enumerate(self._batches()):
            images, labels = _check(batch, f"{self._spec}, batch {number}", self._classes)
            if shape is not None and images.shape[1:] != shape:
                raise DataError(
                    f"{self._spec}, batch {number}: images are {list(images.shape[1:])}, those "
                    f"before were {list(shape)}: expected one size"
                )
            shape = images.shape[1:]
            if left is not None:
                images, labels = images[:left], labels[:left]
                left -= len(labels)
            if len(labels):
                yield images, labels
            if left == 0:
                return

    def _batches(self) -> Iterator[Any]:
        try:
            yield from self._loader
        except PsvitError:
            raise
        except Exception as error:  # whatever the user's own data set raises
            raise DataError(f"{self._spec} raises {said(error)} while it is read") from error


def _check(batch: Any, where: str, classes: int | None) -> Batch:
    if not isinstance(batch, list | tuple) or len(batch) != 2:
        raise DataError(f"{where} is {_kind(batch)}, expected a pair (images, labels)")
    images, labels = batch
    fits = isinstance(images, torch.Tensor) and images.is_floating_point()
    if not fits or images.ndim not in (4, 5):
        raise DataError(
            f"{where}: images are {_kind(images)}, expected float [B, C, H, W] or [B, T, C, H, W]"
        )
    whole = isinstance(labels, torch.Tensor) and labels.dtype in _WHOLE
    if not whole or labels.shape != images.shape[:1]:
        raise DataError(
            f"{where}: labels are {_kind(labels)}, expected whole numbers [{len(images)}]"
        )
    if len(labels):
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or (classes is not None and high >= classes):
            expected = "0 or more" if classes is None else f"0 to {classes - 1}"
            raise DataError(f"{where}: labels are {low} to {high}, expected {expected}")
    return images.to(torch.float32), labels.to(torch.int64)


_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def _kind(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return f"a {type(value).__name__}" + (
        f" of {len(value)}" if isinstance(value, list | tuple) else ""
    )


def _open(spec: str, given: dict[str, Any]) -> DataLoader[Any]:
    """The user's loader. What is wrong with the code that `spec` points at is DataError here."""
    try:
        with resolved(spec) as (factory, _):
            if not callable(factory):
                raise DataError(f"--data {spec} is {_kind(factory)}, expected a function")
            return _call(factory, given, spec)
    except ModelError as error:
        raise DataError(f"--data: {error}") from error


def _call(factory: Callable[..., Any], given: dict[str, Any], spec: str) -> DataLoader[Any]:
    try:
        parameters = inspect.signature(factory).parameters
        takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        loader = factory(**{k: v for k, v in given.items() if takes_all or k in parameters})
    except (PsvitError, ModuleNotFoundError):  # legacy_imports says how to get the module
        raise
    except (Exception, SystemExit) as error:
        raise DataError(f"--data {spec} raises {said(error)}") from error
    if not isinstance(loader, DataLoader):
        raise DataError(
            f"--data {spec} returns {_kind(loader)}, expected a torch.utils.data.DataLoader"
        )
    return loader
