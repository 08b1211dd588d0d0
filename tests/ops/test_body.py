from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from scipy.special import softmax

from fornix import ops
from fornix.errors import FornixError, NotSupported
from fornix.format.messages import ModelProto
from fornix.ir.graph import Graph, Value
from fornix.ir.load import from_message
from fornix.ops.body import MAX_PARSED, body_text, function_of, function_text, inlined, parsed
from fornix.ops.call import BodyNode, bind_attributes, held_type
from fornix.ops.op import op
from fornix.ops.types import FLOAT
from fornix.reference import ReferenceEvaluator
from tests.ops.harness import LATEST, run_op

RANDOM = np.random.default_rng(4)
STEPS = 1e-6
"""A few roundings to float32, and constants that bodies hold as float32."""


def normal(*shape: int, dtype: Any = np.float32) -> Any:
    return (RANDOM.standard_normal(shape) * 3).astype(dtype)


Case = tuple[str, list[Any], dict[str, Any], int]


def losses() -> Iterator[Case]:
    target = np.array([[0, 2, 3], [4, 2, 0]], np.int32)
    for name, outputs in (("NegativeLogLikelihoodLoss", 1), ("SoftmaxCrossEntropyLoss", 2)):
        scores = np.log(softmax(normal(2, 5, 3), axis=1))
        for reduction in ("none", "mean", "sum"):
            yield name, [scores, target], {"reduction": reduction}, outputs
            weights = np.abs(normal(5))
            yield name, [scores, target, weights], {"reduction": reduction}, outputs
            ignoring = {"reduction": reduction, "ignore_index": -1}
            yield name, [scores, target - 1, weights], ignoring, outputs
        yield name, [scores.astype(np.float64), target.astype(np.int64)], {}, outputs


def rotations() -> Iterator[Case]:
    cos, sin = normal(2, 3, 4), normal(2, 3, 4)
    for x, heads in ((normal(2, 2, 3, 8), {}), (normal(2, 3, 16), {"num_heads": 2})):
        for interleaved in (0, 1):
            attributes = {**heads, "interleaved": interleaved}
            yield "RotaryEmbedding", [x, cos, sin], attributes, 1
            places = np.array([[0, 2, 1], [1, 1, 0]])
            part = {**attributes, "rotary_embedding_dim": 4}
            yield "RotaryEmbedding", [x, cos[:, 0, :2], sin[:, 0, :2], places % 2], part, 1


def causal_convolutions() -> Iterator[Case]:
    x, weight, bias, past = normal(2, 3, 5), normal(3, 1, 4), normal(3), normal(2, 3, 3)
    for inputs in ([x, weight], [x, weight, bias], [x, weight, None, past]):
        for activation in ("none", "silu"):
            yield "CausalConvWithState", list(inputs), {"activation": activation}, 2
    halves = [value.astype(np.float16) for value in (x, weight, bias, past)]
    yield "CausalConvWithState", halves, {}, 2


def linear_attentions() -> Iterator[Case]:
    q, k, v = normal(2, 4, 12) / 4, normal(2, 4, 6) / 4, normal(2, 4, 10)
    past, decay, beta = normal(2, 2, 3, 5), -np.abs(normal(2, 4, 6)), np.abs(normal(2, 4, 2)) / 4
    heads = {"q_num_heads": 4, "kv_num_heads": 2}
    for rule, more in (
        ("linear", [past]),
        ("gated", [None, decay]),
        ("gated", [past, decay[..., :2]]),
        ("delta", [None, None, beta]),
        ("gated_delta", [past, decay, beta[..., :1]]),
    ):
        attributes = {**heads, "update_rule": rule}
        yield "LinearAttention", [q, k, v, *more], attributes, 2
    yield "LinearAttention", [q, k, v, past], {**heads, "update_rule": "linear", "scale": 0.5}, 2


def attentions() -> Iterator[Case]:
    q, k, v = normal(2, 4, 3, 6), normal(2, 2, 5, 6), normal(2, 2, 5, 4)
    past = [normal(2, 2, 2, 6), normal(2, 2, 2, 4)]
    flat = [normal(2, 3, 24), normal(2, 5, 12), normal(2, 5, 8)]
    heads = {"q_num_heads": 4, "kv_num_heads": 2}
    some = RANDOM.random((3, 5)) < 0.6
    masks = [some, some & False, normal(2, 1, 3, 4), np.array([[-np.inf] * 4 + [0.5]] * 3, "f")]
    for mode in range(4):
        yield "Attention", [q, k, v], {"qk_matmul_output_mode": mode, "softcap": 2.0}, 4
    yield "Attention", flat, {**heads, "scale": 0.2}, 4
    yield "Attention", [*flat, None, *past], {**heads, "is_causal": 1}, 4
    for mask in masks:
        yield "Attention", [q, k, v, mask], {}, 4
    windows = {"left_window_size": 1, "right_window_size": 2}
    yield "Attention", [q, k, v, None, *past], windows, 4
    filled = np.array([4, 3])
    yield "Attention", [q, k, v, None, None, None, filled], {"is_causal": 1}, 4
    doubles = [x.astype(np.float64) for x in (q, k, v)]
    yield "Attention", doubles, {"softmax_precision": 1}, 4


X = normal(4, 5)
WHOLE = np.array([[-7, -1, 0, 3], [2, 5, -2, 8]], np.int32)
CASES: list[Case] = [
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
    ("CastLike", [X, WHOLE], {}, 1),
    ("CastLike", [X * 1000, normal(1, dtype=ml_dtypes.float8_e4m3fn)], {"saturate": 0}, 1),
    ("Bernoulli", [np.array([0, 1, 1, 0], np.float32)], {}, 1),
    ("Bernoulli", [np.array([0, 1, 1, 0], np.float64)], {"dtype": 9, "seed": 3.0}, 1),
    ("CenterCropPad", [X, np.array([7, 2])], {}, 1),
    ("CenterCropPad", [normal(4, 5, 6), np.array([3, 9], np.int32)], {"axes": [-1, 0]}, 1),
    *(
        (name, [normal(2, 8, 4, 6)], {"blocksize": 2, "mode": mode}, 1)
        for name in ("DepthToSpace", "SpaceToDepth")
        for mode in ("DCR", "CRD")
    ),
    ("DepthToSpace", [normal(0, 4, 2, 2)], {"blocksize": 2}, 1),
    *(
        ("Range", [np.array(value, dtype) for value in values], {}, 1)
        for dtype in (np.int16, np.int64, np.float32, np.float64, np.float16)
        for values in ((1, 8, 3), (1, 7, 3), (5, -4, -2), (2, 2, 1), (3, 0, 1), (0, 1, 5))
    ),
    ("Range", [np.array(v, np.float32) for v in (0.1, 1.0, 0.3)], {}, 1),
    ("Range", [np.array(v, np.float16) for v in (0.1, 99, 0.3)], {"stash_type": 10}, 1),
    *losses(),
    *rotations(),
    *causal_convolutions(),
    *linear_attentions(),
    *attentions(),
]


def name_of(case: Case) -> str:
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
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, inputs, attributes, outputs = case
    expected = run_op(name, inputs, attributes, outputs=outputs)
    operator = ops.find("", name)
    assert operator is not None
    monkeypatch.setitem(operator.rules, "kernel", {})
    model = model_of(name, inputs, attributes, outputs)
    assert_close(ReferenceEvaluator(model).run(None, feeds_of(inputs)), expected)


def test_the_body_of_an_old_group_normalization_scales_each_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, scale, bias = normal(2, 6, 3), normal(2), normal(2)
    grouped = x.reshape(2, 2, 9)
    spread = np.sqrt(grouped.var(2, keepdims=True) + 1e-5)
    wanted = (grouped - grouped.mean(2, keepdims=True)) / spread * scale[:, None] + bias[:, None]
    operator = ops.find("", "GroupNormalization")
    assert operator is not None
    monkeypatch.setitem(operator.rules, "kernel", {})
    model = model_of("GroupNormalization", [x, scale, bias], {"num_groups": 2}, 1)
    model.opset_import[0].version = 18
    found = ReferenceEvaluator(model).run(None, feeds_of([x, scale, bias]))
    assert_close(found, [wanted.reshape(x.shape)])


OLDER: list[tuple[str, list[Any], dict[str, Any], int]] = [
    *(
        (name, [normal(2, 3, 4)], {"axis": axis}, opset)
        for name in ("Softmax", "LogSoftmax")
        for axis in (1, -1)
        for opset in (13, 18)
    ),
    *(
        ("LayerNormalization", [normal(2, 3, 4), normal(3, 4), *shift], {"axis": 1}, opset)
        for shift in ([], [normal(4)])
        for opset in (17, 18)
    ),
    *(
        ("MeanVarianceNormalization", [normal(2, 3, 4).astype(dtype)], {"axes": [0, 2]}, opset)
        for opset in (9, 13, 18)
        for dtype in (np.float32, np.float64, *([ml_dtypes.bfloat16] if opset > 9 else []))
    ),
]


@pytest.mark.parametrize("case", OLDER, ids=lambda case: f"{case[0]}-{case[3]}")
def test_older_models_get_a_body_in_their_opset(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name, inputs, attributes, opset = case
    model = model_of(name, inputs, attributes, 1)
    model.opset_import[0].version = opset
    expected = ReferenceEvaluator(model).run(None, feeds_of(inputs))
    operator = ops.find("", name)
    assert operator is not None
    schema = operator.schema(opset)
    node = from_message(ModelProto.FromString(model.SerializeToString())).graph.nodes[0]
    function = function_of(BodyNode.of(node, operator, schema, opset, map(held_type, inputs)))
    assert function is not None
    assert function.opset_imports == {"": opset}
    monkeypatch.setitem(operator.rules, "kernel", {})
    steps = 0.02 if inputs[0].dtype == ml_dtypes.bfloat16 else STEPS
    for one, other in zip(
        ReferenceEvaluator(model).run(None, feeds_of(inputs)), expected, strict=True
    ):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(
            one.astype(np.float64), other.astype(np.float64), rtol=steps, atol=steps
        )


def test_the_floor_of_a_deviation_is_a_billionth_in_each_opset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = np.array([[-1e-9, 1e-9]])  # a deviation of 1e-9, and as much is added
    operator = ops.find("", "MeanVarianceNormalization")
    assert operator is not None
    monkeypatch.setitem(operator.rules, "kernel", {})
    for opset in (9, 13, 18):
        model = model_of("MeanVarianceNormalization", [x], {"axes": [1]}, 1)
        model.opset_import[0].version = opset
        [found] = ReferenceEvaluator(model).run(None, feeds_of([x]))
        np.testing.assert_allclose(found, [[-0.5, 0.5]], rtol=1e-5)


# onnxruntime keeps float32 between nodes in float16, and has one opset for model and functions.
NEWEST_OF_THE_PEER = 26
RUNNABLE = [case for case in CASES if case[0] != "CastLike" and case[2].get("stash_type") != 10]


@pytest.mark.parametrize("case", RUNNABLE, ids=name_of)
def test_a_body_is_a_function_that_onnxruntime_runs(
    case: Case,
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
        types=tuple(None if x is None else held_type(x) for x in inputs),
    )
    text = body_text(node)
    assert text is not None
    function = onnx.parser.parse_function(text)
    function.domain = "here"
    for imported in function.opset_import:
        imported.version = min(imported.version, NEWEST_OF_THE_PEER)
    model = model_of(name, inputs, bound, outputs, "here")
    model.functions.append(function)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    assert_close(list(session.run(None, feeds_of(inputs))), expected)


def test_a_map_over_sequences_is_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21]>
        g (seq(float[2]) xs, seq(float[2]) ys, float[2] z) => (seq(float[2]) sums, seq(float[2]) ws)
        {
            sums, ws = SequenceMap <body = each (float[2] a, float[2] b, float[2] c)
                                           => (float[2] sum, float[2] w)
                                    <float[2] two = {2, 2}>
            {
                twice = Mul (a, two)
                part = Add (twice, b)
                sum = Add (part, c)
                w = Identity (c)
            }> (xs, ys, z)
        }"""
    )
    xs, ys, z = [normal(2), normal(2), normal(2)], [normal(2)] * 3, normal(2)
    operator = ops.find("", "SequenceMap")
    assert operator is not None
    monkeypatch.setitem(operator.rules, "kernel", {})
    sums, ws = ReferenceEvaluator(model).run(None, {"xs": xs, "ys": ys, "z": z})
    assert_close(sums, [2 * x + y + z for x, y in zip(xs, ys, strict=True)])
    assert_close(ws, [z] * 3)
    for others in (ys[:1], [*ys, z]):
        with pytest.raises(FornixError, match="position must be in"):
            ReferenceEvaluator(model).run(None, {"xs": xs, "ys": others, "z": z})


@pytest.mark.parametrize("name", ["score_mod", "prob_mod"])
def test_graphs_of_flexible_attention_stand_in_its_body(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v = normal(1, 4, 3, 6), normal(1, 2, 5, 6), normal(1, 2, 5, 4)
    graph = onnx.parser.parse_graph(
        "halve (float[b, h, s, t] x) => (float[b, h, s, t] Scores) <float half = {0.5}>"
        "{ Scores = Mul (x, half) }"
    )
    node = onnx.helper.make_node(
        "FlexAttention", ["q", "k", "v"], ["y"], domain="ai.onnx.preview", **{name: graph}
    )
    infos = [
        onnx.helper.make_tensor_value_info(n, 1, x.shape)
        for n, x in zip("qkv", (q, k, v), strict=True)
    ]
    main = onnx.helper.make_graph(
        [node], "g", infos, [onnx.helper.make_empty_tensor_value_info("y")]
    )
    imports = [onnx.helper.make_opsetid("", 24), onnx.helper.make_opsetid("ai.onnx.preview", 1)]
    model = onnx.helper.make_model(main, opset_imports=imports, ir_version=12)
    feeds = {"q": q, "k": k, "v": v}
    expected = ReferenceEvaluator(model).run(None, feeds)
    operator = ops.find("ai.onnx.preview", "FlexAttention")
    assert operator is not None
    monkeypatch.setitem(operator.rules, "kernel", {})
    assert_close(ReferenceEvaluator(model).run(None, feeds), expected)


@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        ("CastLike", ["x", "like"], "the element type of target_type, which is not known"),
        ("SequenceMap", ["x", "like"], "the type of input 1, which is not known"),
        ("SequenceMap", ["x"], "the element types of its graph's outputs, found none"),
    ],
)
def test_a_body_says_what_it_would_have_to_know(name: str, inputs: list[str], message: str) -> None:
    operator = ops.find("", name)
    assert operator is not None
    graph = Graph("each")
    graph.inputs = [Value("a")]
    graph.outputs = graph.inputs
    node = BodyNode(
        operator=operator,
        schema=operator.schema(LATEST),
        opset=LATEST,
        wanted=(True,),
        attributes={"body": graph},
        given=(True,) * len(inputs),
    )
    with pytest.raises(NotSupported, match=message):
        body_text(node)


def test_a_graph_that_reads_values_around_it_has_no_place_in_a_body() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 18]>
        g (seq(float[2]) xs, float[2] z) => (seq(float[2]) ys) {
            ys = SequenceMap <body = each (float[2] x) => (float[2] y) { y = Add (x, z) }> (xs)
        }"""
    )
    graph = next(iter(from_message(model).graph.nodes)).attributes["body"].value
    with pytest.raises(NotSupported, match="must read its inputs alone, found 'z' of a graph"):
        inlined(graph, ["a"], ["b"])


def test_the_header_of_a_body_is_the_schemas() -> None:
    operator = op(
        """Blend <axes: ints = [0, 1], mode: string = "soft", rate: float = 0.5, scale: float>
           (X: T, Y: T?) => (Z: T)""",
        since=1, domain="com.example", T=FLOAT,
    ).body("Z = Mul (X, Y)")  # fmt: skip
    rule = operator.rule("body", 1)
    assert rule is not None
    head, signature, *_ = function_text(operator.schemas[0], rule(), 18).splitlines()
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


def test_every_function_of_the_standard_has_a_body() -> None:
    functions = {
        (schema.domain, schema.name)
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.has_function or schema.has_context_dependent_function
    }
    assert len(functions) == 49
    without = [key for key in functions if "body" not in ops.operators()[key].rules]
    assert without == []


def test_functions_of_texts_that_nobody_asked_for_lately_are_given_up() -> None:
    text = '<domain: "d", opset_import: ["": 18]> f (x) => (y) {{ y = Concat <axis = {}> (x) }}'
    first = parsed(text.format(0))
    assert parsed(text.format(0)) is first
    for k in range(1, MAX_PARSED + 1):
        parsed(text.format(k))
    assert parsed(text.format(0)) is not first
