"""Freed memory of this process, kept for what comes next (Linux with glibc).

PyTorch asks for memory at every operation on a CPU and frees it soon after. glibc gives arrays of
more than 32 MB back to the system at once, and the end of its heap when that is free; the system
clears the pages before it hands them out again. Of a spiking model, whose activations are T times
as large, that is a quarter to a third of the time of a batch. A program that keeps what it has
freed does without, at the price of a process that stays as large as it once was.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of mallopt(3)
_KEEP: Mapping[int, int] = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}
_USUAL: Mapping[int, int] = {
    _MMAP_MAX: 1 << 16,
    _MMAP_THRESHOLD: 32 << 20,
    _TRIM_THRESHOLD: 64 << 20,
}
"""Where glibc's own thresholds, which rise with what is freed, come to rest."""

_kept = False


def keep_freed_memory() -> bool:
    """From now on give no freed memory back to the system; whether that is so.

    For programs, not for libraries: it is a property of the whole process. Whoever has set glibc's
    thresholds in the environment (``MALLOC_*``, ``GLIBC_TUNABLES``) is left alone.
    """
    global _kept
    told = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    _kept = _kept or (not told and _set(_KEEP))
    return _kept


@contextmanager
def memory_given_back() -> Iterator[None]:
    """Within the block, as glibc does by itself: for times that hold for other programs."""
    if _kept:
        _set(_USUAL)
    try:
        yield
    finally:
        if _kept:
            _set(_KEEP)


def _set(options: Mapping[int, int]) -> bool:
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another system, or another C library
        return False
    return all(mallopt(name, value) == 1 for name, value in options.items())
