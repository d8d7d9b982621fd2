"""Every figure about speed, cost and export, by one command: one benchmark after the other.

    python -m benchmarks.figures --data DIR --clones DIR   # hours, on an idle machine of two cores
    python -m benchmarks.figures --quick                   # smaller runs of the same
    python -m benchmarks.figures --only scaling latency    # parts whose name has one of the words

--data is a folder with cifar10-train.parquet, cifar10-test.parquet and imagenet-sample-1000.parquet
in the Hugging Face image schema, --clones that of `python -m benchmarks.repositories`; parts that
need what is not given are left out, and said to be. Each part is a process of its own that writes
its tables to --out (benchmarks/results; with --quick benchmarks/quick, which git ignores).
figures-<date>.md and .json there say for each what ran with which seeds at which commit, how long
it took, how it ended and what it wrote, on which machine with which versions. A run that was cut
short goes on where it was, also on another day, as long as machine and versions are the same: a
part that has ended well at this commit is run again only by --again. With --only, what others gave
at another commit stays. A part that fails stops no other; the exit code is 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.parts import PARTS, Part

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    *("torch", "numpy", "scipy", "spikingjelly", "onnx", "onnxruntime", "onnxscript", "openvino"),
    *("nir", "nirtorch", "executorch", "torch-pruning"),
)
WELL, LEFT_OUT = "well", "left out"


@dataclass(frozen=True)
class Run:
    """One run of this command. ``places``: the name that a part knows a folder by -> the folder."""

    out: Path
    quick: bool
    places: Mapping[str, Path]
    about: Mapping[str, Any]
    commit: str

    @property
    def prefix(self) -> str:
        """Of the names of its pages."""
        return "figures-quick-" if self.quick else "figures-"


def collect(parts: Sequence[Part], run: Run, *, chosen: Sequence[str], again: bool) -> bool:
    """Run what has not ended well yet; whether everything that ran has, the page included."""
    stem, results = start_of(parts, run)
    for part in parts:
        if chosen and not any(word in part.name for word in chosen):
            continue
        known = results.get(part.name, {})
        if (known.get("ended"), known.get("commit")) == (WELL, run.commit) and not again:
            print(f"== {part.name}: done before", file=sys.stderr, flush=True)
            continue
        print(f"== {part.name}", file=sys.stderr, flush=True)
        results[part.name] = run_part(part, run)
        print(f"== {part.name}: {results[part.name]['ended']}", file=sys.stderr, flush=True)
        keep(stem, parts, run, results)
    return all(one["ended"].startswith((WELL, LEFT_OUT)) for one in results.values())


def start_of(parts: Sequence[Part], run: Run) -> tuple[Path, dict[str, dict[str, Any]]]:
    """Where the pages are, and what is known: of today, or of a run that was cut short."""
    today = run.out / f"{run.prefix}{date.today()}"
    for path in sorted(run.out.glob(f"{run.prefix}2*.json"), reverse=True):
        known = json.loads(path.read_text())
        results = {one["name"]: one for one in known["parts"]}
        cut_short = any(part.name not in results for part in parts)
        if known["about"] == dict(run.about) and (cut_short or path.stem == today.name):
            return path.with_suffix(""), results
    return today, {}


def run_part(part: Part, run: Run) -> dict[str, Any]:
    """What became of a part: its record."""
    words = part.words(run.quick)
    record = {"name": part.name, "seeds": part.seeds, "date": str(date.today())}
    record |= {"commit": run.commit}
    record |= {"command": shlex.join(["python", *words]), "seconds": 0.0, "wrote": []}
    missing = part.missing(run.places, run.quick)
    if missing:
        return {**record, "ended": f"{LEFT_OUT}: needs {missing}"}
    before, start = written(run.out), time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        # Folders under short names of their own: no page tells where they are on this machine.
        folder = Path(name)
        for place, where in {**run.places, "results": run.out}.items():
            (folder / place).symlink_to(where)
        code, said = ended([sys.executable, *words], folder)
    record["seconds"] = time.perf_counter() - start
    after = written(run.out)
    record["wrote"] = sorted(n for n, at in after.items() if before.get(n) != at)
    if code:
        return {**record, "ended": f"with exit code {code}: {said or 'it said nothing'}"}
    return {**record, "ended": WELL if record["wrote"] else "without having written anything"}


def ended(command: Sequence[str], folder: Path) -> tuple[int, str]:
    """The exit code of a process that has ended, and the last line that it said on stderr.

    It has a process group of its own, which ends with this process unless that is killed outright.
    """
    psvit = importlib.util.find_spec("psvit")
    assert psvit is not None
    assert psvit.origin is not None
    own = [str(ROOT), str(Path(psvit.origin).parents[1])]  # found from any folder
    paths = [*own, os.environ.get("PYTHONPATH", "")]
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as child:
        assert child.stderr is not None
        said = ""
        try:
            for line in child.stderr:
                sys.stderr.write(line)
                sys.stderr.flush()
                said = line.strip() or said
            return child.wait(), said[:200]
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            raise


def written(folder: Path) -> dict[str, int]:
    """Files of a folder, this command's own left out, and when they were written."""
    return {
        path.name: path.stat().st_mtime_ns
        for path in folder.glob("*.*")
        if path.is_file() and not path.name.startswith("figures-")
    }


def keep(
    stem: Path, parts: Sequence[Part], run: Run, results: Mapping[str, dict[str, Any]]
) -> None:
    """Write both pages, each whole or not at all."""
    done = [results[part.name] for part in parts if part.name in results]
    data = json.dumps({"about": dict(run.about), "parts": done}, indent=1) + "\n"
    for suffix, text in ((".md", page(stem.name, run, parts, done)), (".json", data)):
        scratch = stem.with_suffix(".tmp")
        scratch.write_text(text)
        scratch.replace(stem.with_suffix(suffix))


def page(title: str, run: Run, parts: Sequence[Part], done: Sequence[dict[str, Any]]) -> str:
    """The index, as Markdown."""
    about = run.about
    versions = ", ".join(f"{name} {text}" for name, text in about["versions"].items())
    left_out = sum(one["ended"].startswith(LEFT_OUT) for one in done)
    lines = [
        f"# {title.replace('-', ' ', 1 + run.quick).capitalize()}",
        "",
        f"`{about['command']}` on {about['device']}, {about['cores']} cores, "
        f"{about['memory_gb']:.0f} GB of memory, {about['system']}.",
        "",
        f"Versions: {versions}.",
        "",
        f"{len(done) - left_out} of {len(parts)} parts have been run, {left_out} left out. "
        "Folders: `data` and `clones` are those given, `results` is this one.",
        "",
        "| what | command | seeds | date | commit | minutes | ended | results |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in done:
        links = ", ".join(f"[{name}]({name})" for name in one["wrote"])
        ending = one["ended"].replace("|", "\\|")
        lines.append(
            f"| {one['name']} | `{one['command']}` | {one['seeds']} | {one['date']} "
            f"| {one['commit']} | {one['seconds'] / 60:.1f} | {ending} | {links or '-'} |"
        )
    return "\n".join(lines) + "\n"


def machine(quick: bool) -> dict[str, Any]:
    """Where it runs, and with what: figures of two runs are of one kind if it is the same."""
    import torch

    from psvit.bench.run import device_name

    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return {
        "command": "python -m benchmarks.figures" + (" --quick" if quick else ""),
        "device": device_name(torch.device("cpu")),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": os.environ.get("OMP_NUM_THREADS", "as many as cores, where a part sets none"),
        "versions": found,
    }


def commit() -> str:
    """Of the code, and whether it has been changed since."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--", "src", "benchmarks/*.py", "benchmarks/*/*.py")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (", changed" if changed else "")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.figures", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="smaller runs")
    parser.add_argument("--only", nargs="+", metavar="WORD", default=[], help="some parts")
    parser.add_argument("--again", action="store_true", help="also what has ended well")
    parser.add_argument("--data", type=Path, metavar="DIR", help="by default PSVIT_DATA")
    parser.add_argument("--clones", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, metavar="DIR")
    options = parser.parse_args(arguments)
    if options.only and not any(word in part.name for part in PARTS for word in options.only):
        names = ", ".join(part.name for part in PARTS)
        parser.error(f"--only {' '.join(options.only)} names no part: expected words of {names}")
    data = options.data or (Path(os.environ["PSVIT_DATA"]) if "PSVIT_DATA" in os.environ else None)
    given = {"data": data, "clones": options.clones}
    places = {name: path.resolve() for name, path in given.items() if path is not None}
    for name, path in places.items():
        if not path.is_dir():
            parser.error(f"--{name} {path} is not a folder: give one, or leave --{name} out")
    out = (options.out or ROOT / "benchmarks" / ("quick" if options.quick else "results")).resolve()
    out.mkdir(parents=True, exist_ok=True)
    run = Run(out, options.quick, places, machine(options.quick), commit())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    fine = collect(PARTS, run, chosen=options.only, again=options.again)
    print(max(out.glob(f"{run.prefix}2*.md"), key=lambda path: path.stat().st_mtime_ns).read_text())
    return int(not fine)


if __name__ == "__main__":
    raise SystemExit(main())
