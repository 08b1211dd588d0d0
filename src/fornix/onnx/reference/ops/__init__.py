"""What `onnx.reference.ops` offers: the class that evaluates an operator, by `load_op`.

There is one class for each version of an operator, made when it is asked for; they run the NumPy
kernels of `fornix.ops`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from fornix import ops
from fornix.errors import SchemaError
from fornix.format.messages import NodeProto
from fornix.onnx.reference.op_run import OpFunction, OpRun, RuntimeImplementationError
from fornix.ops.opsets import LATEST
from fornix.reference import ReferenceEvaluator

__all__ = ["load_op"]


class Kernel(OpRun):
    """An operator of the standard, evaluated by its kernel."""

    op_version = 0

    def _run(self, *args: Any, **_: Any) -> tuple[Any, ...]:
        node = NodeProto()
        node.CopyFrom(self.onnx_node)
        node.ClearField("input")
        node.input.extend("" if x is None else f"x{i}" for i, x in enumerate(args))
        feeds = {f"x{i}": x for i, x in enumerate(args) if x is not None}
        evaluator = ReferenceEvaluator(node, opsets={node.domain: self.op_version})
        return tuple(evaluator.run(None, feeds))

    @classmethod
    def infer_name(cls) -> tuple[str, int]:
        """Operator and opset."""
        return cls.__name__, cls.op_version


def load_op(
    domain: str,
    op_type: str,
    version: int | None = None,
    custom: Any = None,
    node: Any = None,
    input_types: Any = None,
    expand: bool = False,
    evaluator_cls: type | None = None,
) -> Any:
    """The class that evaluates an operator at ``version`` of its domain, by default the newest.

    With ``custom``, an evaluator of a function, what makes calls of that. Raises
    RuntimeImplementationError, a NotImplementedError, for an operator that does not exist.
    """
    if custom is not None:
        return lambda node, run_params: OpFunction(node, run_params, custom)
    return _kernel(domain, op_type, LATEST.get(domain, 1) if version is None else version)


@cache
def _kernel(domain: str, op_type: str, version: int) -> type[OpRun]:
    try:
        ops.schema_of(domain, op_type, version, strict=True)
    except SchemaError as error:
        raise RuntimeImplementationError(str(error)) from None
    return type(op_type, (Kernel,), {"op_domain": domain, "op_version": version})
