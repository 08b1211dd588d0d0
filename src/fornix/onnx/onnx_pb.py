"""What `onnx.onnx_pb` offers: the messages, by the name that older code imports them from."""

from __future__ import annotations

from fornix.onnx.onnx_ml_pb2 import *  # noqa: F403 - the same names by another
