"""What is no message, no path and no text: every function raises what onnx's does, or better."""

from __future__ import annotations

import importlib
import inspect
import warnings
from typing import Any

import pytest

from tests.public.test_onnx_surface import MODULES, names_of, peer

WRONG: list[Any] = [3, "x", None, [], b"zz", 2.5]
# Python's own words for "this has no such method" are no promise; TypeError says it better.
ACCIDENTS = (AttributeError,)
# Functions that take more than onnx's, or words and numbers that happen to fail in another place.
LENIENT = {"load_op", "from_dict", "find_min_ir_version_for", "load", "load_model", "load_tensor"}


def outcome(function: Any, value: Any, count: int) -> Exception | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(*[value] * count)
    except Exception as error:  # noqa: BLE001 - it is what the test is about
        return error
    return None


def functions(module: str) -> list[str]:
    found = peer(module)
    return [
        name
        for name in names_of(module)
        if inspect.isfunction(getattr(found, name)) and "main" not in name
    ]


CASES = [
    (module, name)
    for module in MODULES
    if module not in {"onnx.backend", "onnx.backend.test"}
    for name in functions(module)
    if name not in LENIENT
]


@pytest.mark.parametrize(("module", "name"), CASES)
@pytest.mark.usefixtures("elsewhere")
def test_wrong_arguments_raise_what_they_raise_in_onnx(module: str, name: str) -> None:
    theirs = getattr(peer(module), name)
    ours = getattr(importlib.import_module(f"fornix.{module}"), name)
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(theirs).parameters.values()
    count = sum(p.default is p.empty and p.kind in kinds for p in parameters)
    for value in WRONG:
        expected = outcome(theirs, value, count)
        found = outcome(ours, value, count)
        if expected is None:
            assert found is None, (value, found)
        elif found is not None and not isinstance(expected, ACCIDENTS):
            base = next(kind for kind in type(expected).__mro__ if kind.__module__ == "builtins")
            assert isinstance(found, base), (value, expected, found)


@pytest.fixture
def elsewhere(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # "x" is the name of a file for some
