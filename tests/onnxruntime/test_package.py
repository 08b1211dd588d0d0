"""Functions, submodules and examples of the package."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings

import numpy as np
import onnx
import onnxruntime as peer
import onnxruntime.datasets
import pytest
from onnxruntime.capi import onnxruntime_inference_collection as theirs

from fornix import onnxruntime as ort
from fornix.errors import FornixWarning, NotSupported
from fornix.onnxruntime import backend, datasets
from fornix.onnxruntime.backend.backend import OnnxRuntimeBackend
from fornix.onnxruntime.capi import onnxruntime_inference_collection as ours
from fornix.onnxruntime.capi import onnxruntime_validation


def test_functions_answer_for_this_machine() -> None:
    assert ort.get_version_string() == peer.get_version_string() == ort.__version__
    assert ort.get_device() == peer.get_device()
    assert ort.has_collective_ops() == peer.has_collective_ops()
    assert "CPUExecutionProvider" in ort.get_available_providers()
    assert ort.get_all_providers()[-1] == peer.get_all_providers()[-1] == "CPUExecutionProvider"
    assert ort.get_build_info().startswith("ORT Build Info: ")
    (device,) = ort.get_ep_devices()
    assert (device.ep_name, device.device.type.name) == ("CPUExecutionProvider", "CPU")
    assert device.create_sync_stream().get_handle() == 0
    assert onnxruntime_validation.get_package_name_and_version_info() == (
        "onnxruntime", ort.__version__, "",
    )  # fmt: skip
    for call in (ort.enable_telemetry_events, ort.disable_telemetry_events, ort.preload_dlls):
        call()


def test_the_severity_of_the_log_is_that_of_logging(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("fornix")
    before = logger.level
    try:
        for severity, level in enumerate((10, 20, 30, 40, 50)):
            ort.set_default_logger_severity(severity)
            assert logger.level == level
    finally:
        logger.setLevel(before)
    ort.set_default_logger_verbosity(1)
    ort.print_debug_info()
    assert "fornix in the place of onnxruntime" in capsys.readouterr().out


PROVIDERS: list[tuple[object, object]] = [
    (None, None), (["a"], None), ([("a", {1: 2}), "b"], None), (["a", "b"], [{1: 2}, {}]),
    (["a", "b", "a"], [{"x": 1}, {}, {"y": 2}]), (["d"], None), (3, None), ([3], None), (["a"], 3),
    (["a"], ["x"]), (["a", "b"], [{}]), ([("a", {})], [{}]),
]  # fmt: skip


@pytest.mark.parametrize(("providers", "options"), PROVIDERS)
def test_lists_of_providers_are_understood_as_in_onnxruntime(
    providers: object, options: object
) -> None:
    found = []
    for module in (ours, theirs):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                check = module.check_and_normalize_provider_args
                answer = check(providers, options, ["a", "b"])
            except ValueError:
                answer = "refused"
        found.append((answer, bool(warned)))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["mul_1.onnx", "sigmoid.onnx", "logreg_iris.onnx"])
def test_examples_take_what_onnxruntimes_do(name: str) -> None:
    made = ort.InferenceSession(datasets.get_example(name))
    wanted = peer.InferenceSession(
        peer.datasets.get_example(name), providers=["CPUExecutionProvider"]
    )
    for mine, other in (
        (made.get_inputs(), wanted.get_inputs()),
        (made.get_outputs(), wanted.get_outputs()),
    ):
        assert [(a.name, a.type, a.shape) for a in mine] == [
            (a.name, a.type, a.shape) for a in other
        ]
    rng = np.random.default_rng(0)
    (given,) = made.get_inputs()
    shape = [extent for extent in given.shape if isinstance(extent, int)]
    feeds = {given.name: rng.normal(size=shape).astype(np.float32)}
    for found, other in zip(made.run(None, feeds), wanted.run(None, feeds), strict=True):
        if isinstance(found, list):
            assert [sorted(row) for row in found] == [sorted(row) for row in other]
            found, other = ([[*row.values()] for row in rows] for rows in (found, other))
        np.testing.assert_allclose(found, other, rtol=1e-5, atol=1e-7)
    with pytest.raises(FileNotFoundError, match=r"an example \(logreg_iris\.onnx, mul_1\.onnx"):
        datasets.get_example("nope.onnx")


def test_the_backend_runs_models_of_every_kind() -> None:
    path = datasets.get_example("mul_1.onnx")
    x = np.ones((3, 2), np.float32)
    wanted = np.arange(1, 7, dtype=np.float32).reshape(3, 2)
    for model in (path, onnx.load(path), ort.InferenceSession(path), backend.prepare(path)):
        for inputs in (x, [x]):
            np.testing.assert_array_equal(backend.run(model, inputs)[0], wanted)
    assert backend.supports_device("CPU")
    assert not backend.supports_device("CUDA")
    assert backend.is_compatible(onnx.load(path))
    message = onnx.load(path)
    message.opset_import[0].version = 99
    assert not backend.is_compatible(message)
    with pytest.raises(NotSupported, match="device 'CPU' is required, found 'CUDA'"):
        backend.prepare(path, "CUDA")
    with pytest.raises(NotImplementedError, match="single nodes run with"):
        OnnxRuntimeBackend.run_node(message.graph.node[0], [x])
    np.testing.assert_array_equal(backend.run(path, x, log_severity_level=3)[0], wanted)


def test_providers_that_were_asked_for_are_named_when_they_are_unknown() -> None:
    with pytest.warns(FornixWarning, match="provider 'd' is not among a"):
        ours.check_and_normalize_provider_args(["d"], None, ["a"])


SCRIPT = """
import fornix
fornix.install_as("onnxruntime")
import onnxruntime as rt
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from onnxruntime.datasets import get_example
assert rt.__name__ == "fornix.onnxruntime"
session = rt.InferenceSession(get_example("sigmoid.onnx"), providers=rt.get_available_providers())
print(session.get_inputs()[0].shape)
"""


MODULES = """
import fornix.onnxruntime as ort
assert issubclass(ort.capi.onnxruntime_pybind11_state.InvalidArgument, Exception)
assert ort.capi.onnxruntime_inference_collection.InferenceSession is ort.InferenceSession
assert callable(ort.backend.backend_rep.OnnxRuntimeBackendRep.run)
assert callable(ort.tools.onnx_model_utils.fix_output_shapes)
assert callable(ort.transformers.float16.convert_float_to_float16)
assert not hasattr(ort.capi, "nope")
"""


def test_modules_are_attributes_of_their_packages_without_an_import() -> None:
    run = subprocess.run([sys.executable, "-c", MODULES], capture_output=True, check=False)
    assert run.stderr == b""


def test_the_package_imports_no_optimizer_and_no_compiler() -> None:
    code = "import sys, fornix.onnxruntime; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    loaded = set(run.stdout.split())
    assert loaded.isdisjoint({"fornix.passes", "fornix.ops", "llvmlite", "google.protobuf"})


def test_scripts_run_on_fornix_in_the_place_of_onnxruntime() -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, check=False, text=True
    )
    assert (run.stdout, run.stderr) == ("[3, 4, 5]\n", "")
