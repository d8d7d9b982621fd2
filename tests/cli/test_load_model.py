"""MODEL as people write it: what is found, and the one line for everything that goes wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from psvit.errors import ModelError, OptionError, OutputError, PlanError
from psvit.models.load import build_source, load_model, parse_arguments
from psvit.records import Source

GOOD = """
from torch import nn
from layers import width

class Net(nn.Module):
    def __init__(self, depth=1, name="net"):
        super().__init__()
        self.layer = nn.Linear(width, depth)
        self.name = name

def small(**arguments):
    return Net(**arguments)

def needs(depth, *, heads):
    return Net(depth)

def number():
    return 3

def broken():
    raise ValueError("depth must be even\\nor so")

def exits():
    raise SystemExit(2)

built = Net()
constant = 7
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(GOOD)
    (tmp_path / "layers.py").write_text("width = 5\n")
    return tmp_path


def message(spec: str, arguments=None, kind=ModelError) -> str:
    with pytest.raises(kind) as caught:
        load_model(spec, arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_name_of_the_registry_with_its_trained_weights():
    torch.manual_seed(0)
    loaded = load_model("spikformer-digits", {"T": 2})
    again = load_model("spikformer-digits", {"T": 2})
    assert loaded.source == Source("spikformer-digits", {"T": 2})
    assert all(
        torch.equal(a, b)
        for a, b in zip(loaded.model.parameters(), again.model.parameters(), strict=True)
    )
    fresh = load_model("spikformer-digits", {"T": 2}, weights=False).model
    assert not all(
        torch.equal(a, b)
        for a, b in zip(loaded.model.parameters(), fresh.parameters(), strict=True)
    )


def test_file_with_arguments_and_modules_beside_it(place):
    loaded = load_model(f"{place}/net.py:small", {"depth": 3, "name": "x"})
    assert tuple(loaded.model.layer.weight.shape) == (3, 5)
    assert loaded.source == Source(f"{place}/net.py:small", {"depth": 3, "name": "x"})


def test_source_of_a_relative_file_works_from_any_folder(place, monkeypatch):
    monkeypatch.chdir(place)
    source = load_model("net.py:Net").source
    monkeypatch.chdir("/")
    assert source is not None
    assert isinstance(build_source(source), nn.Module)


def test_two_folders_with_modules_of_the_same_name_do_not_meet(place, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "net.py").write_text(GOOD)
    (other / "layers.py").write_text("width = 9\n")
    first = load_model(f"{place}/net.py:Net").model
    second = load_model(f"{other}/net.py:Net").model
    assert (first.layer.in_features, second.layer.in_features) == (5, 9)
    assert "layers" not in sys.modules
    assert str(place) not in sys.path


def test_module_in_the_working_folder(place, monkeypatch):
    (place / "psvit_test_pkg").mkdir()
    (place / "psvit_test_pkg" / "__init__.py").touch()
    (place / "psvit_test_pkg" / "net.py").write_text(GOOD.replace("from layers import", "#"))
    (place / "psvit_test_pkg" / "net.py").write_text(
        GOOD.replace("from layers import width", "width = 5")
    )
    monkeypatch.chdir(place)
    assert load_model("psvit_test_pkg.net:Net").model.layer.in_features == 5
    assert str(place) not in sys.path


def test_unknown_name_suggests_one():
    text = message("spikformer-digit")
    assert "no model is called 'spikformer-digit'" in text
    assert "did you mean 'spikformer-digits'?" in text


def test_missing_file(place):
    assert "does not exist: expected path/to/file.py" in message(f"{place}/gone.py:Net")


def test_missing_module():
    assert "no module is called 'psvit_no_such'" in message("psvit_no_such.model:net")


def test_import_that_is_missing_is_named(place):
    (place / "bad.py").write_text("import psvit_no_such_dependency\n")
    assert "psvit_no_such_dependency" in message(f"{place}/bad.py:net")


def test_file_that_raises_says_type_message_and_line(place):
    (place / "bad.py").write_text("x = 1\nraise RuntimeError('no luck')\n")
    assert "does not import: RuntimeError: no luck (bad.py:2)" in message(f"{place}/bad.py:net")


def test_file_that_does_not_compile_says_the_line(place):
    (place / "bad.py").write_text("x = 1\ndef net(:\n")
    text = message(f"{place}/bad.py:net")
    assert "bad.py" in text
    assert "2" in text


def test_script_that_exits(place):
    (place / "script.py").write_text("import sys\nsys.exit('usage: script')\n")
    assert "does not import: SystemExit: usage: script" in message(f"{place}/script.py:net")


def test_no_such_factory_lists_candidates_nearest_first(place):
    text = message(f"{place}/net.py:smal")
    assert "has no 'smal': it has small, Net, needs, number, broken, exits" in text


def test_factory_that_raises(place):
    text = message(f"{place}/net.py:broken")
    assert "raises ValueError: depth must be even" in text
    assert "(net.py:" in text
    assert "raises SystemExit: 2" in message(f"{place}/net.py:exits")


def test_factory_that_needs_arguments_names_them(place):
    text = message(f"{place}/net.py:needs")
    assert "needs arguments: depth, heads; give --model-arg depth=VALUE" in text
    assert "needs an argument: heads" in message(f"{place}/net.py:needs", {"depth": 1})


def test_argument_that_the_factory_does_not_take(place):
    text = message(f"{place}/net.py:Net", {"deep": 2})
    assert "takes no argument 'deep': it takes depth, name" in text


def test_factory_that_gives_no_model(place):
    assert "returns int, expected an nn.Module" in message(f"{place}/net.py:number")
    assert "is of type int, expected a function or a class" in message(f"{place}/net.py:constant")
    assert "is a model that is built already" in message(f"{place}/net.py:built")


def test_folder_that_psvit_did_not_write(place):
    assert "not a folder that psvit wrote" in message(str(place), kind=OutputError)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("True", True),
        ("None", None),
        ("(1, 2)", [1, 2]),
        ("[1, (2,)]", [1, [2]]),
        ("{'a': 1}", {"a": 1}),
        ("'x'", "x"),
        ("small", "small"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_arguments_are_python_literals_that_json_can_repeat(text, value):
    got = parse_arguments([f"key={text}"])
    assert got == {"key": value}
    assert type(got["key"]) is type(value)


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (["depth"], "expected key=value"),
        (["2x=1"], "expected key=value"),
        (["a=1", "a=2"], "given twice"),
        (["a={1, 2}"], "expected numbers, strings"),
        (["a=b'x'"], "expected numbers, strings"),
        (["a={1: 2}"], "expected numbers, strings"),
    ],
)
def test_arguments_that_mean_nothing(pairs, words):
    with pytest.raises(OptionError, match=words):
        parse_arguments(pairs)


@pytest.mark.parametrize(
    ("factory", "arguments"),
    [
        ("os:system", {"command": "touch {victim}"}),
        ("subprocess:check_call", {"args": ["touch", "{victim}"]}),
        ("builtins:exec", {"source": "open('{victim}', 'w')"}),
        ("pathlib:Path.touch", {"self": "{victim}"}),
        ("torch:save", {"obj": 1, "f": "{victim}"}),
    ],
)
def test_plan_cannot_call_what_builds_no_models(tmp_path, factory, arguments):
    victim = tmp_path / "pwned"
    filled = {
        key: [v.format(victim=victim) if isinstance(v, str) else v for v in value]
        if isinstance(value, list)
        else value.format(victim=victim) if isinstance(value, str) else value
        for key, value in arguments.items()
    }  # fmt: skip
    with pytest.raises((PlanError, ModelError)):
        build_source(Source(factory, filled))
    assert not victim.exists()
