"""WebDataset shards, `webdataset:PATTERN`: tar files with an image and a label a key.

Read by the builder of `datasets` for them, so that they stream, mix and fail as `hub:` does; the
package `webdataset` would be a second pipeline, with an order of its own in every worker.
"""

from __future__ import annotations

import glob
import itertools
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from psvit.data.huggingface import TableStream, load
from psvit.data.info import Split
from psvit.data.source import EVAL_WORDS, TRAIN_WORDS
from psvit.errors import DataError

LABELS = ("cls", "json.label", "json.cls", "json.class_id", "json.class", "label", "cls.txt")
"""Where labels usually stand, the first of these that is there."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


class WebDataset(TableStream):
    """The shards that a pattern names, which hold one split."""

    def __init__(
        self,
        pattern: str,
        split: Split,
        *,
        only: bool,
        image_column: str | None,
        label_column: str | None,
    ) -> None:
        where = f"webdataset:{pattern}"
        self._shards = shards_of(pattern, split, only=only)
        splits = load("webdataset", None, where, data_files={"train": self._shards}, streaming=True)
        count = len(self._shards)
        super().__init__(
            splits["train"],
            where,
            f"{count} shard{'s' if count > 1 else ''}",
            image_column=image_column,
            label_column=label_column,
            usual=LABELS,
        )

    def count(self) -> int:
        """The keys in the shards, from their headers. Raises DataError for remote ones."""
        total = 0
        for shard in self._shards:
            if not Path(shard).is_file():
                raise DataError(
                    f"{shard} is not on this machine, so how many images it has is not known: "
                    "download the shards, or give --limit"
                )
            try:
                with tarfile.open(shard) as tar:
                    total += len({_key(member.name) for member in tar if member.isfile()})
            except (OSError, tarfile.TarError) as error:
                raise DataError(f"{shard} is damaged, no tar file ({error})") from error
        return total


def _key(name: str) -> str:
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.partition('.')[0]}"


def shards_of(pattern: str, split: Split, *, only: bool) -> list[str]:
    """The shards of a split, with braces and wildcards resolved.

    Their names tell which split they hold, as in ``imagenet-train-{0000..0146}.tar``. Raises
    DataError for shards that are missing, or hold the other split alone.
    """
    found: list[str] = []
    for one in expand(pattern):
        if "://" in one:
            found.append(one)
            continue
        path = str(Path(one).expanduser())
        matches = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else [path]
        missing = [name for name in matches or [path] if not Path(name).is_file()]
        if missing:
            more = "" if glob.has_magic(path) else " (check the range in braces)"
            raise DataError(f"webdataset:{pattern}: {missing[0]} does not exist{more}")
        found += matches
    words = {_word(name) for name in found}
    if only or (words == {None} and split == "train"):
        return found
    wanted = TRAIN_WORDS if split == "train" else EVAL_WORDS
    chosen = [name for name in found if _word(name) in wanted]
    if not chosen:
        role = "training" if split == "train" else "evaluation"
        raise DataError(
            f"webdataset:{pattern} has no {role} shards by their names ({Path(found[0]).name}): "
            f"give those with --{'data' if split == 'train' else 'eval-data'} webdataset:PATTERN"
        )
    return chosen


def _word(name: str) -> str | None:
    known = {*TRAIN_WORDS, *EVAL_WORDS}
    words = known.intersection(re.findall("[a-z]+", Path(name).name.lower()))
    words = words or known.intersection([Path(name).parent.name.lower()])
    return words.pop() if len(words) == 1 else None


def expand(pattern: str) -> Iterator[str]:
    """``a-{00..02}.tar`` -> ``a-00.tar``, ``a-01.tar``, ``a-02.tar``; ``{x,y}`` likewise."""
    parts = _BRACES.split(pattern)
    choices = [[part] if i % 2 == 0 else _choices(part) for i, part in enumerate(parts)]
    return ("".join(chosen) for chosen in itertools.product(*choices))


def _choices(text: str) -> list[str]:
    numbers = _RANGE.fullmatch(text)
    if numbers is None:
        return text.split(",")
    low, high = int(numbers[1]), int(numbers[2])
    if high < low:
        raise DataError(f"webdataset: the range {{{text}}} is empty: expected {{FIRST..LAST}}")
    return [f"{number:0{len(numbers[1])}d}" for number in range(low, high + 1)]
