"""What `onnx.onnx_data_pb2` offers: the messages of sequences, maps and optionals."""

from __future__ import annotations

from fornix.format.messages import DESCRIPTOR, MapProto, OptionalProto, SequenceProto

__all__ = ["DESCRIPTOR", "MapProto", "OptionalProto", "SequenceProto"]
