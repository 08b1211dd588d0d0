"""Who computes what is compared: fornix, its NumPy kernels, onnxruntime.

An engine runs a model on feeds and gives its outputs by name. `optimized` is what its users get;
without, it keeps every node as it is, so that differences can be put down to one.
"""

from __future__ import annotations

import importlib
import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from fornix.debug.part import plan_of
from fornix.errors import Fail, NotSupported
from fornix.ir.files import save
from fornix.ir.graph import Model
from fornix.runtime import InferenceSession, SessionOptions

LARGE = 1 << 30
"""Bytes of weights from which a model is handed to onnxruntime in files."""


class Engine(Protocol):
    """Runs models."""

    name: str
    is_plain: bool
    """Whether it runs the NumPy kernels, which are not compared with themselves."""

    def run(self, model: Model, feeds: Mapping[str, Any], *, optimized: bool) -> dict[str, Any]:
        """The outputs of ``model`` by name."""


class Kernels:
    """The NumPy kernels, node by node: what a model means."""

    name = "reference"
    is_plain = True

    def run(self, model: Model, feeds: Mapping[str, Any], *, optimized: bool) -> dict[str, Any]:
        """The outputs of ``model`` by name."""
        del optimized
        options = SessionOptions(seed=0)
        session = InferenceSession(model, options, providers=["ReferenceExecutionProvider"])
        return dict(zip(session.output_names, session.run(None, feeds), strict=True))


class Compiled:
    """fornix's sessions: machine code."""

    name = "fornix"
    is_plain = False

    def run(self, model: Model, feeds: Mapping[str, Any], *, optimized: bool) -> dict[str, Any]:
        """The outputs of ``model`` by name."""
        options = SessionOptions(seed=0)
        if not optimized:
            options.graph_optimization_level = "none"
            options.add_session_config_entry("fornix.strict_accuracy", "1")
        session = InferenceSession(model, options)
        return dict(zip(session.output_names, session.run(None, feeds), strict=True))


class OnnxRuntime:
    """onnxruntime on the processor; raises NotSupported where it is not installed."""

    is_plain = False

    def __init__(self) -> None:
        try:
            self.module: Any = importlib.import_module("onnxruntime")
        except ImportError as error:
            raise NotSupported(
                "compare: onnxruntime is required, which is not installed; "
                "pip install 'fornix[compare]', or compare with reference"
            ) from error
        self.name = f"onnxruntime {self.module.__version__}"

    def run(self, model: Model, feeds: Mapping[str, Any], *, optimized: bool) -> dict[str, Any]:
        """The outputs of ``model`` by name; raises Fail with what onnxruntime says."""
        options = self.module.SessionOptions()
        options.log_severity_level = 4
        if not optimized:
            level = self.module.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.graph_optimization_level = level
        names = [value.name for value in model.graph.outputs]
        try:
            session = self._session(model, options)
            return dict(zip(names, session.run(names, dict(feeds)), strict=True))
        except Exception as error:
            if not type(error).__module__.startswith("onnxruntime"):
                raise
            raise Fail(f"{self.name}: {' '.join(str(error).split())}") from error

    def _session(self, model: Model, options: Any) -> Any:
        providers = ["CPUExecutionProvider"]
        if sum(v.tensor.nbytes for v in model.graph.initializer_values if v.tensor) < LARGE:
            message = io.BytesIO()
            save(model, message, "protobuf")
            return self.module.InferenceSession(message.getvalue(), options, providers=providers)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            path = Path(folder) / "model.onnx"
            save(model, path, external_data="model.data")
            return self.module.InferenceSession(path, options, providers=providers)


def everything(model: Model, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """Every value of ``model``'s main graph by name, as the NumPy kernels compute it."""
    plan = plan_of(model)
    by_name = {value.name: value for value in model.graph.inputs}
    values: dict[Any, Any] = {by_name[name]: feed for name, feed in feeds.items()}
    made = frozenset(v for node in model.graph.nodes for v in node.outputs)
    plan.run(dict(values), values, keep=made)
    return {**feeds, **{v.name: result for v, result in values.items() if v.name}}
