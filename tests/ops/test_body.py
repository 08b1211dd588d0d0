from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from fornix import ops
from fornix.errors import NotSupported
from fornix.ops.body import body_text, function_text
from fornix.ops.call import BodyNode, bind_attributes
from fornix.ops.op import op
from fornix.ops.types import FLOAT
from fornix.reference import ReferenceEvaluator
from tests.ops.harness import LATEST, run_op

RANDOM = np.random.default_rng(4)
STEPS = 1e-6
"""A few roundings to float32, and constants that bodies hold as float32."""


def normal(*shape: int, dtype: Any = np.float32) -> Any:
    return (RANDOM.standard_normal(shape) * 3).astype(dtype)


X = normal(4, 5)
WHOLE = np.array([[-7, -1, 0, 3], [2, 5, -2, 8]], np.int32)
CASES: list[tuple[str, list[Any], dict[str, Any], int]] = [
    ("Relu", [X], {}, 1),
    ("Relu", [WHOLE], {}, 1),
    ("LeakyRelu", [X], {"alpha": 0.2}, 1),
    ("PRelu", [X, normal(5)], {}, 1),
    ("ThresholdedRelu", [X], {"alpha": 0.5}, 1),
    ("Elu", [X], {"alpha": 0.5}, 1),
    ("Celu", [X], {"alpha": 2.0}, 1),
    ("Selu", [X], {}, 1),
    ("HardSigmoid", [X], {"alpha": 0.3}, 1),
    ("HardSwish", [X], {}, 1),
    ("Swish", [X], {"alpha": 1.5}, 1),
    ("SwiGLU", [X, normal(4, 5)], {}, 1),
    ("Mish", [X], {}, 1),
    ("Gelu", [X], {}, 1),
    ("Gelu", [X], {"approximate": "tanh"}, 1),
    ("Softplus", [X * 40], {}, 1),
    ("Softsign", [X], {}, 1),
    ("Shrink", [X], {"bias": 0.25, "lambd": 1.5}, 1),
    ("Softmax", [X], {"axis": 0}, 1),
    ("Softmax", [X], {}, 1),
    ("LogSoftmax", [X * 40], {}, 1),
    ("LessOrEqual", [WHOLE, WHOLE[::-1].copy()], {}, 1),
    ("GreaterOrEqual", [X, X[:1]], {}, 1),
    ("Clip", [X], {}, 1),
    ("Clip", [X, np.array(-1, np.float32)], {}, 1),
    ("Clip", [X, None, np.array(1, np.float32)], {}, 1),
    ("Clip", [X, np.array(1, np.float32), np.array(-1, np.float32)], {}, 1),
    ("LayerNormalization", [normal(2, 3, 4), normal(4)], {}, 3),
    ("LayerNormalization", [normal(2, 3, 4), normal(4), normal(4)], {"epsilon": 0.1}, 3),
    ("LayerNormalization", [normal(2, 3, 4), normal(3, 4), normal(4)], {"axis": 1}, 3),
    ("LayerNormalization", [normal(3, 4), normal(3, 4)], {"axis": 0}, 3),
    ("RMSNormalization", [normal(2, 3, 4), normal(4)], {}, 1),
    ("GroupNormalization", [normal(2, 4, 3), normal(4), normal(4)], {"num_groups": 2}, 1),
    ("RMSNormalization", [normal(2, 3, 4), normal(3, 4)], {"axis": 1, "epsilon": 0.5}, 1),
    ("MeanVarianceNormalization", [normal(2, 3, 4, 5)], {}, 1),
    ("MeanVarianceNormalization", [normal(2, 3, 4)], {"axes": [0, -1]}, 1),
    *(
        (name, [np.abs(X) if name == "ReduceLogSum" else X, *axes], {"keepdims": keepdims}, 1)
        for name in ("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")
        for axes, keepdims in (([], 0), ([np.array([-1])], 1), ([np.array([0])], 0))
    ),
    ("ReduceLogSumExp", [np.array([[1e4, 1e4], [-np.inf, 1]], np.float32), np.array([1])], {}, 1),
    ("ReduceL2", [X], {"noop_with_empty_axes": 1}, 1),
]


def name_of(case: tuple[str, list[Any], dict[str, Any], int]) -> str:
    return f"{case[0]}{''.join(f'-{value}' for value in case[2].values())}"


def model_of(
    name: str, inputs: list[Any], attributes: dict[str, Any], outputs: int, domain: str = ""
) -> onnx.ModelProto:
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    results = [f"y{i}" for i in range(outputs)]
    node = onnx.helper.make_node(name, names, results, domain=domain, **attributes)
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [
            onnx.helper.make_tensor_value_info(
                n, onnx.helper.np_dtype_to_tensor_dtype(x.dtype), x.shape
            )
            for n, x in zip(names, inputs, strict=True)
            if x is not None
        ],
        [onnx.helper.make_empty_tensor_value_info(result) for result in results],
    )
    imports = [onnx.helper.make_opsetid("", 18 if domain else LATEST)]
    if domain:
        imports.append(onnx.helper.make_opsetid(domain, 1))
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)


def feeds_of(inputs: list[Any]) -> dict[str, Any]:
    return {f"x{i}": x for i, x in enumerate(inputs) if x is not None}


def assert_close(found: list[Any], wanted: list[Any]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=STEPS, atol=STEPS)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_body_computes_what_the_kernel_computes(
    case: tuple[str, list[Any], dict[str, Any], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, inputs, attributes, outputs = case
    expected = run_op(name, inputs, attributes, outputs=outputs)
    operator = ops.find("", name)
    assert operator is not None
    monkeypatch.setitem(operator.rules, "kernel", {})
    model = model_of(name, inputs, attributes, outputs)
    assert_close(ReferenceEvaluator(model).run(None, feeds_of(inputs)), expected)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_body_is_a_function_that_onnxruntime_runs(
    case: tuple[str, list[Any], dict[str, Any], int],
) -> None:
    name, inputs, attributes, outputs = case
    expected = run_op(name, inputs, attributes, outputs=outputs)
    operator = ops.find("", name)
    assert operator is not None
    schema = operator.schema(LATEST)
    bound = bind_attributes(schema, attributes)
    node = BodyNode(
        operator=operator,
        schema=schema,
        opset=LATEST,
        wanted=(True,) * outputs,
        attributes=bound,
        given=tuple(x is not None for x in inputs),
    )
    text = body_text(node)
    assert text is not None
    function = onnx.parser.parse_function(text)
    function.domain = "here"
    model = model_of(name, inputs, bound, outputs, "here")
    model.functions.append(function)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    assert_close(list(session.run(None, feeds_of(inputs))), expected)


def test_the_header_of_a_body_is_the_schemas() -> None:
    operator = op(
        """Blend <axes: ints = [0, 1], mode: string = "soft", rate: float = 0.5, scale: float>
           (X: T, Y: T?) => (Z: T)""",
        since=1, domain="com.example", T=FLOAT,
    ).body("Z = Mul (X, Y)")  # fmt: skip
    rule = operator.rule("body", 1)
    assert rule is not None
    head, signature, *_ = rule().splitlines()
    assert head == '<domain: "com.example", opset_import: ["": 18]>'
    assert signature == (
        'Blend <axes: ints = [0, 1], mode: string = "soft", rate: float = 0.5, scale: float> '
        "(X, Y) => (Z)"
    )


def test_a_body_with_a_header_keeps_it() -> None:
    operator = ops.find("", "Relu")
    assert operator is not None
    text = '<domain: "", opset_import: ["": 20]> Relu (X) => (Y) { Y = Identity (X) }'
    assert function_text(operator.schema(14), text) == text


def test_an_operator_without_kernel_and_body_is_not_evaluated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operator = ops.find("", "Erf")
    assert operator is not None
    monkeypatch.setitem(operator.rules, "kernel", {})
    with pytest.raises(NotSupported, match="Erf-13 has no kernel"):
        ReferenceEvaluator(model_of("Erf", [X], {}, 1)).run(None, {"x0": X})
