"""What is held out is not trained on, wherever the data come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from psvit.data import open_data
from psvit.errors import DataError
from psvit.finetune import data as module
from psvit.finetune.data import split
from psvit.finetune.tuning import Tuning

TUNING = Tuning(batch=10, held_out=0.25)


def _pairs(n: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(n).float()[:, None, None, None].expand(n, 1, 2, 2), torch.arange(n) % 4


def _ids(batches: Any) -> list[int]:
    return [int(i) for batch in batches for i in batch[0][:, 0, 0, 0]]


@pytest.mark.parametrize("kind", ["batches", "images", "loader"])
def test_held_out_images_are_not_trained_on(kind: str) -> None:
    images, labels = _pairs()
    given: Any = {
        "batches": list(zip(images.split(8), labels.split(8), strict=True)),
        "images": list(images.split(8)),
        "loader": DataLoader(TensorDataset(images, labels), batch_size=10),
    }[kind]
    parts = split(given, TUNING)
    held, trained = _ids(parts.held_out()), _ids(parts.train.epoch(0, 0))
    assert (parts.images, len(held), len(trained)) == (10, 10, 30)
    assert sorted(held + trained) == list(range(40))
    assert parts.train.labelled is (kind != "images")
    assert _ids(parts.held_out()) == held
    assert _ids(parts.train.epoch(0, 0, 2)) == trained[20:]


def test_data_too_large_for_memory_are_split_where_they_lie(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("sklearn", reason="digits come with scikit-learn")
    small = split(open_data("digits", split="train", limit=60), TUNING)
    monkeypatch.setattr(module, "MEMORY_BYTES", 0)
    large = split(open_data("digits", split="train", limit=60, batch_size=10), TUNING)
    assert (small.images, large.images) == (15, 15)
    parts = [torch.cat([x for x, _ in b]) for b in (large.held_out(), large.train.epoch(0, 0))]
    whole = torch.cat([x for x, _ in open_data("digits", split="train", limit=60)])
    rows = {tuple(image.flatten().tolist()) for image in torch.cat(parts)}
    assert rows == {tuple(image.flatten().tolist()) for image in whole}
    torch.testing.assert_close(small.train.span, large.train.span)


def test_a_users_factory_is_split_by_its_own_data_set(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("""
import torch
from torch.utils.data import DataLoader, TensorDataset

def make():
    images = torch.arange(40.0)[:, None, None, None].expand(40, 1, 2, 2)
    return DataLoader(TensorDataset(images, torch.arange(40, dtype=torch.int32)), batch_size=10)
""")
    parts = split(open_data(f"{tmp_path}/mine.py:make", split="train"), TUNING)
    held, trained = _ids(parts.held_out()), _ids(parts.train.epoch(0, 0))
    assert sorted(held + trained) == list(range(40))
    assert [labels.dtype for _, labels in parts.train.epoch(0, 1)] == [torch.int64] * 3
    assert parts.train.span is None


def test_of_a_stream_nothing_can_be_held_out() -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(zip(*_pairs(), strict=True))

        def __len__(self) -> int:
            return 40

    parts = split(DataLoader(Stream(), batch_size=8), TUNING)
    assert parts.held_out is None
    assert _ids(parts.train.epoch(0, 0)) == list(range(40))


def test_too_few_images_and_none() -> None:
    images, labels = _pairs(1)
    with pytest.raises(DataError, match="1 images: too few to hold some out"):
        split([(images, labels)], TUNING)
    with pytest.raises(DataError, match="no images"):
        split([], TUNING)
    with pytest.raises(DataError, match="yields a str"):
        split(["cat.png"], TUNING)
