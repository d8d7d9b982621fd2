"""Data sets of the Hugging Face Hub, `hub:NAME[@CONFIG][#SPLIT]`: streamed, or from the cache.

`hub:` reads images as they come over the network and keeps none; `hub-cached:` downloads all of
the data set once, into the cache of `datasets`, and works without a network from then on.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from psvit.data.huggingface import Table, TableStream, load, newest_commit
from psvit.data.info import Split
from psvit.data.source import EVAL_WORDS, TRAIN_WORDS
from psvit.errors import DataError

_SPEC = re.compile(r"(?P<name>[^@#]+)(@(?P<config>[^@#]+))?(#(?P<split>[^@#]+))?")


def hub_stream(
    rest: str, split: Split, *, only: bool, image_column: str | None, label_column: str | None
) -> TableStream:
    """One split of `hub:REST`. Raises DataError."""
    return _open("hub", rest, split, only, image_column, label_column)  # type: ignore[no-any-return]


def hub_table(
    rest: str, split: Split, *, only: bool, image_column: str | None, label_column: str | None
) -> Table:
    """One split of `hub-cached:REST`, downloaded if it is not there. Raises DataError."""
    return _open("hub-cached", rest, split, only, image_column, label_column)  # type: ignore[no-any-return]


def _open(
    kind: str, rest: str, split: Split, only: bool, image: str | None, label: str | None
) -> Any:
    found = _SPEC.fullmatch(rest)
    where = f"{kind}:{rest}"
    if found is None:
        raise DataError(f"--data {where!r}: expected {kind}:NAME, NAME@CONFIG or NAME#SPLIT")
    splits, commit = _splits(kind, found["name"], found["config"])
    chosen = choose_split(splits, split, only=only, named=found["split"], where=where)
    table, origin = splits[chosen], f"split {chosen}"
    if kind == "hub":
        return TableStream(
            table, where, origin, image_column=image, label_column=label, version=commit
        )
    commit = _cached_commit(table)
    return Table(table, where, origin, image_column=image, label_column=label, version=commit)


@lru_cache(maxsize=8)
def _splits(kind: str, name: str, config: str | None) -> tuple[Any, str | None]:
    """Every split, and the commit: a job opens its data several times, and asks the Hub once."""
    where = f"{kind}:{name}" + (f"@{config}" if config else "")
    if kind == "hub-cached":
        return load(name, config, where), None
    commit = newest_commit(name, where)
    return load(name, config, where, streaming=True, revision=commit), commit


def _cached_commit(table: Any) -> str | None:
    """The commit that a copy was made of, which names its folder in the cache."""
    for file in table.cache_files:
        found = re.search(r"[/\\]([0-9a-f]{40})[/\\]", file["filename"])
        if found:
            return found[1]
    return None


def choose_split(
    names: Collection[str], split: Split, *, only: bool, named: str | None, where: str
) -> str:
    """Which of the splits `names` is to serve `split`; `only` as in `open_data`.

    For evaluation that is `validation` where there is also a `test`, whose labels are often kept
    secret. Raises DataError where none does.
    """
    have = ", ".join(names)
    if named is not None:
        if named not in names:
            raise DataError(f"{where} has no split {named!r}: it has {have}")
        if split == "eval" and not only:
            raise DataError(f"{where} names one split: give another to evaluate on, --eval-data")
        return named
    if only and len(names) == 1:
        return next(iter(names))
    words = TRAIN_WORDS if split == "train" else EVAL_WORDS
    found = [word for word in words if word in names]
    if not found:
        role = "train on" if split == "train" else "evaluate on"
        raise DataError(
            f"{where} has no split to {role}: it has {have}; name one as "
            f"--{'data' if split == 'train' else 'eval-data'} {where}#{next(iter(names), 'SPLIT')}"
        )
    return found[0]
