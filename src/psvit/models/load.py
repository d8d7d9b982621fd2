"""From a MODEL as people write it to an nn.Module, and back again from a plan's source.

A MODEL is a name of the registry, `package.module:factory`, `path/to/file.py:factory`, a folder
that psvit wrote, or such a folder on the Hub, `hub:user/name`. Whatever goes wrong in
code that is not psvit's becomes one ModelError.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from psvit.artefacts.folder import is_artefact
from psvit.artefacts.hub import is_on_hub
from psvit.artefacts.load import load_artefact
from psvit.errors import ModelError, OptionError, OutputError, PlanError, PsvitError
from psvit.models.registry import MODELS, build
from psvit.pointer import portable, resolved, said
from psvit.records import Plan, Source


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model, how to build it again, and, if psvit pruned it before, its plan and metrics.

    `standins` says, a line each, what psvit put in place of modules that are not installed.
    """

    model: nn.Module
    source: Source | None
    plan: Plan | None = None
    metrics: Mapping[str, Any] | None = None
    standins: tuple[str, ...] = ()


def load_model(
    spec: str, arguments: Mapping[str, Any] | None = None, *, weights: bool = True
) -> LoadedModel:
    """The model that `spec` names, built with `arguments`.

    `weights`: give a named model the trained weights that psvit ships for it, if there are any.

    Raises ModelError if it cannot be found or built, OutputError or PlanError for a folder that
    is not psvit's or whose plan is not its own, OptionError for arguments given to a folder.
    """
    folder, remote = Path(spec), is_on_hub(spec)
    if remote or (spec not in MODELS and folder.is_dir()):
        if not remote and not is_artefact(folder) and not (folder / "plan.json").exists():
            raise OutputError(
                f"{spec} is not a folder that psvit wrote (it has no plan.json): expected one, or "
                "package.module:factory, path/to/file.py:factory, or a name of `psvit models`"
            )
        if arguments:
            raise OptionError(
                f"{spec} is built with the arguments in its plan: drop --model-arg, or prune the "
                "original again"
            )
        artefact = load_artefact(spec)
        return LoadedModel(artefact.model, artefact.plan.source, artefact.plan, artefact.metrics)
    source = Source(portable(spec), dict(arguments or {}))
    if spec in MODELS:
        return LoadedModel(build(spec, **{"weights": weights, **source.arguments}), source)
    model, standins = _build(source, spec)
    return LoadedModel(model, source, standins=standins)


def build_source(source: Source) -> nn.Module:
    """Build the original that a plan names.

    The plan is data from elsewhere, so beyond `load_model` the factory must be code that can be
    meant to make models: no part of Python itself, and no compiled function.
    Raises PlanError if it is not, ModelError if it cannot be built.
    """
    if source.factory in MODELS:  # trained weights are not wanted: the folder has its own
        return build(source.factory, **{**source.arguments, "weights": False})
    return _build(source, source.factory, from_plan=True)[0]


def parse_arguments(pairs: Sequence[str]) -> dict[str, Any]:
    """`["depth=2", "name=small"]` -> `{"depth": 2, "name": "small"}`.

    Values are Python literals; what is none is a string. Tuples become lists, because the plan
    that has to repeat the call is JSON. Raises OptionError for text that is no pair.
    """
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.isidentifier():
            raise OptionError(f"--model-arg {pair!r}: expected key=value, such as depth=2")
        if key in arguments:
            raise OptionError(f"--model-arg {key} is given twice")
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = text
        arguments[key] = _json_value(value, pair)
    return arguments


def _json_value(value: Any, pair: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_json_value(item, pair) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _json_value(item, pair) for key, item in value.items()}
    raise OptionError(
        f"--model-arg {pair!r}: expected numbers, strings, booleans, None, lists, or dicts of them"
    )


def _build(
    source: Source, spec: str, *, from_plan: bool = False
) -> tuple[nn.Module, tuple[str, ...]]:
    """The model, and what psvit put in place of modules that are not installed."""
    if ":" not in source.factory:
        raise _unknown_name(source.factory)
    with resolved(source.factory) as (factory, standins):
        _check_factory(factory, spec)
        if from_plan:
            _check_factory_of_plan(factory, spec)
        return _call(factory, source.arguments, spec), standins.lines()


def _check_factory(factory: Any, spec: str) -> None:
    if isinstance(factory, nn.Module):
        raise ModelError(
            f"{spec} is a model that is built already: give a function that returns it, so that "
            "the pruned model can be rebuilt"
        )
    if not callable(factory):
        raise ModelError(
            f"{spec} is of type {type(factory).__name__}, expected a function or a class"
        )


def _unknown_name(name: str) -> ModelError:
    near = difflib.get_close_matches(name, MODELS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ModelError(
        f"no model is called {name!r}: {hint}`psvit models` lists the names; else expected "
        "package.module:factory, path/to/file.py:factory, or a folder that psvit wrote"
    )


def _call(factory: Callable[..., Any], arguments: Mapping[str, Any], spec: str) -> nn.Module:
    _check_arguments(factory, arguments, spec)
    try:
        model = factory(**arguments)
    except PsvitError:
        raise
    except ModuleNotFoundError:
        raise  # legacy_imports says how to get what a user's file needs
    except (Exception, SystemExit) as error:
        raise ModelError(f"{spec} raises {said(error)}{_of_a_download(error)}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{spec} returns {type(model).__name__}, expected an nn.Module")
    return model


_NETWORK = ("http", "httpx", "huggingface_hub", "requests", "urllib", "urllib3")


def _of_a_download(error: BaseException) -> str:
    """What to do if the code tried to fetch something and could not."""
    fetching = type(error).__module__.partition(".")[0] in _NETWORK
    if not fetching and not isinstance(error, ConnectionError | TimeoutError):
        return ""
    return (
        ": it downloads; switch that off, such as with --model-arg pretrained=False, and give the "
        "weights as --checkpoint FILE"
    )


def _check_arguments(factory: Callable[..., Any], arguments: Mapping[str, Any], spec: str) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # compiled code need not say what it takes
        return
    parameters = signature.parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    needed = [p.name for p in named if p.default is p.empty and p.name not in arguments]
    needed += [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY and p.default is p.empty]
    if needed:
        raise ModelError(
            f"{spec} needs {'an argument' if len(needed) == 1 else 'arguments'}: "
            f"{', '.join(needed)}; give --model-arg {needed[0]}=VALUE"
        )
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    names = [p.name for p in named]
    for key in arguments:
        if key not in names:
            takes = ", ".join(names) if names else "none"
            raise ModelError(f"{spec} takes no argument {key!r}: it takes {takes}")


def _check_factory_of_plan(factory: Callable[..., Any], spec: str) -> None:
    top = (getattr(factory, "__module__", None) or "builtins").partition(".")[0]
    is_model = inspect.isclass(factory) and issubclass(factory, nn.Module)
    foreign = top in sys.stdlib_module_names or top == "torch"
    if not is_model and (foreign or not inspect.isfunction(inspect.unwrap(factory))):
        raise PlanError(
            f"plan.json asks to call {spec}, which does not build models: it was edited, or "
            "is not psvit's"
        )
