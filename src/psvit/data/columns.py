"""Which column of a table holds images, which labels, and what the classes are called.

That stands in an Arrow schema and in its `huggingface` metadata. Needs pyarrow.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psvit.errors import DataError, MissingExtra

try:
    import pyarrow as pa
except ImportError as error:
    raise MissingExtra(
        "reading tables needs pyarrow, which is not installed: pip install 'psvit[data]'"
    ) from error


@dataclass(frozen=True)
class Columns:
    """The names of the two columns, and those of the classes, by label.

    A label inside of a struct is named with dots, ``json.label``.
    """

    image: str
    label: str
    class_names: tuple[str, ...] | None


def find_columns(
    schema: Any,
    where: str,
    image: str | None = None,
    label: str | None = None,
    *,
    usual: Sequence[str] = (),
) -> Columns:
    """Find the columns that were not named, `where` they are; raises DataError where none or
    several could be meant. Of several labels, the first of the `usual` names is taken."""
    features = _features(schema)
    types = {field.name: field.type for field in schema}
    deep = _flat(types)
    image = _column(where, types, image, "image", _image_columns(types, features))
    label = _column(where, deep, label, "label", _label_columns(deep, features, usual))
    if not _holds_bytes(types[image]):
        raise DataError(f"{where}: column {image!r} is {types[image]}, expected bytes of images")
    if not pa.types.is_integer(deep[label]):
        raise DataError(f"{where}: column {label!r} is {deep[label]}, expected whole numbers")
    names = features.get(label, {}).get("names")
    return Columns(image, label, None if names is None else tuple(str(name) for name in names))


def _column(
    where: str, types: dict[str, Any], named: str | None, role: str, found: list[str]
) -> str:
    if named is not None:
        if named not in types:
            raise DataError(f"{where} has no column {named!r}: it has {', '.join(types)}")
        return named
    if len(found) == 1:
        return found[0]
    what = "none" if not found else "several: " + ", ".join(found)
    raise DataError(
        f"{where}: expected one {role} column, got {what}; say which with --{role}-column "
        f"(columns: {', '.join(types)})"
    )


def _flat(types: dict[str, Any]) -> dict[str, Any]:
    """With the fields of structs that are no images, ``json.label``."""
    found = {}
    for name, kind in types.items():
        found[name] = kind
        if pa.types.is_struct(kind) and not _holds_bytes(kind):
            found |= _flat({f"{name}.{field.name}": field.type for field in kind})
    return found


def _image_columns(types: dict[str, Any], features: dict[str, Any]) -> list[str]:
    declared = [n for n in types if features.get(n, {}).get("_type") == "Image"]
    return declared or [n for n, kind in types.items() if _holds_bytes(kind)]


def _label_columns(
    types: dict[str, Any], features: dict[str, Any], usual: Sequence[str]
) -> list[str]:
    declared = [n for n in types if features.get(n, {}).get("_type") == "ClassLabel"]
    found = declared or [n for n, kind in types.items() if pa.types.is_integer(kind)]
    return next(([name] for name in usual if name in found), found)


def _holds_bytes(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return any(f.name == "bytes" and _holds_bytes(f.type) for f in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _features(schema: Any) -> dict[str, Any]:
    """The Hugging Face description of the columns; empty where there is none."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])
        features = info["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {name: value for name, value in features.items() if isinstance(value, dict)}
