"""Run psvit on public SViT repositories, unmodified, and write docs/repositories.md.

    python -m benchmarks.repositories [--only NAME ...] [--every 6] [--clones DIR]

Clones what is missing (git, GitHub) into DIR, examines every model in a process of its own and
keeps each result in DIR/results as soon as it is there, so that an interrupted run goes on: what
failed, and what was examined at another commit or ``--every``, is examined again, with ``--again``
everything. ``--source`` is where to clone from, with {owner} and {name}. A few models compute with
a package of their own, which has to be installed: the page names it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.repositories.catalogue import CATALOGUE, Published
from benchmarks.repositories.table import write_figures, write_page

GITHUB = "https://github.com/{owner}/{name}"
LIMIT_S = 3600
ROOT = Path(__file__).resolve().parents[2]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 1 if a model is not exact."""
    parser = argparse.ArgumentParser("python -m benchmarks.repositories", description=__doc__)
    parser.add_argument("--clones", type=Path, default=Path.home() / ".cache/psvit/repositories")
    parser.add_argument("--source", default=GITHUB)
    parser.add_argument("--only", nargs="*", default=[], help="parts of names or repositories")
    parser.add_argument("--every", type=int, default=1, help="check every n-th group and head")
    parser.add_argument("--again", action="store_true", help="also what has a result")
    parser.add_argument("--page", type=Path, default=Path("docs/repositories.md"))
    parser.add_argument("--figures", type=Path, help="also write what was found, as JSON")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "T"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.one:
        return _one(options.one[0], int(options.one[1]), options.clones, options.every)
    rows = []
    for published in CATALOGUE:
        wanted = f"{published.name} {published.repository}".lower()
        if options.only and not any(part.lower() in wanted for part in options.only):
            continue
        for T in published.steps:
            row = _result(published, T, options)
            rows.append((published, T, row))
            said = "exact" if row.get("exact") else row.get("error", "NOT EXACT")
            sys.stderr.write(f"{published.name}, T = {T}: {said}\n")
    write_page(options.page, rows, options.every)
    if options.figures:
        commit = _git(ROOT, "rev-parse", "--short", "HEAD")
        write_figures(options.figures, rows, options.every, commit)
    return int(not all(row.get("exact") for _, _, row in rows))


def _result(published: Published, T: int, options: argparse.Namespace) -> dict[str, Any]:
    """The result that is kept, or a new one."""
    name = "".join(c if c.isalnum() else "-" for c in f"{published.name}-T{T}")
    kept: Path = options.clones / "results" / f"{name}.json"
    clone = _clone(published, options.clones, options.source)
    asked = {"every": options.every, "commit": _git(clone, "rev-parse", "--short", "HEAD")}
    if kept.exists() and not options.again:
        row: dict[str, Any] = json.loads(kept.read_text())
        if "error" not in row and asked.items() <= row.items():
            return row
    command = [sys.executable, "-m", "benchmarks.repositories", "--clones", str(options.clones)]
    command += ["--every", str(options.every), "--one", published.name, str(T)]
    began = time.monotonic()
    environment = {**os.environ, "TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_S, env=environment, check=False
        )
        last = (done.stdout.strip() or "{}").splitlines()[-1]
        row = json.loads(last) if done.returncode == 0 else {"error": _reason(done.stderr)}
    except subprocess.TimeoutExpired:
        row = {"error": f"not done after {LIMIT_S} s"}
    row |= {"seconds": round(time.monotonic() - began), **asked}
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(".part")  # a kill leaves no half of a result
    part.write_text(json.dumps(row, indent=1) + "\n")
    part.replace(kept)
    return row


def _one(name: str, T: int, clones: Path, every: int) -> int:
    from benchmarks.repositories.examine import examine  # torch, in the worker only

    published = next(one for one in CATALOGUE if one.name == name)
    print(json.dumps(examine(published, T, _folder(published, clones), every)))
    return 0


def _folder(published: Published, clones: Path) -> Path:
    return clones / published.repository.replace("/", "+")


def _clone(published: Published, clones: Path, source: str) -> Path:
    folder = _folder(published, clones)
    if not folder.exists():
        owner, name = published.repository.split("/")
        address = source.format(owner=owner, name=name)
        command = ["git", "clone", "--quiet", "--depth", "1", address, str(folder)]
        subprocess.run(command, check=True)
    return folder


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _reason(stderr: str) -> str:
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "the process died"


if __name__ == "__main__":
    sys.exit(main())
