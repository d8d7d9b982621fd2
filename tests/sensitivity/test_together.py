"""Laws: processes that share a journal share the work, whoever dies, and come to the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from psvit.journal import Kind, open_journal
from psvit.sensitivity.bench import Bench
from psvit.sensitivity.files import curves_to_json
from psvit.sensitivity.journal import LOOKS
from psvit.team import own_first
from tests.sensitivity.tiny import GRID, Tiny, journal_of
from tests.zoo.case import float64

ROOT = Path(__file__).parents[2]
FOUR = pytest.param(4, marks=pytest.mark.thorough)


@pytest.fixture(scope="module")
def expected(spiking: Tiny) -> str:
    """The file of an analysis in one process."""
    with float64():
        return curves_to_json(spiking.analyse())


def start(journal: Path, rank: int, count: int) -> subprocess.Popen[str]:
    """One of ``count`` processes, as torchrun starts them; the first dies."""
    threads = str(torch.get_num_threads())
    team = {"RANK": str(rank), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": threads}
    command = [sys.executable, "-m", "tests.sensitivity.together", str(journal)]
    return subprocess.Popen(
        command if rank else [*command, "dies"],
        cwd=ROOT,
        env={**os.environ, **team},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("count", [2, FOUR])
def test_one_that_dies_costs_what_it_was_at(tmp_path: Path, expected: str, count: int) -> None:
    journal = journal_of(tmp_path)
    team = [start(journal, 0, count)]
    while not journal.exists() and team[0].poll() is None:
        time.sleep(0.05)
    team += [start(journal, rank, count) for rank in range(1, count)]
    found = [process.communicate(timeout=300)[0] for process in team]
    assert [process.returncode for process in team] == [-signal.SIGKILL] + [0] * (count - 1)
    assert found[1:] == [expected] * (count - 1)
    lines = journal.read_bytes().splitlines()[1:]
    keys = [LOOKS.key(LOOKS.read(json.loads(line))) for line in lines]
    assert len(keys) == len(set(keys)) == 2 * (1 + 2 * len(GRID))


def test_processes_begin_with_shares_that_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (1, 2, 3, 8):
        monkeypatch.setenv("WORLD_SIZE", str(count))
        firsts = []
        for number in range(count):
            monkeypatch.setenv("RANK", str(number))
            mine = own_first(range(12))
            assert sorted(mine) == list(range(12))
            firsts.append(mine[0])
        assert firsts == [12 * number // count for number in range(count)]
    assert own_first([]) == []


def test_one_process_of_two_runs_the_unpruned_model_over_half_of_the_batches(
    tmp_path: Path, spiking: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, taken = journal_of(tmp_path), []
    spiking.analyse(journal=journal)
    lines = journal.read_bytes().splitlines(keepends=True)
    mine = [line for line in lines[1:] if json.loads(line)["batch"] == 0]
    journal.write_bytes(b"".join([lines[0], *mine]))  # the other one has done its share
    run = Bench._run_dense
    monkeypatch.setattr(Bench, "_run_dense", lambda b, i: (taken.append(i), run(b, i))[1])
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    spiking.analyse(journal=journal)
    assert taken == [1]


KIND = (
    "from psvit.journal import Kind, open_journal\n"
    "NUMBERS = Kind('psvit_test_journal', 1, 'test', 'numbers', key=lambda n: n,\n"
    "               write=lambda n: {'n': n}, read=lambda data: data['n'])\n"
)
HOLDS = KIND + (
    "import sys, time\n"
    "from pathlib import Path\n"
    "with open_journal(NUMBERS, Path(sys.argv[1]), '', {}) as done:\n"
    "    for number in done.take([1]):\n"
    "        print('taken', flush=True)\n"
    "        time.sleep(60)\n"
)


def test_a_piece_is_taken_over_only_when_its_process_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    command = [sys.executable, "-c", HOLDS, str(path)]
    numbers: Kind[int] = Kind(
        "psvit_test_journal",
        1,
        "test",
        "numbers",
        key=lambda n: n,
        write=lambda n: {"n": n},
        read=lambda data: data["n"],
    )
    order = []
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as other,
        open_journal(numbers, path, "", {}) as mine,
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == "taken\n"
        for number in mine.take([1, 2, 3]):
            order.append(number)
            mine.add(number)
            if number == 3:
                other.kill()
                other.wait()
    assert order == [2, 3, 1]
