"""Runs that take turns, and the memory that one of them needs.

On a busy machine the speed drifts: what is compared runs round by round, each once a round, in an
order that turns, and not one after the other.
"""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from psvit.memory import memory_given_back

Run = Callable[[], object]
FEWEST_ROUNDS, MOST_ROUNDS, WARM_UP = 5, 200, 2


def wait_for(device: torch.device) -> None:
    """Kernels of an accelerator run behind the program's back: wait for them."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
"""What time is read from: the clock on the wall, or the CPU seconds of this process in all its
threads, which on a busy machine are steadier, and mean something with one thread."""


@memory_given_back()
def times_in_turns(
    runs: Sequence[Run],
    device: torch.device,
    seconds: float,
    fewest: int = FEWEST_ROUNDS,
    clock: str = "wall",
) -> list[list[float]]:
    """Milliseconds of each run in each round; as many rounds as ``seconds`` allow."""
    read = CLOCKS[clock]
    for _ in range(WARM_UP):
        for run in runs:
            run()
    wait_for(device)
    times: list[list[float]] = [[] for _ in runs]
    end = time.perf_counter() + seconds
    for round_number in range(MOST_ROUNDS):
        if round_number >= fewest and time.perf_counter() > end:
            break
        for position in range(len(runs)):
            i = (position + round_number) % len(runs)
            wait_for(device)
            start = read()
            runs[i]()
            wait_for(device)
            times[i].append((read() - start) * 1e3)
    return times


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The first, the median and the third."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


@memory_given_back()
def peak_bytes(run: Run, device: torch.device) -> int | None:
    """What memory grows by at its peak during one run, weights not included.

    Of the process on a CPU, which Linux alone lets one ask for; of PyTorch's allocator on CUDA.
    """
    gc.collect()
    if device.type == "cuda":
        wait_for(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        wait_for(device)
        return torch.cuda.max_memory_allocated(device) - before
    return _peak_of_process(run)


def _peak_of_process(run: Run) -> int | None:
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # else freed memory would be used again unseen
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
        before = _status("VmRSS")
        run()
        return max(_status("VmHWM") - before, 0)
    except (OSError, AttributeError, KeyError):
        return None


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return int(values[field].split()[0]) * 1024
