from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fornix.errors import InvalidArgument
from fornix.install import install_as

SCRIPT = """
import sys
import onnx
import onnx.helper as helper
from onnx import TensorProto, numpy_helper
from onnx.tools.update_model_dims import update_inputs_outputs_dims
import onnx.onnx_cpp2py_export.defs as C

assert onnx.__name__ == "fornix.onnx"
assert sys.modules["onnx.helper"] is sys.modules["fornix.onnx.helper"] is helper is onnx.helper
assert helper.__spec__.name == helper.__name__ == "fornix.onnx.helper"
assert C is onnx.defs
assert update_inputs_outputs_dims.__module__ == "fornix.onnx.tools.update_model_dims"
assert TensorProto is onnx.TensorProto
try:
    import onnx.nonsense
except ModuleNotFoundError as error:
    assert (error.name, str(error)) == ("onnx.nonsense", "No module named 'onnx.nonsense'")
else:
    raise AssertionError
print(*sys.argv[1:], __name__, *sorted(x for x in sys.modules if x.startswith("onnx_cpp")))
"""


def python(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=folder
    )


def test_modules_of_onnx_are_those_of_the_facade_after_install_as() -> None:
    run = python("-c", f"import fornix; fornix.install_as('onnx')\n{SCRIPT}")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.split() == ["__main__"]


def test_install_as_twice_changes_nothing() -> None:
    code = "import fornix, sys; a = fornix.install_as('onnx'); n = len(sys.meta_path)\n"
    code += "assert fornix.install_as('onnx') is a; assert len(sys.meta_path) == n"
    assert python("-c", code).returncode == 0


def test_install_as_is_refused_once_the_original_is_imported() -> None:
    pytest.importorskip("onnx")
    with pytest.raises(InvalidArgument, match=r"'onnx' must not be imported yet, found .*onnx"):
        install_as("onnx")


def test_install_as_knows_what_fornix_stands_for() -> None:
    with pytest.raises(
        InvalidArgument, match="one of 'onnx', 'onnxruntime' is required, found 'numpy'"
    ):
        install_as("numpy")


def test_scripts_and_modules_run_on_fornix(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("answer = 42")
    (tmp_path / "script.py").write_text(SCRIPT + "import beside\nprint(beside.answer)")
    for target in (["script.py"], ["-m", "script"], [str(tmp_path / "script.py")]):
        run = python("-m", "fornix.as_onnx", *target, "a", "b", folder=tmp_path)
        assert (run.returncode, run.stderr) == (0, "")
        assert run.stdout.split() == ["a", "b", "__main__", "42"]


def test_without_a_script_the_usage_is_told() -> None:
    for arguments in ([], ["-m"]):
        run = python("-m", "fornix.as_onnx", *arguments)
        assert run.returncode == 2
        assert run.stderr.startswith("usage: python -m fornix.as_onnx (SCRIPT | -m MODULE)")
