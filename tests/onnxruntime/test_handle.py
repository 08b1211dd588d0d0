from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as peer
import pytest
import torch

from fornix import onnxruntime as ort

X = np.arange(6, dtype=np.float32).reshape(3, 2)
MODEL = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
    g (float[3, 2] x, float[2] b) => (float[3, 2] y) { h = Mul (x, x)  y = Add (h, b) }""")
B = np.array([1, -1], np.float32)


def by_handle(package: Any, path: str) -> list[Any]:
    """What programs do with the private parts of a session and its values."""
    session = package.InferenceSession(path, providers=["CPUExecutionProvider"])
    x, b = (package.OrtValue.ortvalue_from_numpy(a.copy()) for a in (X, B))
    handle = session._sess
    found = handle.run_with_ort_values({"x": x._ortvalue, "b": b._ortvalue}, ["y"], None)
    x._ortvalue.update_inplace(2 * X)
    again = handle.run_with_ort_values({"x": x._get_c_value(), "b": b._ortvalue}, ["y"], None)
    binding = session.io_binding()
    binding.bind_cpu_input("x", X)
    binding.bind_cpu_input("b", B)
    binding.bind_output("y")
    handle.run_with_iobinding(binding._iobinding, None)
    return [
        type(found).__name__,
        found[0].numpy().tolist(),
        torch.from_dlpack(again[0].to_dlpack()).tolist(),
        binding.copy_outputs_to_cpu()[0].tolist(),
        handle.run(["y"], {"x": X, "b": B}, None)[0].tolist(),
        [meta.name for meta in (*handle.inputs_meta, *handle.outputs_meta)],
        session._model_path == path,
    ]


def test_private_parts_that_programs_touch_do_what_onnxruntimes_do(tmp_path: Path) -> None:
    path = str(tmp_path / "m.onnx")
    onnx.save(MODEL, path)
    assert by_handle(ort, path) == by_handle(peer, path)


def told(package: Any, what: str) -> str:
    session = package.InferenceSession(
        MODEL.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    calls = {
        "inputs": lambda: session.run(None, {"x": X}),
        "providers": lambda: session.set_providers(["Nobody"]),
        "entry": lambda: package.SessionOptions().get_session_config_entry("session.nothing"),
    }
    with pytest.raises((RuntimeError, ValueError)) as raised:
        calls[what]()
    return str(raised.value)


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize(("what", "words"), [
    ("inputs", "Required inputs (['b']) are missing from input feed (['x'])"),
    ("providers", "Unknown Provider Type: Nobody"),
    ("entry", "SessionOptions does not have configuration with key: session.nothing"),
])  # fmt: skip
def test_errors_have_the_words_that_programs_look_for(what: str, words: str) -> None:
    assert words in told(peer, what)
    assert words in told(ort, what)
