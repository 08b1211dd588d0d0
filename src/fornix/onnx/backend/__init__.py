"""What `onnx.backend` offers: models run by backends, with fornix as one of them.

The module itself has the interface of a backend, so that ``onnx.backend.test.BackendTest`` takes
it; `FornixBackend` is the same as a class to derive from. Models run in an `InferenceSession`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fornix.errors import InvalidArgument, NotSupported
from fornix.format.messages import ModelProto, NodeProto
from fornix.ir.graph import Graph
from fornix.onnx.backend.base import Backend, BackendRep, Device, DeviceType, namedtupledict
from fornix.reference import ReferenceEvaluator
from fornix.reference.source import as_model
from fornix.runtime import InferenceSession

__all__ = [
    "FornixBackend",
    "PreparedModel",
    "is_compatible",
    "prepare",
    "run_model",
    "run_node",
    "supports_device",
]


class PreparedModel(BackendRep):
    """A model in a session."""

    def __init__(self, session: InferenceSession, graph: Graph) -> None:
        self.session = session
        self._all = [value.name for value in graph.inputs]
        self._required = [value.name for value in graph.inputs if not value.is_initializer]
        self._results = namedtupledict("Outputs", [value.name for value in graph.outputs])

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs, which are also found by their names.

        ``inputs`` are a mapping by name, one array, or a sequence in the order of the graph: the
        inputs that must be fed, or those with initializers too.
        """
        if kwargs:
            raise InvalidArgument(f"run: takes inputs alone, found {', '.join(sorted(kwargs))}")
        return self._results(*self.session.run(None, self._feeds(inputs)))

    def _feeds(self, inputs: Any) -> Mapping[str, Any]:
        if isinstance(inputs, Mapping):
            return inputs
        arrays = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
        names = self._required if len(arrays) <= len(self._required) else self._all
        if len(arrays) > len(names):
            raise InvalidArgument(
                f"run: inputs must be at most {len(names)} ({', '.join(names) or 'none'}), "
                f"found {len(arrays)}"
            )
        return dict(zip(names, arrays, strict=False))


class FornixBackend(Backend):
    """Runs models on the CPU."""

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether ``model`` runs: whether a session can be made of it."""
        try:
            cls.prepare(model, device, **kwargs)
        except NotSupported:
            return False
        return True

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> PreparedModel:
        """``model``, a message, bytes or a path, in a session; ``kwargs`` are the session's.

        Raises NotSupported for other devices than the CPU, and what the session raises.
        """
        _check_device(device)
        source = as_model(model)
        return PreparedModel(InferenceSession(source, **kwargs), source.graph)

    @classmethod
    def run_node(
        cls,
        node: NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """The outputs of ``node`` for ``inputs``, a sequence without those left out or a mapping.

        ``opset_version`` says which opset of the node's domain counts, else the newest does. Raises
        InvalidArgument if the outputs are not what ``outputs_info`` says.
        """
        _check_device(device)
        version = kwargs.pop("opset_version", None)
        if kwargs:
            raise InvalidArgument(
                f"run_node: takes opset_version alone, found {', '.join(sorted(kwargs))}"
            )
        opsets = None if version is None else {node.domain: version}
        names = list(dict.fromkeys(name for name in node.input if name))
        if not isinstance(inputs, Mapping):
            arrays = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
            if len(arrays) != len(names):
                raise InvalidArgument(
                    f"run_node: inputs must be {len(names)} ({', '.join(names) or 'none'}), "
                    f"found {len(arrays)}"
                )
            inputs = dict(zip(names, arrays, strict=True))
        outputs = [name for name in node.output if name]
        results = ReferenceEvaluator(node, opsets).run(outputs, inputs)
        _check_outputs(outputs, results, outputs_info)
        return namedtupledict("Outputs", outputs)(*results)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether models run on ``device``."""
        try:
            return Device(device).type is DeviceType.CPU
        except InvalidArgument:
            return False


def _check_device(device: str) -> None:
    if Device(device).type is not DeviceType.CPU:
        raise NotSupported(f"backend: models run on the device CPU, found {device!r}; try 'CPU'")


def _check_outputs(
    names: Sequence[str],
    results: Sequence[Any],
    outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None,
) -> None:
    for name, result, (dtype, shape) in zip(names, results, outputs_info or (), strict=False):
        found = (result.dtype, result.shape)
        if found != (np.dtype(dtype), tuple(shape)):
            raise InvalidArgument(
                f"run_node: outputs_info says {np.dtype(dtype)}{list(shape)} of '{name}', "
                f"found {found[0]}{list(found[1])}"
            )


is_compatible = FornixBackend.is_compatible
prepare = FornixBackend.prepare
run_model = FornixBackend.run_model
run_node = FornixBackend.run_node
supports_device = FornixBackend.supports_device
