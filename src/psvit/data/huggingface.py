"""Tables of images through Hugging Face's `datasets`: the one file that imports it."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psvit.data.columns import find_columns
from psvit.data.source import Block
from psvit.data.stream import Row
from psvit.errors import DataError, MissingExtra, PsvitError

BUFFER, SHARDS = 1000, 16
"""A mixed stream draws each image out of so many, which come from so many files at a time."""


def library() -> Any:
    """The package `datasets`. Raises MissingExtra."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import datasets
    except ImportError as error:
        raise MissingExtra(
            "hub: and webdataset: need datasets, which is not installed: "
            "pip install 'psvit[datasets]'"
        ) from error
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    return datasets


def load(path: str, name: str | None, where: str, **options: Any) -> Mapping[str, Any]:
    """`datasets.load_dataset` of all splits, by name. Raises DataError that says what to do."""
    with _said(where):
        return dict(library().load_dataset(path, name, **options))


def newest_commit(name: str, where: str) -> str:
    """The commit that the Hub has of a data set now. Raises DataError."""
    datasets = library()
    from huggingface_hub import HfApi  # which datasets is built on

    with _said(where):
        return str(HfApi(endpoint=datasets.config.HF_ENDPOINT).dataset_info(name).sha)


@contextmanager
def _said(where: str) -> Iterator[None]:
    try:
        yield
    except PsvitError:
        raise
    except Exception as error:  # datasets' own errors, the Hub's, those of HTTP, Arrow, tarfile
        raise DataError(f"{where} {_why(error)}") from error


def _why(error: BaseException) -> str:
    """What `datasets` and the Hub answered, in one line."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    kinds = {type(e).__name__ for e in chain}
    text = " ".join(str(error).split())
    if "GatedRepoError" in kinds or "is a gated dataset" in text:
        return (
            "is gated: ask for access on its page of the Hub, then log in with `hf auth login` or "
            "set HF_TOKEN"
        )
    offline = "OfflineModeIsEnabled" in kinds or "OfflineModeIsEnabled" in text
    if offline or ("not cached" in text and _offline()):
        return (
            "is not in the cache of this machine, and HF_HUB_OFFLINE keeps to that: run once with "
            "hub-cached: and a connection"
        )
    if "DataFilesNotFoundError" in kinds:
        return "holds no data files that `datasets` can read: expected images as Parquet, tars, ..."
    if kinds & {"RepositoryNotFoundError", "DatasetNotFoundError"}:
        return (
            "is not on the Hub, or private: check the name, which is user/name or an old short "
            "one, or log in with `hf auth login`"
        )
    if kinds & {"ConnectionError", "ConnectError", "ConnectTimeout", "ReadTimeout"}:
        return (
            f"cannot be reached ({cut(text)}): check the connection, or give hub-cached: if it "
            "was downloaded before, with HF_HUB_OFFLINE=1"
        )
    if isinstance(error, ValueError) and "onfig" in text:
        return f"has several configurations, or not this one: {cut(text, 300)}; give it as @CONFIG"
    return f"cannot be read: {type(error).__name__}: {cut(text)}"


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def cut(text: str, limit: int = 160) -> str:
    """`text`, shortened."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


class TableStream:
    """A split that `datasets` streams: a `Stream`. Images stay encoded."""

    def __init__(
        self,
        table: Any,
        where: str,
        origin: str,
        *,
        image_column: str | None,
        label_column: str | None,
        usual: Sequence[str] = (),
        version: str | None = None,
    ) -> None:
        if table.features is None:
            raise DataError(f"{where} does not say what columns it has: expected an image data set")
        schema = table.features.arrow_schema
        self._columns = find_columns(schema, where, image_column, label_column, usual=usual)
        names = [self._columns.image, self._columns.label.partition(".")[0]]
        names += [name for name in ("__key__", "__url__") if name in table.features]
        self._table = undecoded(table, self._columns.image).select_columns(names)
        self._where = where
        self.origin, self.version = origin, version
        self.class_names = self._columns.class_names

    @property
    def images(self) -> int | None:
        """What the data set says of itself."""
        info = self._table.info
        split = (info.splits or {}).get(str(self._table.split))
        return getattr(split, "num_examples", None) or None

    def count(self) -> int:
        """Raises DataError where the data set does not say it."""
        if self.images is None:
            raise DataError(
                f"{self._where} does not say how many images it has, which this needs to know: "
                "give hub-cached: to download it"
            )
        return self.images

    def rows(self, seed: int | None, epoch: int = 0) -> Iterator[Row]:
        """Mixed: images out of a buffer of BUFFER, filled from SHARDS files at a time."""
        table = self._table
        if seed is not None:
            mixed = np.random.SeedSequence((seed, epoch)).generate_state(1)[0]
            shards = min(SHARDS, table.num_shards)
            table = table.shuffle(
                seed=int(mixed), buffer_size=BUFFER, max_buffer_input_shards=shards
            )
        with _said(self._where):
            for number, row in enumerate(table):
                yield self._row(row, number)

    def _row(self, row: Mapping[str, Any], number: int) -> Row:
        image = row[self._columns.image]
        label: Any = row
        for part in self._columns.label.split("."):
            label = label.get(part) if isinstance(label, Mapping) else None
        where = place(row, image, number, self._where)
        if label is None:
            raise DataError(
                f"{where} has no label: expected a class number in {self._columns.label!r}"
            )
        return Row(content(image), int(label), where)


class Table:
    """A split that lies on this machine, mapped into memory: a `Source`."""

    def __init__(
        self,
        table: Any,
        where: str,
        origin: str,
        *,
        image_column: str | None,
        label_column: str | None,
        version: str | None = None,
    ) -> None:
        schema = table.features.arrow_schema
        columns = find_columns(schema, where, image_column, label_column)
        self._table = undecoded(table, columns.image)
        self._columns, self._where = columns, where
        self.class_names = columns.class_names
        self.origin, self.version = origin, version
        values = table.select_columns([columns.label]).with_format("numpy")[:][columns.label]
        self.labels: NDArray[np.int64] = np.asarray(values, dtype=np.int64)
        self.blocks = (Block(0, len(self.labels)),)

    def read(self, index: int) -> bytes:
        """The encoded image. Raises OSError."""
        return content(self._table[index][self._columns.image])

    def where(self, index: int) -> str:
        """The image's number."""
        return f"{self._where}, image {index}"


def undecoded(table: Any, column: str) -> Any:
    """`table` with encoded images in `column`: they are decoded elsewhere, by one rule."""
    datasets = library()
    if isinstance(table.features[column], datasets.Image):
        return table.cast_column(column, datasets.Image(decode=False))
    return table


def content(image: Any) -> bytes:
    """The bytes of an encoded image, which may lie in a file. Raises OSError."""
    if isinstance(image, Mapping):
        data, path = image.get("bytes"), image.get("path")
        if data is None and path:
            import fsspec

            with fsspec.open(path, "rb") as file:
                data = file.read()
        image = data
    return b"" if image is None else bytes(image)


def place(row: Mapping[str, Any], image: Any, number: int, where: str) -> str:
    """An image's name in an error message."""
    if "__key__" in row:
        return f"{row.get('__url__', where)}, {row['__key__']}"
    path = image.get("path") if isinstance(image, Mapping) else None
    return f"{where}, {path or f'image {number}'}"
