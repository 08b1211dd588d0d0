from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser, shape_inference

from fornix.errors import InferenceError, ValidationError
from fornix.infer import infer_model, infer_strictly
from fornix.ir.dim import known
from fornix.ir.graph import Model
from fornix.ir.load import from_message
from fornix.ops.fact import Fact
from fornix.runtime import InferenceSession
from tests.conformance.cases import Case, cases
from tests.conformance.run import is_runnable

RUNNABLE = [case for case in cases().values() if is_runnable(case)]


def model_of(text: str) -> Model:
    return from_message(parser.parse_model(text))


def facts_of(text: str) -> dict[str, Fact]:
    found = infer_strictly(model_of(text))
    return {value.name: fact for value, fact in found.facts.items()}


def shapes(model: onnx.ModelProto) -> Iterator[tuple[str, Any]]:
    for value in (*model.graph.output, *model.graph.value_info):
        if value.type.HasField("tensor_type"):
            yield value.name, value.type.tensor_type


@pytest.mark.parametrize("case", RUNNABLE, ids=lambda case: case.name)
def test_inference_is_at_least_as_precise_as_onnx(case: Case) -> None:
    bare = onnx.ModelProto()
    bare.CopyFrom(case.model)
    del bare.graph.value_info[:]
    for output in bare.graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    found = infer_strictly(from_message(bare))
    facts = {value.name: fact for value, fact in found.facts.items()}
    try:
        peer = shape_inference.infer_shapes(bare, strict_mode=True, data_prop=True)
    except shape_inference.InferenceError:
        return
    for name, wanted in shapes(peer):
        fact = facts[name]
        assert fact.dtype is not None
        assert fact.dtype.code == wanted.elem_type
        if wanted.HasField("shape"):
            stated = [d.dim_value if d.HasField("dim_value") else None for d in wanted.shape.dim]
            extents = [known(extent) for extent in fact.shape]
            assert len(extents) == len(stated)
            assert all(s is None or s == e for s, e in zip(stated, extents, strict=True)), fact


@pytest.mark.parametrize("case", RUNNABLE, ids=lambda case: case.name)
def test_inference_never_contradicts_the_results(case: Case) -> None:
    found = infer_strictly(from_message(case.model))
    facts = {value.name: fact for value, fact in found.facts.items()}
    for _, expected in case.data_sets:
        for output, value in zip(case.model.graph.output, expected, strict=False):
            fact = facts[output.name]
            if isinstance(value, np.ndarray) and fact.has_rank:
                pairs = zip(fact.shape, value.shape, strict=True)
                assert all(known(extent) in {None, size} for extent, size in pairs)


def test_shapes_computed_from_symbolic_inputs_stay_exact() -> None:
    facts = facts_of("""<ir_version: 8, opset_import: ["" : 18]>
        f (float[N, S, 768] x) => (float[] y) {
            shape = Shape (x)
            first = Constant <value_ints: ints = [0, 1]> ()
            outer = Gather (shape, first)
            heads = Constant <value_ints: ints = [12, -1]> ()
            target = Concat <axis = 0> (outer, heads)
            split = Reshape (x, target)
            y = Transpose <perm = [0, 2, 1, 3]> (split)
        }""")
    assert [str(extent) for extent in facts["y"].shape] == ["N", "12", "S", "64"]


def test_a_sparse_initializer_is_read_as_the_tensor_it_stands_for() -> None:
    message = parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
        f (float[N, 3] x) => (float[] y) { y = Add (x, w) }""")
    values = onnx.numpy_helper.from_array(np.array([1.5, 2.5], np.float32), "w")
    indices = onnx.numpy_helper.from_array(np.array([1, 5]))
    sparse = onnx.helper.make_sparse_tensor(values, indices, [2, 3])
    message.graph.sparse_initializer.append(sparse)
    model = from_message(message)
    found = infer_strictly(model)
    assert found.fact(model.graph.outputs[0]).shape == (2, 3)


def test_contents_are_computed_where_no_rule_propagates_them() -> None:
    facts = facts_of("""<ir_version: 8, opset_import: ["" : 18]>
        f (float[N] x) => (float[] y)
        <int64[2] sizes = {3, 4}, uint8[1] bits = {10}, uint8[1] one = {1}> {
            product = ReduceProd <keepdims = 0> (sizes)
            halves = BitShift <direction = "RIGHT"> (bits, one)
            wide = Cast <to = 7> (halves)
            target = Concat <axis = 0> (wide, wide)
            y = Expand (x, target)
        }""")
    assert facts["product"].constant == 12
    assert [known(extent) for extent in facts["y"].shape] == [5, 5]


CONTRADICTION = """<ir_version: 8, opset_import: ["" : 18]>
    f (float[2, 3] a, float[4, 5] b) => (float[2, 5] c) {
        c = MatMul (a, b)
    }"""


def test_a_contradiction_names_its_node() -> None:
    with pytest.raises(InferenceError, match=r"^node for 'c' \(MatMul, opset 18\): "):
        infer_strictly(model_of(CONTRADICTION))


def test_without_strict_contradictions_are_collected() -> None:
    found = infer_model(model_of(CONTRADICTION))
    assert len(found.errors) == 1


def test_a_wrong_declaration_is_reported_and_not_believed() -> None:
    model = model_of("""<ir_version: 8, opset_import: ["" : 18]>
        f (float[2, 3] a) => (float[7, 7] b) { b = Relu (a) }""")
    found = infer_model(model)
    [error] = found.errors
    assert "'b' is declared float32[7, 7], but inferred float32[2, 3]" in str(error)
    assert found.fact(model.graph.outputs[0]).shape == (2, 3)


def test_a_wrong_declared_dtype_is_reported() -> None:
    model = model_of("""<ir_version: 8, opset_import: ["" : 18]>
        f (float[2] a) => (int64[2] b) { b = Relu (a) }""")
    assert "'b' is declared int64[2], but inferred float32[2]" in str(infer_model(model).errors[0])


def test_an_input_of_a_dtype_that_the_schema_refuses_is_reported() -> None:
    model = model_of("""<ir_version: 8, opset_import: ["" : 13]>
        f (int32[2] a) => (int32[2] b) { b = Relu (a) }""")
    assert "X is int32[2], but Relu-13 allows tensor(bfloat16)" in str(infer_model(model).errors[0])


def test_branches_that_differ_leave_extents_open() -> None:
    facts = facts_of("""<ir_version: 8, opset_import: ["" : 18]>
        f (bool c, float[2, 3] a, float[4, 3] b) => (float[] y) {
            y = If (c) <
                then_branch = g () => (float[] t) { t = Relu (a) },
                else_branch = h () => (float[] e) { e = Relu (b) }
            >
        }""")
    assert [known(extent) for extent in facts["y"].shape] == [None, 3]


def test_functions_are_inferred_at_each_call() -> None:
    facts = facts_of("""<ir_version: 8, opset_import: ["" : 18, "my" : 1]>
        f (float[2, 3] a, float[N] b) => (float[] x, float[] y) {
            x = my.Twice (a)
            y = my.Twice (b)
        }
        <domain: "my", opset_import: ["" : 18]>
        Twice (v) => (w) { w = Add (v, v) }""")
    assert facts["x"].shape == (2, 3)
    assert [str(extent) for extent in facts["y"].shape] == ["N"]


def test_what_a_function_makes_of_one_quotient_is_not_taken_for_that_of_another() -> None:
    facts = facts_of("""<ir_version: 8, opset_import: ["" : 18, "my" : 1]>
        f (float[N] a) => (float[?] x, float[?] y)
        <float[1] two = {2}, float[1] three = {3}>
        {
            s = Shape (a)
            f = Cast <to = 1> (s)
            h = Div (f, two)
            t = Div (f, three)
            p = my.Above (h)
            q = my.Above (t)
            x = Expand (two, p)
            y = Expand (two, q)
        }
        <domain: "my", opset_import: ["" : 18]>
        Above (v) => (w) {
            c = Ceil (v)
            w = Cast <to = 7> (c)
        }""")
    assert [str(*facts[name].shape) for name in "xy"] == ["(N + 1)//2", "(N + 2)//3"]


def test_a_function_that_calls_itself_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"function 'my.F' must not call itself"):
        facts_of("""<ir_version: 8, opset_import: ["" : 18, "my" : 1]>
            f (float[2] a) => (float[] x) { x = my.F (a) }
            <domain: "my", opset_import: ["" : 18, "my" : 1]>
            F (v) => (w) { w = my.F (v) }""")


def test_a_missing_opset_import_is_reported() -> None:
    with pytest.raises(ValidationError, match="an opset import for domain 'other' is required"):
        facts_of("""<ir_version: 8, opset_import: ["" : 18]>
            f (float[2] a) => (float[] x) { x = other.F (a) }""")


def test_an_unknown_extent_says_why() -> None:
    facts = facts_of("""<ir_version: 8, opset_import: ["" : 18]>
        f (float[?, 3] a, int64[2] s) => (float[] y) { y = Reshape (a, s) }""")
    [first, _] = facts["y"].shape
    assert not isinstance(first, int)
    [atom] = [atom for monomial in first.terms for atom in monomial]
    assert getattr(atom, "reason", "") == "Reshape: entry 0 of its shape is computed at run time"


def test_what_follows_from_the_inputs_is_believed_before_a_declared_extent() -> None:
    facts = facts_of("""<ir_version: 8, opset_import: ["" : 18]>
        f (float[N, 3] a) => (float[7, 3] b) { b = Relu (a) }""")
    assert [str(extent) for extent in facts["b"].shape] == ["N", "3"]


def test_inputs_that_a_call_leaves_out_are_left_out_inside() -> None:
    model = from_message(
        parser.parse_model("""<ir_version: 10, opset_import: ["": 18, "local": 1]>
        g (float[N] x, float s, int8 z) => (a, b, c) {
            a = local.Quantize (x, s, z)
            b = local.Quantize (x, s)
            c = local.Outer (x, s, "")
        }
        <domain: "local", opset_import: ["": 18]>
        Quantize (x, s, z) => (y) { y = QuantizeLinear (x, s, z) }
        <domain: "local", opset_import: ["": 18, "local": 1]>
        Outer (x, s, z) => (y) { y = local.Quantize (x, s, z) }""")
    )
    inferred = infer_strictly(model)
    types = [str(inferred.fact(value).type) for value in model.graph.outputs]
    assert types == ["int8[N]", "uint8[N]", "uint8[N]"]


@pytest.mark.parametrize(
    ("outputs", "scanned", "message"),
    [
        (2, 4, r"num_scan_inputs must be in \[1, 3\], got 4"),
        (1, 1, "loop state variables .* num_scan_inputs = 1 leaves 2 of the 3 inputs"),
    ],
)
def test_a_scan_says_which_of_its_counts_is_wrong(outputs: int, scanned: int, message: str) -> None:
    results = ["y", "z"][:outputs]
    model = parser.parse_model(f"""
        <ir_version: 10, opset_import: ["": 21]>
        g (float s, float t, float[4] x) => ({", ".join(results)}) {{
            {", ".join(results)} = Scan <num_scan_inputs = {scanned}, body = b (a, c, d) => (e) {{
                e = Add (a, d)
            }}> (s, t, x)
        }}
    """)
    with pytest.raises(InferenceError, match=message):
        infer_strictly(from_message(model))


def test_a_scan_of_opset_8_counts_its_inputs_too() -> None:
    model = parser.parse_model("""
        <ir_version: 8, opset_import: ["": 8]>
        g (float[1, 3] s, float[1, 2, 2] x) => (y) {
            y = Scan <num_scan_inputs = 9, body = b (a, c) => (e) { e = Add (a, c) }> ("", s, x)
        }
    """)
    with pytest.raises(InferenceError, match=r"num_scan_inputs must be in \[1, 2\], got 9"):
        infer_strictly(from_message(model))


TOLD_AS_LISTS = """f (int64[1] m, float[2] x) => (float[2] y, int64[] places) {
    stays = Constant <value = bool {1}> ()
    y, places = Loop (m, stays, x) <body = step (int64[1] i, bool k, float[2] h) =>
        (bool goes, float[2] next, int64[] place) {
        goes = Identity (k)
        next = Add (h, h)
        place = Identity (i)
    }>
}"""


@pytest.mark.parametrize("trips", [1, 3])
def test_a_body_may_be_told_the_number_of_the_iteration_as_a_list(trips: int) -> None:
    model = parser.parse_model('<ir_version: 8, opset_import: ["" : 18]>\n' + TOLD_AS_LISTS)
    assert not infer_model(from_message(model)).errors
    feeds = {"m": np.array([trips]), "x": np.ones(2, np.float32)}
    peer = onnxruntime.InferenceSession(model.SerializeToString())
    session = InferenceSession(model)
    for _ in range(3):
        for found, wanted in zip(session.run(None, feeds), peer.run(None, feeds), strict=True):
            assert found.shape == wanted.shape
            np.testing.assert_array_equal(found, wanted)


CARRIED_LIST = """f (string[N] x, {initial} q, int64 n, bool b) => (string[A] w, l) {{
    w, l = Loop (n, b, x, q) <body = g (int64 i, bool k, string[C] h, s) =>
        (bool goes, string[E] next, longer) {{
        goes = Identity (k)
        next = Concat <axis = 0> (h, x)
        longer = {longer}
    }}>
}}"""


@pytest.mark.parametrize(
    ("initial", "longer", "type_"),
    [
        ("seq(string[M])", "SequenceInsert (s, h)", "seq(string[?])"),
        ("seq(string[M])", "SequenceConstruct (h, h)", "seq(string[?])"),
        ("optional(string[M])", "Optional (next)", "optional(string[?])"),
        ("seq(string[M])", "Identity (s)", "seq(string[M])"),
    ],
)
def test_a_sequence_that_a_loop_carries_beside_a_tensor_stays_one(
    initial: str, longer: str, type_: str
) -> None:
    text = CARRIED_LIST.format(initial=initial, longer=longer)
    model = from_message(parser.parse_model('<ir_version: 8, opset_import: ["" : 20]>\n' + text))
    inference = infer_strictly(model)
    assert str(inference.fact(model.graph.outputs[1]).type) == type_
