"""Laws: Curves -> JSON -> Curves; files appear whole or not at all; a stranger's is refused."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

import psvit
from psvit.sensitivity.files import (
    check_accuracy,
    curves_from_json,
    curves_to_json,
    read_curves,
    write_curves,
)
from tests.sensitivity.tiny import Spiking, Tiny, tiny


def test_json_reads_back_equal(spiking: Tiny, tmp_path: Path) -> None:
    for labels in (True, False):
        curves = spiking.analyse(labels=labels, settings={"data": "digits"})
        assert curves_from_json(curves_to_json(curves)) == curves
        write_curves(curves, tmp_path / "s.json")
        assert read_curves(tmp_path / "s.json", spiking.graph, "digits") == curves
    assert curves.points[0].accuracy_drop is None
    assert curves.dense.accuracy is None


def test_csv_has_a_line_a_point(spiking: Tiny, tmp_path: Path) -> None:
    curves = spiking.analyse(labels=False)
    with write_curves(curves, tmp_path / "s.json").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(curves.points)
    for row, point in zip(rows, curves.points, strict=True):
        assert row["name"] == curves.names[point.tie]
        assert float(row["kl"]) == point.kl
        assert int(row["saved_memory"]) == point.saved["memory"]
        assert row["accuracy_drop"] == ""
    assert sorted(os.listdir(tmp_path)) == ["s.csv", "s.json"]


def test_settings_say_how_it_was_done(spiking: Tiny) -> None:
    curves = spiking.analyse(seed=7)
    assert {k: curves.settings[k] for k in ("n", "seed", "grid", "labels")} == {
        "n": 5, "seed": 7, "grid": [0.25, 0.5], "labels": True,
    }  # fmt: skip
    assert curves.fingerprint == psvit.groups.fingerprint(spiking.graph)
    assert curves.dense.n == 5
    assert curves.dense.accuracy_low < curves.dense.accuracy_high


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.__setitem__("psvit_sensitivity", 2), "has version 2, this psvit reads"),
        (lambda d: d.pop("psvit_sensitivity"), "is not a sensitivity analysis"),
        (lambda d: d["points"][0].pop("kl"), "is not a sensitivity analysis .* unedited"),
        (lambda d: d["points"][0].__setitem__("kl", "high"), "kl is 'high', expected a number"),
        (lambda d: d["points"][0].__setitem__("removed", 1.5), "expected a whole number"),
        (lambda d: d["points"][0].__setitem__("saved", {"memory": None}), "saved is not a number"),
        (lambda d: d["points"][0].__setitem__("tie", 99), "a tie without a name"),
        (lambda d: d["dense"].__setitem__("colour", 1), "is not a sensitivity analysis"),
    ],
)
def test_files_that_are_damaged_or_newer(spiking: Tiny, tmp_path: Path, change, words) -> None:
    path = tmp_path / "s.json"
    write_curves(spiking.analyse(), path)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(psvit.PlanError, match=words) as error:
        read_curves(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"a": 1}', "\x00\x01"])
def test_files_that_are_something_else(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(psvit.PlanError, match="is not a sensitivity analysis"):
        read_curves(tmp_path / "s.json")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(psvit.PlanError, match="does not exist"):
        read_curves(tmp_path / "none.json")
    with pytest.raises(psvit.PlanError, match="cannot be read"):
        read_curves(tmp_path)


def test_a_file_of_another_model_weights_or_data(spiking: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    write_curves(spiking.analyse(settings={"data": "digits"}), path)
    with pytest.raises(psvit.PlanError, match="is of another model"):
        read_curves(path, tiny(Spiking, width=6).graph)
    with pytest.raises(psvit.PlanError, match="with other weights"):
        read_curves(path, tiny(seed=1).graph)
    with pytest.raises(psvit.PlanError, match="made on digits, not on folder:x"):
        read_curves(path, spiking.graph, "folder:x")


def test_an_analysis_without_labels_knows_no_accuracy(spiking: Tiny) -> None:
    check_accuracy(spiking.analyse())
    with pytest.raises(psvit.OptionError, match="made without labels, so it knows no accuracy"):
        check_accuracy(spiking.analyse(labels=False))


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_what_was_there(
    spiking: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "s.json"
    path.write_text("precious")
    curves = spiking.analyse()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(psvit.OutputError, match="No space left on device"):
        write_curves(curves, path)
    assert path.read_text() == "precious"
    assert os.listdir(tmp_path) == ["s.json"]
