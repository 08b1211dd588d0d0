from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, checker, helper, numpy_helper, parser

import fornix
from fornix.dtype import BFLOAT16, FLOAT16, FLOAT64
from fornix.edit.precision import Span, lower_precision, narrowed
from fornix.errors import InvalidArgument
from fornix.format.messages import ModelProto, own
from fornix.infer import infer_strictly
from fornix.ir.graph import Model
from fornix.ir.load import from_message, to_message

Arrays = dict[str, np.ndarray[Any, Any]]


def ir(source: str | Any) -> Model:
    message = parser.parse_model(source) if isinstance(source, str) else source
    return from_message(own(message, ModelProto))


def text(body: str, opset: int = 18) -> str:
    return f'<ir_version: 8, opset_import: ["" : {opset}]> {body}'


def sound(model: Model) -> Model:
    """``model``, once everything about its types has been checked."""
    infer_strictly(model)
    checker.check_model(to_message(model).SerializeToString(), full_check=True)
    return model


def run(model: Model, feeds: Arrays) -> list[np.ndarray[Any, Any]]:
    found: list[np.ndarray[Any, Any]] = fornix.InferenceSession(to_message(model)).run(None, feeds)
    return found


def operators(model: Model) -> list[str]:
    return [node.op_type for node in model.graph.nodes]


MLP = text("""m (float[N, 4] x) => (float[N, 4] y)
    <float[4, 4] w = {1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3, 0, 0, 0, 0, 1e9},
     float[4] b = {1e-30, 0, -1e6, -1e-9}>
    { h = MatMul (x, w)  y = Add (h, b) }""")  # fmt: skip


def test_everything_becomes_narrow() -> None:
    model = sound(lower_precision(ir(MLP)))
    assert [str(v.type) for v in (*model.graph.inputs, *model.graph.outputs)] == [
        "float16[N, 4]",
        "float16[N, 4]",
    ]
    assert operators(model) == ["MatMul", "Add"]
    stored = model.graph.initializers
    assert stored["w"].constant is not None
    assert stored["b"].constant is not None
    assert stored["w"].constant.numpy()[3, 3] == 65504
    np.testing.assert_array_equal(
        stored["b"].constant.numpy(), np.array([2**-24, 0, -65504, -(2**-24)], np.float16)
    )


def test_inputs_and_outputs_stay_where_they_are_to() -> None:
    model = sound(lower_precision(ir(MLP), keep_io=["x", "y"]))
    assert [str(v.type) for v in (*model.graph.inputs, *model.graph.outputs)] == [
        "float32[N, 4]",
        "float32[N, 4]",
    ]
    assert operators(model) == ["Cast", "MatMul", "Add", "Cast"]
    assert model.graph.outputs[0].name == "y"
    x = np.array([[1, 2, 3, 0]], np.float32)  # halves near 65,504 are 32 apart
    np.testing.assert_array_equal(run(model, {"x": x})[0], [[1, 4, -65504, -(2.0**-24)]])
    half = sound(lower_precision(ir(MLP), keep_io=["x"]))
    assert str(half.graph.outputs[0].type) == "float16[N, 4]"


def test_nodes_that_are_to_stay_do_so_between_casts() -> None:
    source = text("""m (float[3] x) => (float[3] y) <float[3] w = {1, 2, 3}>
        { a = Mul (x, w)  b = Exp (a)  c = Mul (b, w)  d = Sqrt (b)  y = Add (c, d) }""")
    model = ir(source)
    model.graph.nodes[1].name = "wide"
    by_name = sound(lower_precision(model, keep_nodes=["wide"]))
    assert operators(by_name) == ["Mul", "Cast", "Exp", "Cast", "Mul", "Sqrt", "Add"]
    by_type = sound(lower_precision(ir(source), keep_ops=["Mul"]))
    assert "w" in by_type.graph.initializers
    assert str(by_type.graph.initializers["w"].type) == "float32[3]"
    forced = sound(lower_precision(ir(source), keep_ops=["Mul"], force_weights=True))
    assert str(forced.graph.initializers["w"].type) == "float16[3]"
    x = np.array([1, 0.5, 0.25], np.float16)
    for changed in (by_name, by_type, forced):
        a = np.exp(x.astype(np.float32) * [1, 2, 3])
        np.testing.assert_allclose(run(changed, {"x": x})[0], a * [1, 2, 3] + np.sqrt(a), rtol=4e-3)


def test_what_a_schema_wants_in_float32_stays() -> None:
    # Resize: scales are tensor(float) in every version.
    model = sound(
        lower_precision(
            ir(
                text("""m (float[1, 1, 2, 2] x) => (float[1, 1, A, B] y)
        <float[4] s = {1, 1, 2, 2}, float[0] roi = {}>
        { y = Resize <mode = "nearest"> (x, roi, s) }""")
            )
        )
    )
    assert str(model.graph.initializers["s"].type) == "float32[4]"
    assert operators(model) == ["Resize"]
    x = np.arange(4, dtype=np.float16).reshape(1, 1, 2, 2)
    assert run(model, {"x": x})[0].shape == (1, 1, 4, 4)


def test_extents_are_counted_in_float32() -> None:
    # 3001 is no half: spacing 2 from 2,048 on.
    model = sound(
        lower_precision(
            ir(
                text("""m (float[N] x) => (float[M] y)
        <float one = {1.0}> {
            n = Shape (x)  f = Cast <to = 1> (n)  g = Mul (f, one)  i = Cast <to = 7> (g)
            y = Expand (x, i)
        }""")
            )
        )
    )
    (y,) = run(model, {"x": np.ones(3001, np.float16)})
    assert y.shape == (3001,)


def test_constants_and_made_values_change_with_who_reads_them() -> None:
    model = sound(
        lower_precision(
            ir(
                text("""m (float[2] x, int64[1] n) => (float[2] y)
        { a = Constant <value_float = 0.1> ()  b = ConstantOfShape (n)  c = Cast <to = 1> (n)
          d = ConstantOfShape <value = float[1] {3}> (n)
          e = Add (x, a)  f = Add (e, b)  g = Add (f, c)  y = Mul (g, d) }""")
            )
        )
    )
    assert operators(model).count("Cast") == 1
    x = np.array([1, 2], np.float16)
    found = run(model, {"x": x, "n": np.array([2])})[0]
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, (x + np.float16(0.1) + 2) * 3, rtol=2e-3)


LOOP = """m (int64 n, float[2] x) => (float[2] y, float[M, 2] all) {
    c = Constant <value = bool {1}> ()
    y, all = Loop (n, c, x) <
        body = b (int64 i, bool go, float[2] s) => (bool on, float[2] t, float[2] u) {
            on = Identity (go)  k = Constant <value_float = 2.0> ()  p = Mul (s, k)
            t = Add (p, x)  u = Max (t, x)
        }>
}"""  # fmt: skip


@pytest.mark.parametrize("keep", [(), ("Loop",)])
def test_bodies_change_with_the_node_that_holds_them(keep: tuple[str, ...]) -> None:
    model = sound(lower_precision(ir(text(LOOP)), keep_ops=(*keep, "Max")))
    x = np.array([1, 0.5], np.float16)
    y, everything = run(model, {"n": np.array(3), "x": x})
    np.testing.assert_array_equal(y, [15, 7.5])
    assert y.dtype == everything.dtype == np.float16
    body = next(node for node in model.graph.nodes if node.op_type == "Loop").graphs[0]
    assert str(body.inputs[2].type) == ("float32[2]" if keep else "float16[2]")


def test_branches_give_the_same_type() -> None:
    model = sound(lower_precision(ir(text("""m (bool c, float[2] x) => (float[2] y) {
        y = If (c) <then_branch = a () => (float[2] p) { p = Neg (x) },
                    else_branch = b () => (float[2] q) { q = Exp (x) }>
    }""")), keep_ops=["Exp"]))  # fmt: skip
    x = np.array([0, 1], np.float16)
    np.testing.assert_array_equal(run(model, {"c": np.array(True), "x": x})[0], -x)
    np.testing.assert_allclose(
        run(model, {"c": np.array(False), "x": x})[0], np.exp(x.astype(np.float32)), rtol=1e-3
    )


def test_what_no_cast_takes_stays() -> None:
    model = sound(
        lower_precision(
            ir(
                text("""m (float[2] x) => (float[2] y) {
        s = SequenceConstruct (x, x)  i = Constant <value_int = 0> ()  a = SequenceAt (s, i)
        y = Neg (a) }""")
            )
        )
    )
    assert operators(model) == [
        "Cast",
        "SequenceConstruct",
        "Constant",
        "SequenceAt",
        "Cast",
        "Neg",
    ]
    called = sound(
        lower_precision(
            ir("""<ir_version: 8, opset_import: ["" : 18, "own" : 1]>
        m (float[2] x) => (float[2] y) { a = own.f (x)  y = Neg (a) }
        <domain: "own", opset_import: ["" : 18]> f (x) => (y) {
            k = Constant <value_float = 2.0> ()  y = Mul (x, k) }""")
        )
    )
    x = np.array([1, 2], np.float16)
    np.testing.assert_array_equal(run(called, {"x": x})[0], [-2, -4])


def test_weights_are_rounded_when_they_are_wanted() -> None:
    asked = []
    model = ir(MLP)

    class Watched:
        name, shape = "w", (4, 4)
        nbytes = 64

        def __init__(self, tensor: Any) -> None:
            self.dtype, self.tensor = tensor.dtype, tensor

        def numpy(self) -> Any:
            asked.append(self)
            return self.tensor.numpy()

        def tobytes(self) -> bytes:
            return bytes(self.tensor.tobytes())

    value = model.graph.initializers["w"]
    value.tensor = Watched(value.tensor)
    changed = lower_precision(model)
    before = len(asked)
    to_message(changed)
    assert (before, len(asked)) == (0, 1)


def test_models_without_the_main_domain_get_it_for_casts() -> None:
    node = helper.make_node("Binarizer", ["x"], ["y"], domain="ai.onnx.ml", threshold=0.5)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in "xy")
    graph = helper.make_graph([node], "g", [x], [y])
    imports = [helper.make_opsetid("ai.onnx.ml", 1)]
    model = sound(
        lower_precision(ir(helper.make_model(graph, opset_imports=imports, ir_version=8)))
    )
    assert operators(model) == ["Cast", "Binarizer", "Cast"]


def test_rounding_keeps_numbers_apart_from_zero_and_infinity() -> None:
    array = np.array([1e-9, -1e-9, 0.0, -0.0, 1e9, -np.inf, np.nan, 1.0], np.float32)
    found = narrowed(array, FLOAT16, Span(1e-7, 1e4))
    np.testing.assert_array_equal(
        found, np.array([1e-7, -1e-7, 0, -0.0, 1e4, -np.inf, np.nan, 1], np.float16)
    )
    assert np.signbit(found[3])
    wide = narrowed(array, BFLOAT16, Span.of(BFLOAT16))
    plain = array.astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(wide.astype(np.float32), plain.astype(np.float32))


def test_other_types_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="a float type below 32 bits, found float64"):
        lower_precision(ir(MLP), FLOAT64)


def test_the_given_model_stays_as_it_is() -> None:
    model = ir(MLP)
    before = to_message(model).SerializeToString()
    lower_precision(model, BFLOAT16)
    assert to_message(model).SerializeToString() == before
    assert numpy_helper.to_array(parser.parse_model(MLP).graph.initializer[0]).dtype == np.float32
