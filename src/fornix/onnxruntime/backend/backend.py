"""`OnnxRuntimeBackend`: models prepared and run as onnx's backend tests want it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from fornix.errors import FornixError, NotSupported
from fornix.onnxruntime._options import SessionOptions
from fornix.onnxruntime._process import get_available_providers, get_device
from fornix.onnxruntime._session import InferenceSession
from fornix.onnxruntime.backend.backend_rep import OnnxRuntimeBackendRep
from fornix.ops.opsets import require_known
from fornix.runtime import RunOptions


class OnnxRuntimeBackend:
    """A backend of onnx's kind, whose models are sessions."""

    allowReleasedOpsetsOnly = True

    @classmethod
    def is_opset_supported(cls, model: Any) -> tuple[bool, str]:
        """Whether the opsets of ``model`` are known, and what is wrong if not."""
        try:
            require_known({entry.domain: entry.version for entry in model.opset_import}, "model")
        except FornixError as error:
            return False, str(error)
        return True, ""

    @classmethod
    def is_compatible(cls, model: Any, device: str | None = None, **kwargs: Any) -> bool:
        """Whether ``model`` may be prepared here."""
        return cls.supports_device(device or "CPU") and cls.is_opset_supported(model)[0]

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether models run on ``device``: the CPU."""
        return device == "CPU"

    @classmethod
    def prepare(cls, model: Any, device: str | None = None, **kwargs: Any) -> OnnxRuntimeBackendRep:
        """``model`` ready to run: a path, bytes, a message, a session or what this gave before.

        ``kwargs`` are options of the session. Raises NotSupported for another device.
        """
        if isinstance(model, OnnxRuntimeBackendRep):
            return model
        if isinstance(model, InferenceSession):
            return OnnxRuntimeBackendRep(model)
        if device is not None and not cls.supports_device(device):
            raise NotSupported(f"backend: device {get_device()!r} is required, found {device!r}")
        options = SessionOptions(**kwargs)
        source = os.fspath(model) if isinstance(model, os.PathLike) else model
        return OnnxRuntimeBackendRep(InferenceSession(source, options))

    @classmethod
    def run_model(
        cls, model: Any, inputs: Any, device: str | None = None, **kwargs: Any
    ) -> list[Any]:
        """Results of ``model`` on ``inputs``, by position; ``kwargs`` are options of the run."""
        return cls.prepare(model, device).run(inputs, **kwargs)

    @classmethod
    def run_node(
        cls,
        node: Any,
        inputs: Any,
        device: str | None = None,
        outputs_info: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...] | None:
        """Raises NotSupported, as onnxruntime: whole models run."""
        raise NotSupported("backend: single nodes run with fornix.ReferenceEvaluator(node)")


is_compatible = OnnxRuntimeBackend.is_compatible
prepare = OnnxRuntimeBackend.prepare
run = OnnxRuntimeBackend.run_model
supports_device = OnnxRuntimeBackend.supports_device

__all__ = [
    "OnnxRuntimeBackend",
    "OnnxRuntimeBackendRep",
    "RunOptions",
    "get_available_providers",
    "get_device",
    "is_compatible",
    "prepare",
    "run",
    "supports_device",
]
