"""From DATA as people write it to batches."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from psvit.data.factory import FactoryLoader
from psvit.data.info import DataInfo, Split, check_classes
from psvit.data.loader import Decode, Loader
from psvit.data.order import calibration_subset
from psvit.data.recipe import Recipe
from psvit.data.recipes import RECIPES
from psvit.data.source import Source, check_labels
from psvit.errors import DataError, OptionError

if TYPE_CHECKING:
    from psvit.data.stream import Stream, StreamLoader

STORED = ("folder", "parquet", "hub", "hub-cached", "webdataset")
"""The kinds of data, before a colon, whose images are stored: they need a recipe."""

EVENTS = "events"
"""The kind that holds frames of events, which are taken as they are."""

TABLES = ("parquet", "hub", "hub-cached", "webdataset")
"""Those that have columns."""

FORMS = (
    "digits, folder:PATH, parquet:GLOB, hub:NAME, hub-cached:NAME, webdataset:PATTERN, "
    "events:PATH, package.module:factory, or path/to/file.py:factory"
)

Batches: TypeAlias = "Loader | StreamLoader | FactoryLoader"


def open_data(
    spec: str,
    *,
    split: Split,
    recipe: Recipe | None = None,
    batch_size: int = 64,
    workers: int = 0,
    seed: int = 0,
    shuffle: bool = False,
    limit: int | None = None,
    skip_bad: bool = False,
    only: bool = False,
    classes: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> Batches:
    """A DataLoader of ``(images float32 [B, C, H, W], labels int64 [B])``; `.info` describes it.

    `recipe` None is good only for `digits`, which has its own, and for a user's factory, which
    does its own preprocessing. `limit` draws at most that many images at random by `seed` (of a
    factory: takes the first). `skip_bad` leaves out images that cannot be decoded, and lists
    them in `.skipped`. `only`: the source was named for this split alone, so data that do not
    say which split they are serve it. `classes`: the model's number of classes, to be checked.
    `image_column` and `label_column` name columns of tables that do not say it themselves.

    Raises DataError for data that are missing, empty, damaged or mislabelled, or lack the split;
    OptionError for numbers that mean nothing; MissingExtra if a package is not installed.
    """
    _check_options(batch_size=batch_size, workers=workers, limit=limit)
    if (image_column or label_column) and not has_columns(spec):
        kinds = ", ".join(f"{kind}:" for kind in TABLES)
        raise OptionError(f"--image-column and --label-column are for {kinds} got {spec}")
    how: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "seed": seed}
    if _is_factory(spec):
        if recipe is not None:
            raise DataError(
                f"{spec} does its own preprocessing: drop --recipe, --size, --mean and --std"
            )
        return FactoryLoader(spec, split, limit=limit, classes=classes, **how)
    recipe = _recipe_for(spec, recipe)
    how |= {"shuffle": shuffle, "skip_bad": skip_bad}
    columns = {"only": only, "image_column": image_column, "label_column": label_column}
    stream = _stream(spec, split, columns)
    if stream is not None and recipe is not None:
        return _streaming(stream, spec, split, recipe, limit, classes, how)
    source = _source(spec, split, columns)
    check_labels(source, spec)
    indices = None if limit is None else calibration_subset(len(source.labels), limit, seed)
    return _loading(source, spec, split, recipe, indices, classes, how)


def _recipe_for(spec: str, recipe: Recipe | None) -> Recipe | None:
    """None for events alone. Raises DataError for a recipe that is missing, or means nothing."""
    if spec.partition(":")[0] == EVENTS:
        if recipe is None:
            return None
        raise DataError(
            f"{spec} are counts of events, taken as they are: drop --recipe, --mean and --std; a "
            "size is written events:PATH@SIZE"
        )
    if spec == "digits" and recipe is None:
        return RECIPES["digits"]
    if recipe is None:
        raise DataError(
            f"{spec} does not say how its images are to be prepared: give --recipe (one of "
            f"{', '.join(RECIPES)}), or --size, --mean and --std"
        )
    return recipe


def _loading(
    source: Source,
    spec: str,
    split: Split,
    recipe: Recipe | None,
    indices: tuple[int, ...] | None,
    classes: int | None,
    how: dict[str, Any],
) -> Loader:
    names = source.class_names
    info = DataInfo(
        spec=spec,
        split=split,
        origin=source.origin,
        shape=_shape(source, recipe),
        images=len(source.labels) if indices is None else len(indices),
        classes=None if names is None else len(names),
        class_names=names,
        largest_label=int(source.labels.max()),
        recipe=recipe,
        indices=indices,
        version=getattr(source, "version", None),
        digest=source.digest() if hasattr(source, "digest") else None,
        notes=getattr(source, "notes", ()),
        total=getattr(source, "total", len(source.labels)),
    )
    if classes is not None:
        check_classes(info, classes)
    return Loader(source, _decoder(recipe), info, **how)


def _shape(source: Source, recipe: Recipe | None) -> tuple[int, ...]:
    if recipe is None:
        return tuple(source.shape)  # type: ignore[attr-defined]  # events know it themselves
    return recipe.channels, recipe.size, recipe.size


def _decoder(recipe: Recipe | None) -> Decode:
    if recipe is None:
        return torch.from_numpy
    # Here, not above: it needs Pillow, which frames and a user's own loader may do without.
    from psvit.data.pixels import to_tensor

    return partial(to_tensor, recipe=recipe)


def _streaming(
    stream: Stream,
    spec: str,
    split: Split,
    recipe: Recipe,
    limit: int | None,
    classes: int | None,
    how: dict[str, Any],
) -> Loader | StreamLoader:
    """A small draw is held in memory; all else is read as it comes, again at every pass."""
    from psvit.data.stream import HELD_IMAGES, Drawn, StreamLoader

    if limit is not None and limit <= HELD_IMAGES:
        drawn = Drawn(stream, limit, how["seed"])
        check_labels(drawn, spec)
        return _loading(drawn, spec, split, recipe, None, classes, how)
    names, images = stream.class_names, stream.images
    info = DataInfo(
        spec=spec,
        split=split,
        origin=stream.origin,
        shape=(recipe.channels, recipe.size, recipe.size),
        images=images if images is None or limit is None else min(images, limit),
        classes=None if names is None else len(names),
        class_names=names,
        recipe=recipe,
        version=stream.version,
        total=images,
    )
    if classes is not None:
        check_classes(info, classes)
    return StreamLoader(stream, _decoder(recipe), info, limit=limit, **how)


def _check_options(*, batch_size: int, workers: int, limit: int | None) -> None:
    if batch_size < 1:
        raise OptionError(f"--batch-size is {batch_size}, expected at least 1")
    if workers < 0:
        raise OptionError(f"--workers is {workers}, expected 0 or more")
    if limit is not None and limit < 1:
        raise OptionError(f"the number of images is limited to {limit}, expected at least 1")


def is_prepared(spec: str) -> bool:
    """True for stored images, which need a recipe; a user's loader prepares its own."""
    return ":" not in spec or spec.partition(":")[0] in STORED


def has_columns(spec: str) -> bool:
    """True for data in tables, whose columns can be named."""
    return ":" in spec and spec.partition(":")[0] in TABLES


def _is_factory(spec: str) -> bool:
    place, colon, name = spec.rpartition(":")
    stored = is_prepared(spec) or spec.partition(":")[0] == EVENTS
    return bool(colon and name.isidentifier() and place and not stored)


def _stream(spec: str, split: Split, columns: dict[str, Any]) -> Stream | None:
    """The stream of a kind that is one; each kind is imported only when it is asked for."""
    kind, _, rest = spec.partition(":")
    if kind == "hub" and rest:
        from psvit.data.hub import hub_stream

        return hub_stream(rest, split, **columns)
    if kind == "webdataset" and rest:
        from psvit.data.webdataset import WebDataset

        return WebDataset(rest, split, **columns)
    return None


def _source(spec: str, split: Split, columns: dict[str, Any]) -> Source:
    """The source of a kind; each kind is imported only when it is asked for."""
    kind, _, rest = spec.partition(":")
    if spec == "digits":
        from psvit.data.digits import Digits

        return Digits(split)
    if kind == "folder" and rest:
        from psvit.data.folder import Folder

        return Folder(Path(rest).expanduser(), split, only=columns["only"])
    if kind == "parquet" and rest:
        from psvit.data.parquet import Parquet

        return Parquet(str(Path(rest).expanduser()), split, **columns)
    if kind == EVENTS and rest:
        from psvit.data.events import Events

        return Events(rest, split, only=columns["only"])
    if kind == "hub-cached" and rest:
        from psvit.data.hub import hub_table

        return hub_table(rest, split, **columns)
    raise DataError(f"--data {spec!r} is no data set: expected {FORMS}")
