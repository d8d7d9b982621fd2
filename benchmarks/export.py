"""Every format of `psvit export`, on pruned, untrained and published models: what a file computes.

    python -m benchmarks.export --data 'parquet:cifar10-*.parquet' [--clones DIR] [--only MODEL ...]

The three embedded models are pruned by `psvit prune --save memory=40% --recover obs` first, and
each file is compared with the pruned model on 1,000 images: test images first, which alone the
accuracy is of. Parts in NIR have many more values than logits: they are compared on 100 images.
Untrained models, and those of public repositories as their authors wrote them, get statistics and
thresholds at which they fire, and 100 random images. Every file also runs one image and seven at a
time. Writes benchmarks/results/export-<date>.md and .json; with --only or --files, what the others
gave on the same day stays. Hours on two cores; what was pruned is kept in --work.
`--clones` is the folder of `python -m benchmarks.repositories`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import psvit
from benchmarks.repositories.catalogue import CATALOGUE
from psvit.bench.run import device_name
from psvit.cli.inputs import DataOptions, open_model
from psvit.compat import import_file, legacy_imports
from psvit.errors import MissingExtra, PsvitError
from psvit.evaluate.accuracy import logits_of
from psvit.export import open_export
from psvit.models import build
from psvit.neurons import reset_state
from tests.zoo.wake import wake

RESULTS = Path(__file__).parent / "results"
EMBEDDED = ("spikformer-digits", "spikformer-cifar10", "sdt-cifar10")
SMALL_E = {"embed_dims": (16, 32, 48, 64), "depths": (1, 1), "num_classes": 10}
UNTRAINED: dict[str, tuple[str, dict[str, Any]]] = {
    "meta-spikeformer-cifar10": ("meta-spikeformer-cifar10", {}),
    "e-spikeformer (small)": ("e-spikeformer-5m", SMALL_E),
}
PUBLISHED = (
    "Spikformer, CIFAR-10",
    "Spike-driven Transformer v1",
    "SpikingResformer",
    "MaxFormer, CIFAR",
    "QKFormer, CIFAR-10",
)
FILES = {
    "onnx": ("onnx", "float32", ".onnx"),
    "onnx int8": ("onnx", "int8", ".onnx"),
    "pt2": ("pt2", "float32", ".pt2"),
    "openvino": ("openvino", "float32", ".xml"),
    "nir": ("nir", "float32", ".nir"),
    "executorch": ("executorch", "float32", ".pte"),
}
"""Name -> format, weights, suffix."""
T = 4
FEWER = 100
"""Images for the parts in NIR, and for models that have no data."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A model, two images, and what to compare on: test images with labels, then others.

    ``dense``: the model before pruning, of an embedded one. ``most``: how many images there are.
    """

    name: str
    model: nn.Module
    example: Tensor
    images: Callable[[], Iterable[Any]]
    dense: nn.Module | None = None
    most: int | None = None


def embedded(name: str, options: argparse.Namespace) -> Subject:
    """The pruned folder of an embedded model, made by the command that users give."""
    data = "digits" if name == "spikformer-digits" else options.data
    folder = options.work / name
    if not (folder / "plan.json").exists():
        command = [sys.executable, "-m", "psvit", "prune", name, "--data", data, "-o", str(folder)]
        command += ["--save", "memory=40%", "--recover", "obs", "--limit", "1000"]
        subprocess.run(command, check=True, stdout=sys.stderr)
    loaded = open_model(str(folder), [], None, allow_partial=False, seed=0)
    reader = DataOptions(batch_size=50).with_recipe_of(loaded, str(folder))

    def images() -> Iterator[Any]:
        yield from reader.open(data, "eval", only=False)
        yield from (batch[0] for batch in reader.open(data, "train", only=False))

    example = next(iter(images()))[0][:2]
    dense = open_model(name, [], None, allow_partial=False, seed=0).model
    return Subject(f"{name}, 40 % pruned", loaded.model.eval(), example, images, dense.eval())


def untrained(name: str, options: argparse.Namespace) -> Subject:
    """A model of the registry at 32x32 that fires."""
    entry, arguments = UNTRAINED[name]
    torch.manual_seed(0)
    return woken(f"{name}, untrained", build(entry, **arguments))


def published(name: str, options: argparse.Namespace) -> Subject:
    """A model of a public repository, its code unchanged."""
    entry = next(one for one in CATALOGUE if one.name == name)
    file = options.clones / entry.repository.replace("/", "+") / entry.file
    torch.manual_seed(0)
    with legacy_imports(file.parent):
        model = entry.build(import_file(file), T)
        size = tuple(entry.sizes(T, 2)[0][1:])
        return woken(f"{name} ({entry.repository}), untrained", model, size)


def woken(name: str, model: nn.Module, size: tuple[int, ...] = (3, 32, 32)) -> Subject:
    """An untrained model, made to fire on random images of ``size``."""

    def images() -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(0)
        while True:
            yield torch.rand(50, *size, generator=generator)

    example = next(images())[:2]
    with torch.no_grad():
        model.train()(example)  # firing rates that a model keeps, and divides by, are 0 before
    reset_state(model)
    return Subject(name, wake(model, (example,)), example, images, most=FEWER)


SUBJECTS: dict[str, Callable[[str, argparse.Namespace], Subject]] = {
    **dict.fromkeys(EMBEDDED, embedded),
    **dict.fromkeys(UNTRAINED, untrained),
    **dict.fromkeys(PUBLISHED, published),
}


def examine(subject: Subject, kind: str, n: int) -> dict[str, Any]:
    """One file of one model: what it computes, how large and how fast it is."""
    format, weights, suffix = FILES[kind]
    most = FEWER if format == "nir" else subject.most
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{suffix}"
        began = time.perf_counter()
        try:
            made = psvit.export(
                subject.model,
                subject.example,
                path,
                format,
                weights=weights,
                data=subject.images(),
                n=n if most is None else min(n, most),
            )
        except MissingExtra as error:
            return {"missing": str(error)}
        except PsvitError as error:
            return {"refused": str(error)}
        seconds = time.perf_counter() - began
        row: dict[str, Any] = {"bytes": made.bytes, "seconds": seconds}
        if made.comparison is None:
            matches = [replace(part, layers=()) for part in made.parts]
            return row | {"parts": [asdict(m) for m in matches], "left": len(made.left)}
        file = open_export(path)
        row |= asdict(made.comparison) | timed(file, subject.example)
        return row | {"batches": alone_and_in_sevens(subject, file)}


def dense_bytes(subject: Subject) -> dict[str, int]:
    """Sizes of the ONNX files of the model before pruning, by the kind of weights."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for weights in ("float32", "int8"):
            path = Path(folder) / f"{weights}.onnx"
            assert subject.dense is not None
            made = psvit.export(subject.dense, subject.example, path, weights=weights, n=2)
            found[weights] = made.bytes
    return found


def alone_and_in_sevens(subject: Subject, file: nn.Module) -> dict[str, Any]:
    """The same seven images, one at a time and together: images whose logits differ."""
    batch = next(iter(subject.images()))
    seven = (batch[0] if isinstance(batch, tuple | list) else batch)[:7]
    alone = torch.cat([file(image[None]) for image in seven])
    together = file(seven)
    own = logits_of_model(subject.model, seven)
    gaps = torch.stack([(alone - own).abs().amax(1), (together - own).abs().amax(1)])
    return {"shape": list(together.shape), "largest": gaps.amax(1).tolist()}


def logits_of_model(model: nn.Module, images: Tensor) -> Tensor:
    reset_state(model)
    with torch.no_grad():
        logits = logits_of(model, images)
    reset_state(model)
    return logits


def timed(file: Callable[[Tensor], Tensor], example: Tensor) -> dict[str, float]:
    """Milliseconds an image: medians of 9 runs of 1 image, and of 32."""
    found = {}
    for batch in (1, 32):
        images = example[:1].expand(batch, *example.shape[1:]).contiguous()
        runs = []
        for _ in range(12):
            began = time.perf_counter()
            file(images)
            runs.append((time.perf_counter() - began) / batch * 1e3)
        found[f"ms_batch_{batch}"] = statistics.median(runs[3:])
    return found


def accuracy(model: nn.Module, images: Iterable[Any], n: int) -> float | None:
    """Of the labelled ones among the first ``n``; None without any."""
    right = total = seen = 0
    for batch in images:
        if not isinstance(batch, tuple | list) or seen >= n:
            break
        pictures, labels = batch[0][: n - seen], batch[1][: n - seen]
        right += int((logits_of_model(model, pictures).argmax(1) == labels).sum())
        total, seen = total + len(labels), seen + len(labels)
    return right / total if total else None


def table(name: str, found: dict[str, Any]) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    if found["dense"] is not None:
        yield f"Accuracy of the unpruned model on the same test images: {found['dense']:.2%}."
        yield from sizes_text(found)
        yield ""
    yield f"PyTorch: {found['torch']['ms_batch_1']:.2f} ms an image alone, " + (
        f"{found['torch']['ms_batch_32']:.2f} ms in batches of 32."
    )
    yield ""
    yield (
        "| file | size, kB | same first guess | images that differ: flips | largest difference of "
        "the others | at batch 1 / 7 | accuracy (model) | ms an image: alone | of 32 |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for kind in (kind for kind in FILES if kind in found["files"]):
        row = found["files"][kind]
        if "missing" in row or "refused" in row:
            yield f"| {kind} | {row.get('missing') or row.get('refused')} | | | | | | | |"
        elif "parts" in row:
            yield f"| {kind} | {row['bytes'] / 1e3:,.0f} | {parts_text(row)} | | | | | | |"
        else:
            yield f"| {kind} | {row['bytes'] / 1e3:,.0f} " + row_text(kind, row)
    yield ""


def sizes_text(found: dict[str, Any]) -> Iterator[str]:
    """What pruning saves of an ONNX file, what 8 bits save, and what both do."""
    dense, files = found["dense_bytes"], found["files"]
    if not all("bytes" in files.get(kind, {}) for kind in ("onnx", "onnx int8")):
        return
    whole = dense["float32"]
    yield (
        f"ONNX file of it: {whole / 1e3:,.0f} kB. Of that, pruned "
        f"{files['onnx']['bytes'] / whole:.1%}, in 8 bits {dense['int8'] / whole:.1%}, both "
        f"{files['onnx int8']['bytes'] / whole:.1%}."
    )


def row_text(kind: str, row: dict[str, Any]) -> str:
    """The cells after the size. All logits of 8-bit weights differ: none of them is a flip."""
    right = ""
    if row["labelled"]:
        own, other = (row[k] / row["labelled"] for k in ("correct_model", "correct_file"))
        right = f"{other:.2%} ({own:.2%}) of {row['labelled']}"
    gaps = " / ".join(f"{gap:.1e}" for gap in row["batches"]["largest"])
    flips, largest = str(row["differing"]), row["largest"]
    if row["differing"]:
        flips += f": {row['flipped']} of {row['followed']} looked into"
    if FILES[kind][1] != "float32":
        flips, largest = "", max(largest, row["largest_differing"])
    return (
        f"| {row['same_top1']} of {row['n']} | {flips} | {largest:.1e} | {gaps} "
        f"| {right} | {row['ms_batch_1']:.2f} | {row['ms_batch_32']:.2f} |"
    )


def parts_text(row: dict[str, Any]) -> str:
    parts = row["parts"]
    values, differing = (sum(p[k] for p in parts) for k in ("values", "differing_values"))
    spikes = sum(p["spikes"] or 0 for p in parts)
    return (
        f"{len(parts)} parts, {differing:,} of {values:,} values differ, {spikes:,} spikes, "
        f"{row['left']} operations in none"
    )


def write(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """After each file, so that what is cut short has left something."""
    today, cpu = date.today().isoformat(), torch.device("cpu")
    lines = [
        f"# What exported files compute, {today}",
        "",
        f"`python -m benchmarks.export --data 'parquet:cifar10-*.parquet'` on {device_name(cpu)}, "
        f"{os.cpu_count()} cores, {torch.get_num_threads()} thread(s), torch {torch.__version__}, "
        "T = 4. An image differs if a logit does by more than 1e-4. Up to 16 such images are "
        "looked into: in how many the first layer whose spikes differ has the same inputs, so that "
        "a spike flipped at its threshold. At batch 1 / 7: the largest difference of seven images' "
        "logits from the model's, fed one by one and together.",
        "",
        *itertools.chain(*(table(name, found) for name, found in results.items())),
    ]
    stem = options.out / f"export-{today}"
    stem.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    stem.with_suffix(".md").write_text("\n".join(lines))


def earlier(options: argparse.Namespace) -> dict[str, Any]:
    """What was found today, if only some models or files are looked at again."""
    path = options.out / f"export-{date.today().isoformat()}.json"
    some = options.only or len(options.files) < len(FILES)
    found: dict[str, Any] = json.loads(path.read_text()) if some and path.exists() else {}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", help="CIFAR-10, as `psvit prune --data` takes it")
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, metavar="MODEL", default=[])
    parser.add_argument("--files", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--clones", type=Path, default=Path.home() / ".cache/psvit/repositories")
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache/psvit/export")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    results = earlier(options)
    for name in options.only or SUBJECTS:
        if SUBJECTS[name] is embedded and name != "spikformer-digits" and options.data is None:
            print(f"{name}: left out without --data", file=sys.stderr)
            continue
        subject = SUBJECTS[name](name, options)
        before = results.get(subject.name, {}).get("files", {})
        kept = {kind: row for kind, row in before.items() if kind not in options.files}
        found: dict[str, Any] = {"files": kept, "dense": None}
        if subject.dense is not None:
            found["dense"] = accuracy(subject.dense, subject.images(), options.n)
            found["dense_bytes"] = dense_bytes(subject)
        found["torch"] = timed(lambda x, s=subject: logits_of_model(s.model, x), subject.example)
        results[subject.name] = found
        for kind in options.files:
            print(f"{subject.name}: {kind}", file=sys.stderr, flush=True)
            found["files"][kind] = examine(subject, kind, options.n)
            write(options, results)


if __name__ == "__main__":
    main()
