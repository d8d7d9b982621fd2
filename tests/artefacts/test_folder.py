"""A folder appears whole or not at all, and only what psvit wrote is ever replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from psvit.artefacts import check_target, is_artefact
from psvit.artefacts.folder import written_folder
from psvit.errors import OutputError


def fill(folder: Path, text: str = "new") -> None:
    (folder / "model.safetensors").write_text(text)
    (folder / "plan.json").write_text('{"psvit_plan": 1}')
    (folder / "metrics.json").write_text("{}")


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def write_and_stop(out: Path, stop: type[BaseException], *, force: bool = False) -> None:
    with written_folder(out, force=force) as scratch:
        fill(scratch)
        raise stop


def test_folder_appears_only_at_the_end(tmp_path):
    out = tmp_path / "a" / "b" / "out"
    with written_folder(out) as scratch:
        assert not out.exists()
        assert scratch.parent == out.parent  # the same file system, so that renaming is atomic
        fill(scratch)
    assert names(out) == ["metrics.json", "model.safetensors", "plan.json"]
    assert names(out.parent) == ["out"]
    assert is_artefact(out)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError, SystemExit])
def test_interruption_leaves_nothing(tmp_path, stop):
    out = tmp_path / "a" / "b" / "out"
    with pytest.raises(stop):
        write_and_stop(out, stop)
    assert names(tmp_path) == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_interruption_leaves_the_earlier_result(tmp_path, stop):
    out = tmp_path / "out"
    out.mkdir()
    fill(out, "old")
    with pytest.raises(stop):
        write_and_stop(out, stop, force=True)
    assert (out / "model.safetensors").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_failing_rename_puts_the_earlier_result_back(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    fill(out, "old")
    rename = os.replace

    def fail_on_the_new(source, target):
        if str(source).endswith(".tmp"):
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "replace", fail_on_the_new)
    with (
        pytest.raises(OutputError, match=r"cannot write .*out: No space left on device"),
        written_folder(out, force=True) as scratch,
    ):
        fill(scratch)
    assert (out / "model.safetensors").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_force_replaces_what_psvit_wrote(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    fill(out, "old")
    with written_folder(out, force=True) as scratch:
        fill(scratch)
    assert (out / "model.safetensors").read_text() == "new"
    assert names(tmp_path) == ["out"]


def test_existing_folder_needs_force(tmp_path):
    with pytest.raises(OutputError, match=r"exists: give another folder, or --force"):
        check_target(tmp_path)
    check_target(tmp_path, force=True)


def test_force_spares_folders_and_files_that_psvit_did_not_write(tmp_path):
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "cat.jpg").touch()
    with pytest.raises(OutputError, match="not a folder that psvit wrote"):
        check_target(foreign, force=True)
    own = tmp_path / "own"
    own.mkdir()
    fill(own)
    check_target(own, force=True)
    (own / "notes.txt").touch()
    with pytest.raises(OutputError, match=r"holds notes\.txt, which psvit did not write"):
        check_target(own, force=True)


def test_target_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file is a file: give the name of a new folder"):
        check_target(tmp_path / "file", force=True)
    with pytest.raises(OutputError, match="file is a file, expected a folder"):
        check_target(tmp_path / "file" / "out")


def test_target_without_permission(tmp_path, monkeypatch):
    # Asked of the system, not tried: tests may run as a user who may write anywhere.
    monkeypatch.setattr(os, "access", lambda *args: False)
    with pytest.raises(OutputError, match="no permission to write in"):
        check_target(tmp_path / "out")


def test_link_to_a_folder_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    fill(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to("real")
    with written_folder(tmp_path / "link", force=True) as scratch:
        fill(scratch)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "model.safetensors").read_text() == "new"
