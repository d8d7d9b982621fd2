"""Freed memory: kept for the next operation, and given back where times are taken."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory"
)

SIZE = 256 << 20
PROGRAM = f"""
import os
from pathlib import Path
import torch
from psvit.memory import keep_freed_memory, memory_given_back

PAGE = os.sysconf("SC_PAGE_SIZE")

def left(numbers={SIZE // 4}):
    'By how much a freed array has made this process larger, as a share of SIZE.'
    before = int(Path("/proc/self/statm").read_text().split()[1])
    array = torch.ones(numbers)
    del array
    return (int(Path("/proc/self/statm").read_text().split()[1]) - before) * PAGE / {SIZE}

shares = [left()]
kept = keep_freed_memory()
with memory_given_back():
    shares.append(left())
shares += [left(), left({SIZE // 5})]
print(int(kept), *(round(share) for share in shares))
"""


def shares(**more: str) -> list[int]:
    usual = {"PATH": "", "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    got = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=usual | more, capture_output=True, text=True
    )
    assert got.returncode == 0, got.stderr
    return [int(word) for word in got.stdout.split()]


def test_memory_is_kept_from_the_call_on_but_where_times_are_taken():
    # the last array, a smaller one, finds the place of the one before it
    assert shares() == [1, 0, 0, 1, 0]


def test_what_a_user_says_of_the_allocator_stands():
    assert shares(MALLOC_TOP_PAD_="0") == [0, 0, 0, 0, 0]
