"""Every public name of onnxruntime is here with its signature, or a page says why not."""

from __future__ import annotations

import importlib
import inspect
import re
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import onnxruntime
import pytest

COMPAT = (Path(__file__).parents[2] / "docs" / "compat.md").read_text(encoding="utf-8")
MODULES = [
    "onnxruntime",
    "onnxruntime.backend",
    "onnxruntime.backend.backend",
    "onnxruntime.backend.backend_rep",
    "onnxruntime.capi._pybind_state",
    "onnxruntime.capi.onnxruntime_inference_collection",
    "onnxruntime.capi.onnxruntime_pybind11_state",
    "onnxruntime.capi.onnxruntime_validation",
    "onnxruntime.datasets",
]


def peer(name: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def names_of(module: str) -> list[str]:
    """Names that are onnxruntime's own, and not only imported there."""

    def is_own(value: object) -> bool:
        home = getattr(value, "__module__", None) or ""
        return not isinstance(value, ModuleType) and home.startswith("onnxruntime")

    found = vars(peer(module))
    return sorted(name for name, x in found.items() if not name.startswith("_") and is_own(x))


def is_left_out(name: str) -> bool:
    return f"`{name}`" in COMPAT


@pytest.mark.parametrize("module", MODULES)
def test_every_name_is_here_or_on_the_page(module: str) -> None:
    ours = importlib.import_module(f"fornix.{module}")
    absent = [name for name in names_of(module) if not hasattr(ours, name)]
    assert [name for name in absent if not is_left_out(name)] == []


def members(kind: type) -> list[str]:
    return [name for name in dir(kind) if not name.startswith("_")]


@pytest.mark.parametrize("module", MODULES)
def test_every_member_of_a_class_is_here_or_on_the_page(module: str) -> None:
    ours = importlib.import_module(f"fornix.{module}")
    for name in names_of(module):
        theirs = getattr(peer(module), name)
        if not isinstance(theirs, type) or not hasattr(ours, name):
            continue
        if "pybind" in module and getattr(onnxruntime, name, None) is not theirs:
            continue  # a native handle, which has a class of Python around it
        kind = getattr(ours, name)
        known = {*dir(kind), *_fields(kind), "name", "value"}
        absent = [m for m in members(theirs) if m not in known]
        assert [m for m in absent if not is_left_out(f"{name}.{m}")] == [], name


def _fields(kind: type) -> set[str]:
    """Attributes of instances, and members of enumerations that are other names of others."""
    found = set(getattr(kind, "__members__", ()))
    for base in kind.__mro__:
        found |= set(inspect.get_annotations(base))
    return found


def parameters(function: Any) -> list[tuple[str, Any, str]] | None:
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    told = [
        (p.name, p.kind, re.sub(r"<[\w.]*?(\w+) object at .*", r"\1", repr(p.default)))
        for p in found
    ]
    return [entry for entry in told if not entry[0].startswith("_")]


def functions(module: str) -> dict[str, tuple[Any, Any]]:
    """Functions and methods of onnxruntime that say what they take, each with ours."""
    ours = importlib.import_module(f"fornix.{module}")
    found: dict[str, tuple[Any, Any]] = {}
    for name in names_of(module):
        theirs, mine = getattr(peer(module), name), getattr(ours, name, None)
        if inspect.isfunction(theirs):
            found[name] = theirs, mine
        elif isinstance(theirs, type) and mine is not None:
            pairs = {m: (getattr(theirs, m), getattr(mine, m, None)) for m in members(theirs)}
            found |= {f"{name}.{m}": pair for m, pair in pairs.items() if callable(pair[0])}
    return {name: pair for name, pair in found.items() if pair[1] is not None}


@pytest.mark.parametrize("module", MODULES)
def test_every_signature_begins_as_theirs(module: str) -> None:
    for name, (theirs, mine) in functions(module).items():
        wanted, found = parameters(theirs), parameters(mine)
        if wanted is None or found is None:  # native: no names
            continue
        assert [p[0] for p in found[: len(wanted)]] == [p[0] for p in wanted], name
        for (_, kind, default), (_, ours, given) in zip(wanted, found, strict=False):
            assert kind is ours, name
            assert default in (given, "<class 'inspect._empty'>"), name


def test_exceptions_of_the_same_names_are_fornix_errors() -> None:
    from fornix.errors import FornixError

    theirs = peer("onnxruntime.capi.onnxruntime_pybind11_state")
    ours = importlib.import_module("fornix.onnxruntime.capi.onnxruntime_pybind11_state")
    names = [
        name
        for name, value in vars(theirs).items()
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert len(names) > 10
    for name in names:
        assert issubclass(getattr(ours, name), FornixError)


def test_the_version_is_that_of_the_peer() -> None:
    ours = importlib.import_module("fornix.onnxruntime")
    assert ours.__version__ == onnxruntime.__version__
