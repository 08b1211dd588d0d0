"""The same as `onnxruntime_pybind11_state`, by another name."""

from __future__ import annotations

from fornix.onnxruntime.capi.onnxruntime_pybind11_state import *  # noqa: F403 - one list, there
