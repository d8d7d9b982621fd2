"""Laws: a killed analysis goes on to the same bytes; a full disk and a stranger's file are safe."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import psvit
from psvit.journal import Journal
from psvit.sensitivity.files import curves_to_json
from tests.sensitivity.tiny import GRID, Spiking, Tiny, journal_of, tiny

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def expected(spiking: Tiny) -> str:
    """The file of an uninterrupted analysis."""
    from tests.zoo.case import float64

    with float64():
        return curves_to_json(spiking.analyse())


LOOKS = 2 * (1 + 2 * len(GRID))
"""Two batches, each seen by the unpruned model and by two ties at every ratio."""


def looked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """The looks that are taken from now on."""
    looks: list[tuple[int, int, int]] = []
    add = Journal.add

    def count(journal, look):
        looks.append((look.tie, look.removed, look.batch))
        return add(journal, look)

    monkeypatch.setattr(Journal, "add", count)
    return looks


@pytest.mark.parametrize("images", [3, 10, 18])
def test_killed_and_resumed_equals_uninterrupted_byte_for_byte(
    spiking: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: str, images: int
) -> None:
    journal = journal_of(tmp_path)
    command = [sys.executable, "-m", "tests.sensitivity.killed", str(journal), str(images)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run(command, cwd=ROOT, env=environment, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL
    done = len(journal.read_bytes().splitlines()) - 1
    assert done == {3: 1, 10: 4, 18: 8}[images]  # what was whole when it died
    again = looked(monkeypatch)
    assert curves_to_json(spiking.analyse(journal=journal)) == expected
    assert len(again) == LOOKS - done


def test_a_last_line_torn_anywhere_is_dropped(
    spiking: Tiny, tmp_path: Path, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = journal_of(tmp_path)
    spiking.analyse(journal=journal)
    whole = journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    ends = [len(b"".join(lines[:i])) for i in range(len(lines) + 1)]
    again = looked(monkeypatch)
    for cut in (0, 1, 40, ends[1] - 1, ends[1], ends[1] + 9, ends[3] - 1, ends[3], ends[4] + 1):
        journal.write_bytes(whole[:cut])
        again.clear()
        assert curves_to_json(spiking.analyse(journal=journal)) == expected
        kept = max(sum(end <= cut for end in ends[1:]) - 1, 0)
        assert len(again) == len(lines) - 1 - kept
        assert journal.read_bytes() == whole


def test_no_point_is_measured_twice(
    spiking: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = looked(monkeypatch)
    curves = spiking.analyse(journal=journal_of(tmp_path), grid=(0.5, 0.25, 0.24, 0.26, 0.9, 0.99))
    assert len(looks) == len(set(looks)) == 2 * (1 + len(curves.points))
    spiking.analyse(journal=journal_of(tmp_path), grid=(0.5, 0.25, 0.24, 0.26, 0.9, 0.99))
    assert len(looks) == 2 * (1 + len(curves.points))


def test_progress_counts_what_is_left(spiking: Tiny, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    spiking.analyse(journal=journal_of(tmp_path), progress=lambda *a: told.append(a))
    assert told == [(d, 20) for d in (3, 6, 9, 12, 14, 16, 18, 20)]
    lines = journal_of(tmp_path).read_bytes().splitlines(keepends=True)
    journal_of(tmp_path).write_bytes(b"".join(lines[:-1]))
    told.clear()
    spiking.analyse(journal=journal_of(tmp_path), progress=lambda *a: told.append(a))
    assert told == [(2, 2)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 4}, "its n is 5, now 4"),
        ({"seed": 1}, "its seed is 0, now 1"),
        ({"grid": (0.5,)}, "its grid is [0.25, 0.5], now [0.5]"),
        ({"labels": False}, "its labels is true, now false"),
        ({"saliency": "random"}, "other channels are chosen"),
        ({"settings": {"data": "other"}}, 'its data is not said, now "other"'),
    ],
)
def test_a_journal_of_other_settings(spiking: Tiny, tmp_path: Path, options, words: str) -> None:
    journal = journal_of(tmp_path)
    spiking.analyse(journal=journal)
    before = journal.read_bytes()
    with pytest.raises(psvit.PlanError) as error:
        spiking.analyse(journal=journal, **options)
    assert words in str(error.value)
    assert "is the journal of another analysis" in str(error.value)
    assert "\n" not in str(error.value)
    assert journal.read_bytes() == before


def test_a_journal_of_other_images_weights_or_model(spiking: Tiny, tmp_path: Path) -> None:
    journal = journal_of(tmp_path)
    spiking.analyse(journal=journal)
    changed = [(x + 0.1, y) for x, y in spiking.batches]
    with pytest.raises(psvit.PlanError, match="the images or labels differ"):
        spiking.analyse(journal=journal, batches=changed)
    relabelled = [(x, 4 - y) for x, y in spiking.batches]
    with pytest.raises(psvit.PlanError, match="the images or labels differ"):
        spiking.analyse(journal=journal, batches=relabelled)
    for other, words in (
        (tiny(seed=1), "the weights of the model differ"),
        (tiny(Spiking, width=6), "it is of another model"),
    ):
        with pytest.raises(psvit.PlanError, match=words):
            other.analyse(journal=journal, batches=spiking.batches)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"my thesis\n", "is not a journal of psvit, so it is not touched"),
        (b"my thesis", "is not a journal of psvit, so it is not touched"),
        (b'{"psvit_sensitivity_journal": 99}\n', "has version 99"),
        (b'{"psvit_sensitivity_journal": 3}\n', "line 1 is damaged"),
    ],
)
def test_a_file_that_is_no_journal_of_today(
    spiking: Tiny, tmp_path: Path, text: bytes, words: str
) -> None:
    journal_of(tmp_path).write_bytes(text)
    with pytest.raises(psvit.PlanError, match=words):
        spiking.analyse(journal=journal_of(tmp_path))
    assert journal_of(tmp_path).read_bytes() == text


def test_a_damaged_line_in_the_middle_is_named(spiking: Tiny, tmp_path: Path) -> None:
    journal = journal_of(tmp_path)
    spiking.analyse(journal=journal)
    lines = journal.read_bytes().splitlines(keepends=True)
    for bad in (b"}\n", b"{}\n", lines[2].replace(b'"kl": ', b'"kl": "much", "x": ')):
        journal.write_bytes(b"".join([*lines[:2], bad, *lines[3:]]))
        with pytest.raises(psvit.PlanError, match=r"line 3 is damaged .* delete the file"):
            spiking.analyse(journal=journal)


def test_a_disk_that_fills_up_loses_nothing(spiking: Tiny, tmp_path: Path, expected: str) -> None:
    journal = journal_of(tmp_path)
    spiking.analyse(journal=journal)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    room = len(b"".join(lines[:3])) + 20  # the third point is cut short
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        with pytest.raises(psvit.OutputError, match=r"cannot write .* 2 looks are kept"):
            spiking.analyse(journal=journal)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert journal.read_bytes() == b"".join(lines[:3])
    assert curves_to_json(spiking.analyse(journal=journal)) == expected


def test_a_journal_that_cannot_be_written(spiking: Tiny, tmp_path: Path) -> None:
    with pytest.raises(psvit.OutputError, match="cannot write"):
        spiking.analyse(journal=tmp_path / "no" / "such" / "folder")
    with pytest.raises(psvit.OutputError, match="cannot read"):
        spiking.analyse(journal=tmp_path)


def test_each_line_is_on_the_disk_before_the_next_point(
    spiking: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = journal_of(tmp_path)
    events: list[str] = []
    add, sync = Journal.add, os.fsync

    def kept(self, look):
        lines = journal.read_bytes().splitlines()
        assert [json.loads(line) for line in lines]
        events.append(f"looked with {len(lines) - 1} kept")
        return add(self, look)

    monkeypatch.setattr(Journal, "add", kept)
    monkeypatch.setattr(os, "fsync", lambda file: (events.append("sync"), sync(file)))
    spiking.analyse(journal=journal)
    assert events == [
        "sync", *(e for i in range(LOOKS) for e in (f"looked with {i} kept", "sync"))
    ]  # fmt: skip
