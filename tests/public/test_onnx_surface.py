"""Every public name of the installed onnx is here with its signature, or a page says why not."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import pytest

COMPAT = (Path(__file__).parents[2] / "docs" / "compat.md").read_text(encoding="utf-8")

# Modules for onnx's own build, tests and documentation, and those that hold kernels; docs/compat.md
# names them.
LEFT_OUT = {
    "onnx.backend.sample",
    "onnx.backend.test",
    "onnx.bin",
    "onnx.defs.gen_doc",
    "onnx.defs.gen_shape_inference_information",
    "onnx.frontend",
    "onnx.gen_proto",
    "onnx.reference.ops.aionnx_preview",
    "onnx.reference.ops.aionnx_preview_training",
    "onnx.reference.ops.aionnxml",
    "onnx.reference.ops.experimental",
}
# One module for each operator's kernel: the page says "no modules `op_….py`".
KERNELS = "onnx.reference.ops.op_"
NAMES_LEFT_OUT = {
    ("onnx", "gen_proto"),
    ("onnx.reference.op_run", "OpFunctionContextDependant"),
}


def is_left_out(name: str) -> bool:
    return name.startswith(KERNELS) or any(
        name == module or name.startswith(f"{module}.") for module in LEFT_OUT
    )


def modules() -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pkgutil.walk_packages(onnx.__path__, "onnx.", onerror=lambda _: None)
        names = ["onnx", *(module.name for module in found)]
    public = [name for name in names if not re.search(r"\._", name)]
    return [name for name in public if not is_left_out(name)]


MODULES = modules()


def peer(name: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def is_own(value: object, module: str) -> bool:
    """Whether ``value`` is the module's own, or a constant, and not only imported there."""
    home = getattr(value, "__module__", None)
    if isinstance(value, ModuleType):
        return False
    if home is None:
        return True
    return isinstance(home, str) and (home == module or "onnx_cpp2py_export" in home)


def names_of(module: str) -> list[str]:
    found = peer(module)
    wanted = set(getattr(found, "__all__", ()))
    wanted |= {
        name
        for name, value in vars(found).items()
        if not name.startswith("_") and is_own(value, module)
    }
    return sorted(
        x for x in wanted - {"annotations", "TYPE_CHECKING"} if (module, x) not in NAMES_LEFT_OUT
    )


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_here(module: str) -> None:
    ours = importlib.import_module(f"fornix.{module}")
    assert [name for name in names_of(module) if not hasattr(ours, name)] == []


def parameters(function: Any) -> list[tuple[str, Any, str]] | None:
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    told = [(p.name, p.kind, re.sub(r"<[\w.]*?(\w+) object at .*", r"\1", repr(p.default)))
            for p in found]  # fmt: skip
    return [entry for entry in told if not entry[0].startswith("_")]


@pytest.mark.parametrize("module", MODULES)
def test_every_signature_is_the_same(module: str) -> None:
    ours = importlib.import_module(f"fornix.{module}")
    for name in names_of(module):
        theirs = getattr(peer(module), name)
        if not callable(theirs) or getattr(theirs, "__module__", "") != module:
            continue
        wanted = parameters(theirs)
        if wanted is not None and not any(kind is inspect.Parameter.VAR_POSITIONAL
                                          for _, kind, _ in wanted):  # fmt: skip
            found = parameters(getattr(ours, name))
            assert found is None or found[: len(wanted)] == wanted, name


def test_the_page_on_compatibility_names_what_is_left_out() -> None:
    assert [name for name in sorted(LEFT_OUT) if f"`{name}`" not in COMPAT] == []
    assert [name for _, name in NAMES_LEFT_OUT if f"{name}`" not in COMPAT] == []
    assert "there are no modules `op_….py`" in COMPAT


def test_the_version_is_that_of_the_peer() -> None:
    ours = importlib.import_module("fornix.onnx")
    assert ours.__version__ == onnx.__version__
