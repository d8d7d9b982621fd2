"""Real digits as files: PNGs in folders and in Parquet, written as other tools write them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from psvit.data.digits import Digits

DIGIT_NAMES = tuple("0123456789")


def digits(n: int, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """The first n digits of a split: pixels [n, 8, 8] and labels [n]."""
    source = Digits(split)
    return np.stack([source.read(i) for i in range(n)]), source.labels[:n]


def png(pixels: np.ndarray, mode: str | None = None, kind: str = "PNG") -> bytes:
    """An image file of `pixels`, converted to `mode` first."""
    image = Image.fromarray(pixels)
    out = io.BytesIO()
    (image.convert(mode) if mode else image).save(out, kind)
    return out.getvalue()


def write_folder(root: Path, n: int = 40, split: str = "train", mode: str | None = None) -> Path:
    """``root/CLASS/number.png``; returns root."""
    for i, (pixels, label) in enumerate(zip(*digits(n, split), strict=True)):
        folder = root / f"class {label}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i:04d}.png").write_bytes(png(pixels, mode))
    return root


def write_parquet(
    path: Path,
    images: Sequence[Any],
    labels: Sequence[Any],
    *,
    names: Sequence[str] | None = DIGIT_NAMES,
    columns: tuple[str, str] = ("image", "label"),
    row_group: int = 16,
    extra: dict[str, list[int]] | None = None,
) -> Path:
    """A file with the Hugging Face schema; `names` None leaves its metadata out."""
    rows = [{"bytes": image, "path": None} for image in images]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table(
        {
            columns[0]: pa.array(rows, kind),
            columns[1]: pa.array(labels, pa.int64()),
            **{name: pa.array(values, pa.int64()) for name, values in (extra or {}).items()},
        }
    )
    if names is not None:
        label = {"names": list(names), "_type": "ClassLabel"}
        features = {columns[0]: {"_type": "Image"}, columns[1]: label}
        text = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": text})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group)
    return path


def write_digits(path: Path, n: int = 40, split: str = "train", **options: Any) -> Path:
    """The first n digits of a split as PNGs in a Parquet file."""
    pixels, labels = digits(n, split)
    return write_parquet(path, [png(image) for image in pixels], labels.tolist(), **options)
