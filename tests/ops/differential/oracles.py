"""Independent answers to a case: onnxruntime, onnx's reference evaluator, and formulas.

An oracle returns the outputs, or raises `Refused` if it does not answer. Half precision is asked
for twice: as it is, and widened to float32 with the result rounded once, which is what the standard
means and what onnxruntime can compute for bfloat16 too. What is known to be wrong in a peer is
listed in `mistakes.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import helper, numpy_helper

from fornix import ops
from fornix.dtype import BFLOAT16, FLOAT16, FLOAT32, DType
from fornix.ir.types import TensorType
from fornix.ops.signature import Occurrence
from fornix.ops.types import type_of
from tests.ops.differential.formulas import FORMULAS
from tests.ops.differential.refused import Refused
from tests.ops.differential.space import Case

os.environ["ALLOW_RELEASED_ONNX_OPSET_ONLY"] = "0"

IR_VERSION = 10
"""The newest that onnxruntime 1.31 reads."""
NEWEST = 27
"""The newest opset that onnxruntime 1.31 reads."""
MODERN = 13
"""An opset in which operators broadcast as NumPy does."""
NATIVE = frozenset("?bBhHiIlLqQefdFDO")
"""NumPy's own types; onnxruntime takes the others as initializers only, and returns none."""


def is_native(value: Any) -> bool:
    return not isinstance(value, np.ndarray) or value.dtype.char in NATIVE


def type_proto(value: Any) -> onnx.TypeProto:
    """The type of a feed, as a graph input states it."""
    if isinstance(value, list):
        return helper.make_sequence_type_proto(type_proto(value[0]))
    if isinstance(value, dict):
        key, element = next(iter(value.items()))
        proto = onnx.TypeProto()
        proto.map_type.key_type = 8 if isinstance(key, str) else 7
        kind = object if isinstance(element, str) else None
        proto.map_type.value_type.CopyFrom(type_proto(np.asarray(element, kind)))
        return proto
    return helper.make_tensor_type_proto(DType.of(value.dtype).code, value.shape)


def node_of(case: Case, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.NodeProto:
    """The node; the kinds of attributes come from the schema, which knows them of empty lists."""
    node = helper.make_node(case.name, inputs, outputs, domain=case.domain)
    schema = ops.schema_of(case.domain, case.name, case.opset)
    for name, value in case.attributes.items():
        kind = onnx.AttributeProto.AttributeType.Value(schema.attributes[name].kind.upper())
        stored = numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        node.attribute.append(helper.make_attribute(name, stored, attr_type=kind))
    return node


def model_of(case: Case, *, cast_outputs: frozenset[int] = frozenset()) -> onnx.ModelProto:
    """A model of the one node; what NumPy has no type for is stored in it."""
    names = ["" if value is None else f"x{i}" for i, value in enumerate(case.inputs)]
    results = [f"y{i}" for i in range(case.outputs)]
    nodes = [node_of(case, names, results)]
    for index in sorted(cast_outputs):
        nodes.append(helper.make_node("Cast", [results[index]], [f"f{index}"], to=1))
        results[index] = f"f{index}"
    pairs = [(n, v) for n, v in zip(names, case.inputs, strict=True) if n]
    graph = helper.make_graph(
        nodes,
        "case",
        [helper.make_value_info(n, type_proto(v)) for n, v in pairs if is_native(v)],
        [helper.make_empty_tensor_value_info(result) for result in results],
        [numpy_helper.from_array(v, n) for n, v in pairs if not is_native(v)],
    )
    opset = case.opset
    imports = [helper.make_opsetid("", opset if not case.domain else 21)]
    if case.domain:
        imports.append(helper.make_opsetid(case.domain, opset))
    return helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)


def feeds_of(case: Case) -> dict[str, Any]:
    return {f"x{i}": v for i, v in enumerate(case.inputs) if v is not None and is_native(v)}


def onnxruntime_says(case: Case, found: list[Any] | None = None) -> list[Any]:
    """Outputs of onnxruntime; ``found`` tells which of them have types that NumPy lacks."""
    import onnxruntime

    strange = {
        i for i, value in enumerate(found or []) if value is not None and not is_native(value)
    }
    if crashes(case):
        raise Refused("onnxruntime: crashes")
    if case.opset > NEWEST and not case.domain:
        case = _older(case)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        model = model_of(case, cast_outputs=frozenset(strange)).SerializeToString()
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        outputs = list(session.run(None, feeds_of(case)))
    except Exception as error:
        raise Refused(f"onnxruntime: {_first_line(error)}") from error
    for index in strange:
        assert found is not None
        outputs[index] = outputs[index].astype(found[index].dtype)
    return outputs


def crashes(case: Case) -> bool:
    """Whether onnxruntime takes the whole process down instead of answering."""
    if any(x is None for x in case.inputs) and _is_variadic(case):
        return True
    if case.title == "com.microsoft.Attention":
        return len(case.inputs) < 3 or case.inputs[2] is None
    if case.name in {"QLinearLeakyRelu", "QLinearSigmoid"}:
        return len(case.inputs) < 5  # without a zero point
    arrays = [x for x in case.inputs if isinstance(x, np.ndarray)]
    if case.name == "InstanceNormalization" and any(x.size == 0 for x in arrays):
        return True
    if case.name == "Einsum" and "..." in case.attributes.get("equation", ""):
        return len({x.ndim for x in arrays}) > 1 or any(x.shape[0] == 0 for x in arrays if x.ndim)
    if case.name in {"Div", "Mod"} and len(arrays) == 2 and arrays[1].dtype.kind in "iu":
        return bool((arrays[1] == 0).any() or (arrays[1] == -1).any())  # −1 divides the least, too
    if case.name == "DFT" and len(case.inputs) > 2 and case.inputs[2] is None:
        return True
    return case.name == "GatherND" and case.attributes.get("batch_dims", 0) < 0


def _is_variadic(case: Case) -> bool:
    formals = ops.schema_of(case.domain, case.name, case.opset).inputs
    return bool(formals) and formals[-1].occurrence is Occurrence.VARIADIC


def _older(case: Case) -> Case:
    """``case`` in the newest opset that onnxruntime reads."""
    return Case(case.domain, case.name, NEWEST, case.inputs, case.attributes, case.outputs)


def reference_says(case: Case, found: list[Any] | None = None) -> list[Any]:
    """Outputs of onnx's reference evaluator."""
    from onnx.reference import ReferenceEvaluator

    try:
        with np.errstate(all="ignore"):
            evaluator = ReferenceEvaluator(model_of(case))
            return list(evaluator.run(None, feeds_of(case)))
    except Exception as error:
        raise Refused(f"onnx.reference: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".split("\n", 1)[0][:300]


def widened_says(case: Case, found: list[Any] | None = None) -> list[Any]:
    """onnxruntime's outputs in float32, rounded to the half precision that was asked for."""
    narrow = {BFLOAT16, FLOAT16}
    dtypes = {DType.of(v.dtype) for v in case.inputs if isinstance(v, np.ndarray)}
    if not dtypes & narrow or found is None:
        raise Refused("nothing to widen")
    if not _allows_float32(case):
        raise Refused("the schema has no float32")
    inputs = tuple(
        v.astype(np.float32) if isinstance(v, np.ndarray) and DType.of(v.dtype) in narrow else v
        for v in case.inputs
    )
    wide = Case(case.domain, case.name, case.opset, inputs, case.attributes, case.outputs)
    outputs = onnxruntime_says(wide, found)
    if any(isinstance(o, list) for o in outputs):
        raise Refused("sequences are not narrowed")
    with np.errstate(all="ignore"):
        return [
            o.astype(f.dtype) if isinstance(f, np.ndarray) and o.dtype == np.float32 else o
            for o, f in zip(outputs, found, strict=True)
        ]


def _allows_float32(case: Case) -> bool:
    schema = ops.schema_of(case.domain, case.name, case.opset)
    formals = [schema.formal_input(index) for index in range(len(case.inputs))]
    return any(TensorType(FLOAT32) == type_of(s) for f in formals for s in schema.allowed(f))


def modern_says(case: Case, found: list[Any] | None = None) -> list[Any]:
    """The same node without ``broadcast`` and ``axis``, which opset 7 replaced."""
    names = ops.schema_of(case.domain, case.name, case.opset).attributes
    if "broadcast" not in names or "axis" not in names:
        raise Refused("nothing to modernise")
    a, b = case.inputs
    axis = case.attributes.get("axis", a.ndim - b.ndim)
    behind = a.ndim - (axis % max(a.ndim, 1)) - b.ndim
    b = b.reshape(b.shape + (1,) * behind)
    outputs = reference_says(Case(case.domain, case.name, MODERN, (a, b), {}, case.outputs))
    return outputs if a.ndim else [np.asarray(o).reshape(()) for o in outputs]


def formula_says(case: Case, found: list[Any] | None = None) -> list[Any]:
    """What mathematics says, computed by NumPy in double precision."""
    formula = FORMULAS.get(case.title)
    if formula is None:
        raise Refused("no formula")
    with np.errstate(all="ignore"):
        return formula(case)


def indexed_says(case: Case, found: list[Any] | None = None) -> list[Any]:
    """What onnxruntime picks when elements are their own numbers: picking knows no dtype."""
    if case.name != "Resize" or case.attributes.get("mode", "nearest") != "nearest":
        raise Refused("more than picking")
    if case.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise Refused("some elements are not picked")
    x = case.inputs[0]
    numbers = np.arange(x.size, dtype=np.float32).reshape(x.shape)
    inputs = (numbers, *case.inputs[1:])
    numbered = Case(case.domain, case.name, case.opset, inputs, case.attributes, case.outputs)
    (picked,) = onnxruntime_says(numbered)
    return [x.reshape(-1)[picked.astype(int)]]


Oracle = Callable[[Case, list[Any] | None], list[Any]]

ORACLES: dict[str, Oracle] = {
    "onnxruntime": onnxruntime_says,
    "onnx.reference": reference_says,
    "widened": widened_says,
    "modern": modern_says,
    "formula": formula_says,
    "indexed": indexed_says,
}


def finite_type(dtype: DType) -> Any:
    """Precision of a float dtype."""
    return ml_dtypes.finfo(dtype.numpy)
