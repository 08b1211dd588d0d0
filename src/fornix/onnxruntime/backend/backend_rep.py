"""`OnnxRuntimeBackendRep`: a session behind onnx's interface of prepared models."""

from __future__ import annotations

from typing import Any

from fornix.onnxruntime._session import InferenceSession
from fornix.runtime import RunOptions


class OnnxRuntimeBackendRep:
    """A model that is prepared."""

    def __init__(self, session: InferenceSession) -> None:
        self._session = session

    def run(self, inputs: Any, **kwargs: Any) -> list[Any]:
        """Results on ``inputs``, a list or the one feed; ``kwargs`` are options of the run."""
        options = RunOptions(**kwargs) if kwargs else None
        names = [value.name for value in self._session.get_inputs()]
        given = inputs if isinstance(inputs, list | tuple) else [inputs]
        if len(names) == 1 and len(given) != 1:
            given = [inputs]
        return self._session.run(None, dict(zip(names, given, strict=False)), options)
