"""bench(models, example) -> Bench: every model in every runtime, in turns."""

from __future__ import annotations

import gc
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from psvit.bench.records import Bench, Row
from psvit.bench.runtimes import RUNTIMES, Forward, why_unusable
from psvit.bench.timing import peak_bytes, quartiles, times_in_turns, wait_for
from psvit.capture import capture
from psvit.capture.copying import private_copy
from psvit.errors import OptionError, PsvitError
from psvit.inference import for_inference, recorded
from psvit.records import InputSpec

Say = Callable[[str], None]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, eq=False)
class Subject:
    """A model to time, and its multiply-accumulates of one image (all T steps)."""

    model: nn.Module
    macs: int


def bench(
    subjects: Mapping[str, Subject],
    spec: InputSpec,
    *,
    runtimes: Sequence[str],
    batches: Sequence[int] = (1, 32),
    dtypes: Sequence[str] = ("float32",),
    device: str | torch.device = "cpu",
    seconds: float = 10.0,
    fewest: int = 5,
    clock: str = "wall",
    say: Say = lambda text: None,
) -> Bench:
    """Time each subject in each runtime; speed-ups are over the one named "dense".

    ``spec``: of the images, ``[B, C, H, W]``. ``seconds``: about how long one batch size of one
    runtime is timed, with ``fewest`` rounds at least, in which every model runs once. ``clock``:
    "wall", or "cpu" for the CPU time of this process (``psvit.bench.timing``).
    The models are not touched. What fails is a row that says why.
    Raises OptionError for a runtime, dtype or batch size that means nothing here.
    """
    device = torch.device(device)
    check_bench(runtimes, batches, dtypes, device)
    rows: list[Row] = []
    simple = (
        _simplified(subjects, spec, say) if any(RUNTIMES[r].simplified for r in runtimes) else {}
    )
    for dtype in dtypes:
        for runtime in runtimes:
            say(f"preparing {runtime}, {dtype}")
            chosen = simple if RUNTIMES[runtime].simplified else subjects
            forwards = _prepared(chosen, spec, runtime, dtype, device)
            for batch in batches:
                say(f"{runtime}, {dtype}, batch {batch}")
                images = _images(spec, batch, DTYPES[dtype], device)
                cell = partial(Row, runtime=runtime, dtype=dtype, batch=batch)
                rows += _timed(forwards, images, cell, seconds, fewest, clock)
            del forwards
            _free(device)
    macs = {name: one.macs for name, one in subjects.items()}
    return Bench(macs, {**about(device), "clock": clock}, tuple(rows))


def about(device: torch.device) -> dict[str, Any]:
    """The machine and the versions that figures are true of."""
    found: dict[str, Any] = {
        "device": device_name(device),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if device.type == "cuda":
        found["cuda"] = torch.version.cuda
        found["tf32"] = {
            "matmul": torch.backends.cuda.matmul.allow_tf32,
            "convolution": torch.backends.cudnn.allow_tf32,
        }
    return found


def device_name(device: torch.device) -> str:
    """Of the accelerator, or of the processor where its maker lets it be known."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or device.type


def check_bench(
    runtimes: Sequence[str], batches: Sequence[int], dtypes: Sequence[str], device: torch.device
) -> None:
    """Say now, before any model is built, what cannot be timed. Raises OptionError."""
    for name in runtimes:
        reason = why_unusable(name, device)
        if reason is not None:
            raise OptionError(f"runtime {name} cannot be used: {reason}")
    for batch in batches:
        if batch < 1:
            raise OptionError(f"a batch size is {batch}, expected 1 image or more")
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise OptionError(f"no dtype {dtype!r} is timed: expected some of {', '.join(DTYPES)}")


def _simplified(subjects: Mapping[str, Subject], spec: InputSpec, say: Say) -> dict[str, Subject]:
    """``psvit.faster`` of each."""
    found = {}
    for name, subject in subjects.items():
        say(f"simplifying the {name} model")
        graph = capture(subject.model, _images(spec, 2, torch.float32), check=False)
        found[name] = Subject(recorded(for_inference(graph)), subject.macs)
    return found


def _prepared(
    subjects: Mapping[str, Subject],
    spec: InputSpec,
    runtime: str,
    dtype: str,
    device: torch.device,
) -> dict[str, Forward | str]:
    """The forward of each subject, or why there is none. A copy: dtype and device are its own."""
    prepared: dict[str, Forward | str] = {}
    for name, subject in subjects.items():
        try:
            model = private_copy(subject.model).eval().to(device, DTYPES[dtype])
            example = _images(spec, 2, DTYPES[dtype], device)
            prepared[name] = RUNTIMES[runtime].prepare(model, example)
        except (RuntimeError, PsvitError) as error:
            prepared[name] = _why(error)
    return prepared


def _timed(
    forwards: Mapping[str, Forward | str],
    images: torch.Tensor,
    cell: Callable[..., Row],
    seconds: float,
    fewest: int,
    clock: str,
) -> list[Row]:
    device = images.device
    rows: dict[str, Row] = {}
    peaks: dict[str, int | None] = {}
    runs: dict[str, Callable[[], object]] = {}
    with torch.no_grad():
        for name, forward in forwards.items():
            if isinstance(forward, str):
                rows[name] = cell(name, failed=forward)
                continue
            run = partial(forward, images)
            try:
                run()  # compiles and chooses kernels, and shows whether it fits into memory
                wait_for(device)
                peaks[name] = peak_bytes(run, device)
                runs[name] = run
            except Exception as error:
                # A runtime raises whatever its tool chain does; the others can still be timed.
                rows[name] = cell(name, failed=_why(error))
                _free(device)
        series = times_in_turns(list(runs.values()), device, seconds, fewest, clock) if runs else []
    times = dict(zip(runs, series, strict=True))
    for name, own in times.items():
        low, median, high = quartiles(own)
        slow, middle, fast = _speedup(times.get("dense"), own)
        rows[name] = cell(
            name,
            runs=len(own),
            median_ms=median,
            low_ms=low,
            high_ms=high,
            peak_bytes=peaks[name],
            speedup=middle,
            speedup_low=slow,
            speedup_high=fast,
        )
    return [rows[name] for name in forwards]


def _speedup(
    dense: Sequence[float] | None, own: Sequence[float]
) -> tuple[float | None, float | None, float | None]:
    if dense is None:
        return None, None, None
    return quartiles([d / o for d, o in zip(dense, own, strict=True)])


def _images(
    spec: InputSpec,
    batch: int,
    dtype: torch.dtype,
    device: torch.device | None = None,
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, *spec.shape[1:], generator=generator).to(device, dtype)


def _why(error: BaseException) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
