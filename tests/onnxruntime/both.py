"""What tests beside onnxruntime share: a small model, sessions of both packages, outcomes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as peer
from onnx import parser

from fornix import onnxruntime as ort
from fornix.errors import (
    FornixError,
)
from fornix.onnxruntime.capi import onnxruntime_pybind11_state as state

CHAIN = """<ir_version: 8, opset_import: ["" : 18], producer_name: "tests", model_version: 3>
    chain (float[N, 3] x, float[3] b) => (float[N, 3] y)
    <float[3] w = {1, 2, 3}, float[3] b = {1, 1, 1}> {
        ["product"] h = Mul (x, w)
        ["sum"] s = Add (h, b)
        ["end"] y = Relu (s)
    }"""  # fmt: skip
X = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)
BOTH = [peer, ort]


def data(text: str = CHAIN) -> bytes:
    made: bytes = parser.parse_model(text).SerializeToString()
    return made


def session(package: Any = ort, text: str = CHAIN, options: Any = None, **more: Any) -> Any:
    return package.InferenceSession(data(text), options, providers=["CPUExecutionProvider"], **more)


def outcome(call: Callable[[], object]) -> Exception | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except Exception as error:  # noqa: BLE001 - it is what the test is about
        return error
    return None


def small(text: str) -> bytes:
    return data(f'<ir_version: 8, opset_import: ["" : 18]> g {text}')


def require_same_kind(found: Exception | None, wanted: Exception | None) -> None:
    assert wanted is not None
    assert isinstance(found, FornixError | TypeError), found
    name = type(wanted).__name__
    kind = getattr(state, name, None) or getattr(__import__("builtins"), name)
    assert isinstance(found, kind), (found, wanted)
