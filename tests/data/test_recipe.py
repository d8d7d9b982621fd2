"""Preprocessing is named or given in full; anything else is an error that says which flag."""

from __future__ import annotations

import json

import pytest

from psvit.data import RECIPES, Recipe, make_recipe, open_data, parse_channels
from psvit.errors import DataError, OptionError

GOOD = {"size": 8, "mean": (0.5,), "std": (0.5,)}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_json(name):
    recipe = RECIPES[name]
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_from_dict_refuses_what_is_no_recipe():
    with pytest.raises(OptionError, match="not a recipe"):
        Recipe.from_dict({"size": 8, "colour": "blue"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size is 0"),
        ({"resize": 4}, "resize is 4"),
        ({"mean": (0.5, 0.5)}, "mean has 2"),
        ({"mean": (0.5, 0.5, 0.5)}, "std 1"),
        ({"mean": (float("nan"),)}, "mean is"),
        ({"std": (0.0,)}, "std is"),
        ({"std": (-1.0,)}, "std is"),
        ({"interpolation": "magic"}, "expected one of nearest"),
    ],
)
def test_numbers_that_mean_nothing(change, message):
    with pytest.raises(OptionError, match=message):
        Recipe(**{**GOOD, **change})


def test_flags_alone_a_name_alone_and_a_name_with_changes():
    assert make_recipe(size=8, mean=[0.5], std=[0.5]) == Recipe(**GOOD)
    assert make_recipe("cifar10") == RECIPES["cifar10"]
    changed = make_recipe("cifar10", size=48)
    assert changed is not None
    assert (changed.size, changed.mean) == (48, RECIPES["cifar10"].mean)
    assert make_recipe() is None


@pytest.mark.parametrize(
    ("name", "size", "resize", "interpolation"),
    [
        # Of each author's evaluation: the size of the crop, what is resized to before, and how.
        ("spikformer", 224, 224, "bicubic"),
        ("spikingformer", 224, 224, "bicubic"),
        ("sdt", 224, 235, "bicubic"),
        ("sdt", 288, 320, "bilinear"),
        ("sdt-v2", 224, 256, "bicubic"),
        ("sdt-v3", 224, 232, "bicubic"),
        ("maxformer", 224, 256, "bicubic"),
        ("spikingresformer", 224, 235, "bicubic"),
        ("spikingresformer", 288, 303, "bicubic"),
        ("qkformer", 224, 256, "bicubic"),
        ("qkformer", 288, 288, "bicubic"),
        ("qkformer", 384, 384, "bicubic"),
        ("sdt-v3", 160, 165, "bicubic"),
    ],
)
def test_a_published_model_is_evaluated_as_by_its_authors(name, size, resize, interpolation):
    recipe = make_recipe(name, size=None if size == RECIPES[name].size else size)
    assert recipe is not None
    assert (recipe.size, recipe.resize, recipe.interpolation) == (size, resize, interpolation)
    assert recipe.mean == (0.485, 0.456, 0.406)
    assert recipe.std == (0.229, 0.224, 0.225)


def test_numbers_beside_a_name_win():
    recipe = make_recipe("qkformer", size=384, resize=400, interpolation="lanczos")
    assert (recipe.size, recipe.resize, recipe.interpolation) == (384, 400, "lanczos")


def test_incomplete_flags_say_which_are_missing():
    with pytest.raises(DataError, match="give --mean, --std too"):
        make_recipe(size=8)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(OptionError, match="digits, cifar10, imagenet"):
        make_recipe("cifar11")


@pytest.mark.parametrize("kind", ["folder:somewhere", "parquet:somewhere/*.parquet"])
def test_no_recipe_is_never_guessed(kind):
    with pytest.raises(DataError, match=r"--recipe .* or --size, --mean and --std"):
        open_data(kind, split="train")


def test_channels_from_text():
    assert parse_channels("0.49,0.48,0.45", "--mean") == (0.49, 0.48, 0.45)
    with pytest.raises(OptionError, match="--std 'a,b'"):
        parse_channels("a,b", "--std")
