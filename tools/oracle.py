"""What a model gives, by the standard's own evaluator, or by onnxruntime where it has no answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator


def answer(message: bytes, feeds: Mapping[str, Any], first: str = "") -> list[Any]:
    """The outputs of the model; raises RuntimeError if nobody has an answer.

    ``first`` may be "onnxruntime", to ask that one first.
    """
    model = onnx.load_from_string(message)
    reasons = []
    asked = (_reference, _onnxruntime)
    for ask in asked[::-1] if first == "onnxruntime" else asked:
        try:
            return ask(model, feeds)
        except Exception as error:  # noqa: BLE001 - whatever they raise is told
            reasons.append(f"{ask.__name__}: {type(error).__name__}: {error}")
    raise RuntimeError("\n".join(reasons))


def _reference(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> list[Any]:
    return list(ReferenceEvaluator(model).run(None, dict(feeds)))


def _onnxruntime(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> list[Any]:
    """By the newest opset that it has the operators of: what they mean did not change since."""
    errors: list[Exception] = []
    for opset in OPSETS:
        known = onnx.ModelProto()
        known.CopyFrom(model)
        known.ir_version = min(known.ir_version, IR_VERSION)
        for entry in known.opset_import:
            if not entry.domain:
                entry.version = min(entry.version, opset)
        try:
            session = onnxruntime.InferenceSession(known.SerializeToString())
            return list(session.run(None, dict(feeds)))
        except Exception as error:  # noqa: BLE001 - the next opset may do
            errors.append(error)
    raise errors[0]


OPSETS, IR_VERSION = (26, 21, 17, 12), 12
"""What onnxruntime is asked for, the newest that it reads first."""
