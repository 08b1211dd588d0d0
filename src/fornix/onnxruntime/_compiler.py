"""`ModelCompiler`: compiled models by onnxruntime's name.

Decides what its arguments mean here: a compiled model is one file with everything in it, whatever
it is called, and is compiled as the options of sessions say.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fornix import runtime
from fornix.errors import Fail, FornixError, InvalidArgument, NotSupported
from fornix.onnxruntime._errors import LOADING, translated
from fornix.onnxruntime._options import GraphOptimizationLevel, OrtCompileApiFlags
from fornix.runtime.native import NativeStep


class ModelCompiler:
    """Compiles a model for this processor; `fornix.compile_model` says what comes of it.

    Compiled models hold their data themselves, so files for initializers are refused.
    ``graph_optimization_level`` decides nothing: that of ``sess_options`` does.
    """

    def __init__(
        self,
        sess_options: runtime.SessionOptions,
        input_model_path_or_bytes: str | os.PathLike[str] | bytes,
        embed_compiled_data_into_model: bool = False,
        external_initializers_file_path: str | os.PathLike[str] | None = None,
        external_initializers_size_threshold: int = 1024,
        flags: int = OrtCompileApiFlags.NONE,
        graph_optimization_level: int = GraphOptimizationLevel.ORT_DISABLE_ALL,
        get_initializer_location_func: Callable[..., Any] | None = None,
    ) -> None:
        source = input_model_path_or_bytes
        if not isinstance(source, str | os.PathLike | bytes):
            raise TypeError(
                f"ModelCompiler: a path or bytes are required, found {type(source).__name__}"
            )
        if not source:
            raise ValueError("ModelCompiler: a model is required, found an empty path or no bytes")
        if external_initializers_file_path and get_initializer_location_func:
            raise ValueError(
                "ModelCompiler: external_initializers_file_path or get_initializer_location_func "
                "may be given, found both"
            )
        if external_initializers_file_path or get_initializer_location_func:
            error = NotSupported("ModelCompiler: a compiled model holds its initializers itself")
            raise translated(error, LOADING)
        self._options, self._source, self._flags = sess_options, source, int(flags)

    def compile_to_file(self, output_model_path: str | os.PathLike[str] | None = None) -> None:
        """Write the compiled model; without a path beside the input, as ``…_ctx.onnx``."""
        if output_model_path and not isinstance(output_model_path, str | os.PathLike):
            raise TypeError(
                f"ModelCompiler: a path is required, found {type(output_model_path).__name__}"
            )
        try:
            self._compile(Path(output_model_path or self._beside()))
        except FornixError as error:
            raise translated(error, LOADING) from error.__cause__

    def compile_to_bytes(self) -> bytes:
        """The compiled model."""
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "model.fnx")
            self.compile_to_file(target)
            return target.read_bytes()

    def compile_to_stream(self, write_function: Callable[[bytes], object]) -> None:
        """Give the compiled model to ``write_function``."""
        write_function(self.compile_to_bytes())

    def set_ep_context_data_write_func(self, write_func: Callable[..., object]) -> None:
        """Raises NotSupported: there are no providers with data of their own."""
        raise NotSupported("ModelCompiler: no provider here writes context data")

    def clear_ep_context_data_write_func(self) -> None:
        """Nothing: there is none."""

    def _beside(self) -> Path:
        if isinstance(self._source, bytes):
            raise InvalidArgument("ModelCompiler: a path is required for a model from bytes")
        path = Path(self._source)
        return path.with_name(path.name.removesuffix(".onnx") + "_ctx.onnx")

    def _compile(self, target: Path) -> None:
        from fornix.runtime.stored.compiling import compile_model  # noqa: PLC0415 - with the optimizer

        must_be_new = self._flags & OrtCompileApiFlags.ERROR_IF_OUTPUT_FILE_EXISTS
        if must_be_new and target.exists():
            raise InvalidArgument(f"ModelCompiler: a new file is required, {target} is there")
        if not isinstance(self._source, bytes) and not Path(self._source).is_file():
            raise InvalidArgument(f"ModelCompiler: a model is required, there is no {self._source}")
        compile_model(self._source, target, self._options)
        if self._flags & OrtCompileApiFlags.ERROR_IF_NO_NODES_COMPILED and not _has_code(target):
            target.unlink()
            raise Fail("ModelCompiler: a node that can be compiled is required, found none")


def _has_code(path: Path) -> bool:
    """Whether the program in a file has machine code."""
    made = runtime.InferenceSession(path, trust=True)._programs  # noqa: SLF001 - our own
    return made is not None and any(isinstance(x, NativeStep) for x in made.general.steps)
