"""Runs `collect` on small parts in the folder argv[1]; if argv[2] is "sleep", the second sleeps."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from benchmarks.figures import Run, collect
from benchmarks.parts import Part

ABOUT = {
    "command": "python -m tests", "device": "a machine", "cores": 2, "memory_gb": 1,
    "system": "Linux", "versions": {"torch": "2"}, "threads": "1",
}  # fmt: skip

COUNT = (
    "import os, pathlib, sys, time; name, nap = sys.argv[1:3];"
    "print(name, file=open(os.path.join('results', 'log'), 'a'));"
    "(pathlib.Path('results') / (name + '.started')).write_text(str(os.getpid()));"
    "time.sleep(float(nap)); (pathlib.Path('results') / (name + '.md')).write_text('figures')"
)


def part(name: str, nap: float = 0.0) -> Part:
    """Notes in results/log that it began, and writes NAME.md in the end."""
    command = f'-c "{COUNT}" {name} {nap}'
    return Part(name, command, command, "7")


def main() -> None:
    out = Path(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parts = [part("one"), part("two", 60.0 if sys.argv[2] == "sleep" else 0.0), part("three")]
    fine = collect(parts, Run(out, False, {}, ABOUT, "abc"), chosen=[], again=False)
    raise SystemExit(int(not fine))


if __name__ == "__main__":
    main()
