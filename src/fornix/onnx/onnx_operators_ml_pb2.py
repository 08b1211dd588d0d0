"""What `onnx.onnx_operators_ml_pb2` offers: the messages of operator sets."""

from __future__ import annotations

from fornix.format.messages import DESCRIPTOR, OperatorProto, OperatorSetProto

__all__ = ["DESCRIPTOR", "OperatorProto", "OperatorSetProto"]
