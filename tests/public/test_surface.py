from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fornix

SLOW_TO_IMPORT = ("numpy", "google.protobuf", "ml_dtypes", "llvmlite", "click", "rich", "PIL")


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    return set(run.stdout.split())


@pytest.mark.parametrize("name", fornix.__all__)
def test_every_public_name_exists_and_is_explained(name: str) -> None:
    value = getattr(fornix, name)
    assert name in dir(fornix)
    if not isinstance(value, str):
        assert inspect.getdoc(value)


def test_all_is_sorted_and_without_repetition() -> None:
    names = [name for name in fornix.__all__ if not name.startswith("__")]
    assert names == sorted(set(names))


def test_a_room_keeps_its_contents_when_it_is_called_by_its_name() -> None:
    found: object = fornix.check
    assert found is importlib.import_module("fornix.check")
    assert callable(found)


def test_star_import_gives_exactly_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from fornix import *", names)
    assert set(names) - {"__builtins__"} == set(fornix.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'fornix' has no attribute 'no_such_name'"):
        _ = fornix.no_such_name


def test_import_fornix_imports_nothing_that_is_slow() -> None:
    loaded = modules_after("import fornix")
    assert loaded.isdisjoint(SLOW_TO_IMPORT)


def test_type_checkers_see_the_names_that_exist() -> None:
    source = inspect.getsource(fornix)
    seen = re.findall(r"^    from (\S+) import (\w+) as \2$", source, flags=re.MULTILINE)
    assert {name: home for home, name in seen} == fornix._HOMES


def test_rooms_import_names_from_their_homes() -> None:
    package = Path(fornix.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "fornix":
                assert {alias.name for alias in node.names}.isdisjoint(fornix._HOMES), path


def test_version_is_that_of_the_distribution() -> None:
    metadata = importlib.import_module("importlib.metadata")
    try:
        assert metadata.version("fornix") == fornix.__version__
    except metadata.PackageNotFoundError:
        pytest.skip("fornix runs from its sources and is not installed")


def test_every_error_has_our_base_and_is_drawn_in_the_tree() -> None:
    errors = importlib.import_module("fornix.errors")
    classes = [value for value in vars(errors).values() if inspect.isclass(value)]
    own = [value for value in classes if value.__module__ == "fornix.errors"]
    drawn = re.findall(r"^\W*(\w+)", errors.__doc__ or "", flags=re.MULTILINE)
    assert all(issubclass(value, (fornix.FornixError, fornix.FornixWarning)) for value in own)
    assert {value.__name__ for value in own} <= set(drawn)
