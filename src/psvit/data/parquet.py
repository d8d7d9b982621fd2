"""Parquet files with the Hugging Face image schema, read a row group at a time. Needs pyarrow.

An image is a struct ``{bytes, path}`` or plain bytes, a label a whole number. Which columns
they are, and the names of the classes, stand in the schema and in its `huggingface` metadata.
"""

from __future__ import annotations

import glob
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psvit.data.columns import find_columns
from psvit.data.info import Split
from psvit.data.source import EVAL_WORDS, TRAIN_WORDS, Block
from psvit.errors import DataError, MissingExtra

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:
    raise MissingExtra(
        "parquet: needs pyarrow, which is not installed: pip install 'psvit[data]'"
    ) from error

CACHE_BYTES = 128 * 2**20
"""Row groups are kept up to this size in every process that reads, and at least one."""


@dataclass(frozen=True)
class _Group:
    """A row group, and the row of its file that it starts at."""

    path: Path
    number: int
    first_row: int


class Parquet:
    """One split of the files that a glob matches."""

    def __init__(
        self,
        pattern: str,
        split: Split,
        *,
        only: bool,
        image_column: str | None = None,
        label_column: str | None = None,
    ) -> None:
        files = _files_of(pattern, split, only)
        named = (image_column, label_column)
        self._columns = find_columns(_open(files[0]).schema_arrow, str(files[0]), *named)
        groups: list[_Group] = []
        blocks: list[Block] = []
        labels: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        stop = 0
        for path in files:
            if find_columns(_open(path).schema_arrow, str(path), *named) != self._columns:
                raise DataError(
                    f"{path} has other columns or classes than {files[0]}: expected one data set"
                )
            labels.append(_labels(path, self._columns.label))
            first_row = 0
            metadata = _open(path).metadata
            for number in range(metadata.num_row_groups):
                rows = metadata.row_group(number).num_rows
                groups.append(_Group(path, number, first_row))
                size = metadata.row_group(number).total_byte_size
                blocks.append(Block(stop, stop + rows, size))
                first_row += rows
                stop += rows
        self._groups = tuple(groups)
        self._starts = np.array([block.start for block in blocks], dtype=np.int64)
        self._cache: OrderedDict[int, Any] = OrderedDict()
        self.blocks = tuple(blocks)
        self.labels: NDArray[np.int64] = np.concatenate(labels)
        self.class_names = self._columns.class_names
        self.origin = files[0].name if len(files) == 1 else f"{len(files)} files"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": OrderedDict()}

    def read(self, index: int) -> bytes:
        """The bytes of an image. Raises DataError if its row cannot be read or has none."""
        number = self._group_of(index)
        value = self._load(number)[index - self.blocks[number].start].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None:
            raise OSError("its row holds no image bytes")
        return bytes(data)

    def where(self, index: int) -> str:
        """File and row, counted from 0."""
        number = self._group_of(index)
        group = self._groups[number]
        return f"{group.path}, row {group.first_row + index - self.blocks[number].start}"

    def _group_of(self, index: int) -> int:
        return int(np.searchsorted(self._starts, index, side="right")) - 1

    def _load(self, number: int) -> Any:
        """The image column of a row group, from the cache if it is there."""
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        size = self.blocks[number].bytes
        while self._cache and size + sum(self.blocks[i].bytes for i in self._cache) > CACHE_BYTES:
            self._cache.popitem(last=False)
        group = self._groups[number]
        try:
            # No threads: worker processes may be forked from this one.
            table = _open(group.path).read_row_group(
                group.number, columns=[self._columns.image], use_threads=False
            )
        except (OSError, pa.ArrowException) as error:
            raise _damaged(group.path, error) from error
        self._cache[number] = table.column(0)
        return self._cache[number]


def _files_of(pattern: str, split: Split, only: bool) -> list[Path]:
    """The files of a split. Their names, or those of their folders, tell which one they hold."""
    files = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
    if not files:
        raise DataError(f"parquet:{pattern} matches no file")
    for path in files:
        if path.is_dir():
            raise DataError(f"parquet:{path} is a folder: give its files, parquet:{path}/*.parquet")
    by_word: dict[str | None, list[Path]] = {}
    for path in files:
        by_word.setdefault(_split_word(path), []).append(path)
    if len(by_word) == 1 and (only or (None in by_word and split == "train")):
        return files
    if None in by_word and len(by_word) > 1:
        raise DataError(
            f"parquet:{pattern}: {by_word[None][0].name} does not say which split it holds, other "
            "files do: give a narrower pattern"
        )
    words = [w for w in by_word if w in (TRAIN_WORDS if split == "train" else EVAL_WORDS)]
    if len(words) > 1:
        raise DataError(
            f"parquet:{pattern} has files of {' and '.join(map(str, words))}: give a narrower "
            f"pattern with --{'eval-data' if split == 'eval' else 'data'}"
        )
    if not words:
        raise DataError(
            f"parquet:{pattern} holds one split ({', '.join(p.name for p in files[:3])}) and no "
            f"{'training' if split == 'train' else 'evaluation'} files: "
            + (
                "give those with --eval-data parquet:GLOB"
                if split == "eval"
                else "give those with --data parquet:GLOB"
            )
        )
    return by_word[words[0]]


def _split_word(path: Path) -> str | None:
    """ "train" of ``train-00000-of-00001.parquet`` or of ``train/0000.parquet``; else None.

    A folder has to be called exactly so: data may lie in a folder such as my_test_runs.
    """
    known = {*TRAIN_WORDS, *EVAL_WORDS}
    words = known.intersection(re.findall("[a-z]+", path.stem.lower()))
    words = words or known.intersection([path.parent.name.lower()])
    return words.pop() if len(words) == 1 else None


def _open(path: Path) -> Any:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}")


def _labels(path: Path, column: str) -> NDArray[np.int64]:
    try:
        values = _open(path).read(columns=[column], use_threads=False).column(0)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error
    if values.null_count:
        row = next(i for i, value in enumerate(values) if not value.is_valid)
        raise DataError(f"{path}, row {row} has no label: expected a class number in {column!r}")
    return np.asarray(values.to_numpy(), dtype=np.int64)
