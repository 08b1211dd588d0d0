from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import fornix
from fornix.debug import Comparison, engines, search, sides
from fornix.errors import InvalidArgument, NoSuchFile, NotSupported
from fornix.format.text import parse_model

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(2, 3, 8, 8)).astype(np.float32)
FEEDS = {"x": X}


def model(body: str, opset: int = 18, ends: str = "(float[2,3,8,8] x) => (float[N] y)") -> Any:
    return parse_model(f'<ir_version: 9, opset_import: ["" : {opset}]> g {ends} {{ {body} }}')


def of(values: Any) -> str:
    array = np.asarray(values, np.float32)
    dims = ",".join(map(str, array.shape))
    return f"float[{dims}] {{{','.join(f'{v:.9g}' for v in array.reshape(-1))}}}"


def kind(found: Comparison) -> str:
    assert not found.agrees
    assert found.first is not None
    assert found.first.cause.is_proven
    return found.first.cause.kind


BATCH_NORM = """
    s = Constant <value = float[3] {1, 2, 3}> ()
    b = Constant <value = float[3] {0, 0.5, 1}> ()
    m = Constant <value = float[3] {0.1, 0.2, 0.3}> ()
    v = Constant <value = float[3] {1.5, 1, 2}> ()
    t = Relu (x)
    u = BatchNormalization <epsilon = 0.001> (t, s, b, m, v)
    y = Sigmoid (u)
"""


def test_engines_that_agree_agree() -> None:
    for engine in ("onnxruntime", "reference"):
        found = fornix.compare(model(BATCH_NORM), engine, FEEDS)
        assert found.agrees
        assert found.first is None
        assert found.outputs[0].gap.times <= 1


def test_an_epsilon_that_differs_is_found_at_its_node() -> None:
    body = """s = Constant <value = float[8] {1,1,1,1,1,1,1,1}> () t = Mul (x, x)
              u = LayerNormalization <axis = -1, epsilon = %s> (t, s) y = Relu (u)"""
    found = fornix.compare(model(body % "1e-5"), model(body % "1e-6"), FEEDS)
    assert kind(found) == "epsilon"
    assert found.first is not None
    assert (found.first.op_type, found.first.value) == ("LayerNormalization", "u")


def test_an_epsilon_of_recorded_values_is_recomputed() -> None:
    layer = torch.nn.BatchNorm2d(3, eps=1e-3)
    with torch.no_grad():
        recorded = torch.sigmoid(layer.eval()(torch.relu(torch.tensor(X)))).numpy()
    ones, zeros = of(np.ones(3)), of(np.zeros(3))
    body = f"""s = Constant <value = {ones}> () b = Constant <value = {zeros}> ()
               m = Constant <value = {zeros}> () v = Constant <value = {ones}> ()
               t = Relu (x) u = BatchNormalization (t, s, b, m, v) y = Sigmoid (u)"""
    found = fornix.compare(model(body), {"y": recorded}, FEEDS)
    assert kind(found) == "epsilon"
    assert found.first is not None
    assert found.first.cause.text == "as with epsilon = 0.001"


def test_an_epsilon_that_is_spelled_out_is_recomputed() -> None:
    body = """e = Constant <value = float {%s}> () c = ReduceMean <axes = [1], keepdims = 1> (x)
              d = Sub (x, c) q = Mul (d, d) v = ReduceMean <axes = [1], keepdims = 1> (q)
              w = Add (v, e) r = Sqrt (w) y = Div (d, r)"""
    [recorded] = fornix.ReferenceEvaluator(model(body % "0.001", 13)).run(None, FEEDS)
    found = fornix.compare(model(body % "0.00001", 13), {"y": recorded}, FEEDS)
    assert kind(found) == "epsilon"


def test_statistics_of_the_batch_are_training_mode() -> None:
    layer = torch.nn.BatchNorm2d(3, eps=1e-3).train()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
        layer.bias.copy_(torch.tensor([0.0, 0.5, 1.0]))
        recorded = torch.sigmoid(layer(torch.relu(torch.tensor(X)))).numpy()
    assert kind(fornix.compare(model(BATCH_NORM), {"y": recorded}, FEEDS)) == "mode"


def test_a_result_with_dropped_elements_is_training_mode() -> None:
    torch.manual_seed(0)
    recorded = torch.dropout(torch.relu(torch.tensor(X)), 0.3, train=True).numpy()
    found = fornix.compare(model("y = Relu (x)"), {"y": recorded}, FEEDS)
    assert kind(found) == "mode"
    assert found.first is not None
    assert "ratio 0.3" in found.first.cause.text


def test_dropout_that_drops_in_the_other_model_is_training_mode() -> None:
    body = """r = Constant <value = float {0.5}> () m = Constant <value = bool {%d}> ()
              t = Relu (x) u = Dropout (t, r, m) y = Neg (u)"""
    assert kind(fornix.compare(model(body % 0), model(body % 1), FEEDS)) == "mode"


@pytest.mark.parametrize("seed", ["", "<seed = 1.0>"])
def test_random_operators_are_told_as_such(seed: str) -> None:
    body = f"r = RandomNormalLike {seed} (x) t = Add (r, x) y = Relu (t)"
    found = fornix.compare(model(body), "onnxruntime", FEEDS)
    assert kind(found) == "random"
    assert [x.op_type for x in found.findings] == ["RandomNormalLike"]


def test_constants_that_differ_are_told_with_how_much() -> None:
    body = "c = Constant <value = float[8] {1,2,3,4,5,6,7,%s}> () u = Mul (x, c) y = Tanh (u)"
    found = fornix.compare(model(body % "8"), model(body % "8.5"), FEEDS)
    assert kind(found) == "constant"
    assert found.first is not None
    assert found.first.cause.text == (
        "constant 'c' differs in 1 of 8 elements, by up to 0.5: 8 here, 8.5 there"
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("is_stored_so", [True, False])
def test_constants_that_are_rounded_are_a_matter_of_dtype(dtype: str, is_stored_so: bool) -> None:
    w = RANDOM.normal(size=(8, 8)).astype(np.float32)
    narrow = fornix.dtype.DType.of(dtype)
    rounded = w.astype(narrow.numpy).astype(np.float32)
    body = "w = Constant <value = {}> () t = MatMul (x, w) y = Tanh (t)"
    full, other = (body.format(of(x)) for x in (w, rounded))
    if is_stored_so:
        other = other.replace("w = ", "v = ").replace("t = ", "w = Cast <to = 1> (h) t = ")
        other = other.replace("w = Cast", f"h = Cast <to = {narrow.code}> (v) w = Cast")
    found = fornix.compare(model(full), model(other), FEEDS)
    assert kind(found) == "dtype"
    assert found.first is not None
    assert dtype in found.first.cause.text
    assert found.first.op_type == "MatMul"


def test_softmax_before_13_flattens_and_that_is_version_semantics() -> None:
    body = "t = Mul (x, x) y = Softmax <axis = 1> (t)"
    assert kind(fornix.compare(model(body, 11), model(body, 13), FEEDS)) == "version"
    recorded = torch.softmax(torch.tensor(X * X), 1).numpy()
    assert kind(fornix.compare(model(body, 11), {"y": recorded}, FEEDS)) == "version"


def test_an_attribute_that_differs_is_told() -> None:
    body = "t = Mul (x, x) u = Gelu <approximate = %s> (t) y = Neg (u)"
    exact, tanh = model(body % '"none"', 20), model(body % '"tanh"', 20)
    assert kind(fornix.compare(exact, tanh, FEEDS)) == "attribute"


def test_attributes_that_frameworks_understand_differently_are_tried() -> None:
    gelu = torch.nn.functional.gelu(torch.tensor(X), approximate="tanh").numpy()
    found = fornix.compare(model("y = Gelu (x)", 20), {"y": gelu}, FEEDS)
    assert kind(found) == "attribute"
    assert found.first is not None
    assert found.first.cause.text == "as if Gelu had approximate = tanh"
    larger = torch.nn.functional.interpolate(
        torch.tensor(X), scale_factor=2, mode="bilinear", align_corners=True
    )
    body = """s = Constant <value = float[4] {1, 1, 2, 2}> ()
              y = Resize <mode = "linear"> (x, , s)"""
    found = fornix.compare(model(body), {"y": larger.numpy()}, FEEDS)
    assert kind(found) == "attribute"
    assert found.first is not None
    assert "align_corners" in found.first.cause.text


def test_outputs_with_axes_in_another_order_are_a_matter_of_layout() -> None:
    recorded = np.moveaxis(np.tanh(X), 1, -1)
    assert kind(fornix.compare(model("y = Tanh (x)"), {"y": recorded}, FEEDS)) == "layout"
    other = model("t = Tanh (x) y = Transpose <perm = [0, 2, 3, 1]> (t)")
    assert kind(fornix.compare(model("y = Tanh (x)"), other, FEEDS)) == "layout"


def test_recorded_values_inside_may_have_another_layout() -> None:
    first = np.moveaxis(np.exp(X), 1, -1)
    last = np.tanh(np.where(X > -20, -np.exp(X), 0) * np.float32(0.99))
    body = "t = Exp (x) u = Neg (t) y = Tanh (u)"
    found = fornix.compare(model(body), {"t": first, "y": last}, FEEDS)
    assert [x.value for x in found.findings] == ["y"]


def test_recorded_values_of_another_shape_are_not_read() -> None:
    recorded = {"t": np.exp(X)[:, :2], "y": np.tanh(np.exp(X))}
    found = fornix.compare(model("t = Exp (x) y = Tanh (t)"), recorded, FEEDS)
    assert [(x.value, x.cause.kind) for x in found.findings] == [("t", "shape")]


def test_a_flattening_of_channels_last_is_a_matter_of_layout() -> None:
    recorded = np.moveaxis(np.tanh(X), 1, -1).reshape(2, -1)
    body = "t = Tanh (x) y = Flatten (t)"
    assert kind(fornix.compare(model(body), {"y": recorded, "t": np.tanh(X)}, FEEDS)) == "layout"


def test_values_inside_may_have_another_layout() -> None:
    w = RANDOM.normal(size=(3, 3)).astype(np.float32)
    first = model(
        f"w = Constant <value = {of(w.reshape(3, 3, 1, 1))}> () t = Conv (x, w) y = Elu (t)"
    )
    second = model(
        f"""w = Constant <value = {of(w.T)}> () l = Transpose <perm = [0, 2, 3, 1]> (x)
            m = MatMul (l, w) e = Elu (m) y = Transpose <perm = [0, 3, 1, 2]> (e)"""
    )
    assert fornix.compare(first, second, FEEDS).agrees
    wrong = model(
        f"""w = Constant <value = {of(w.T)}> () l = Transpose <perm = [0, 2, 3, 1]> (x)
            m = MatMul (l, w) e = Elu <alpha = 0.9> (m) y = Transpose <perm = [0, 3, 1, 2]> (e)"""
    )
    found = fornix.compare(first, wrong, FEEDS)
    assert kind(found) == "attribute"


@pytest.mark.parametrize(("dtype", "code"), [("float16", 10), ("bfloat16", 16)])
def test_arithmetic_of_less_precision_is_named(dtype: str, code: int) -> None:
    w = RANDOM.normal(size=(8, 8)).astype(np.float32)
    full = model(f"w = Constant <value = {of(w)}> () t = MatMul (x, w) y = Relu (t)")
    half = model(
        f"""w = Constant <value = {of(w)}> () a = Cast <to = {code}> (x)
            b = Cast <to = {code}> (w) c = MatMul (a, b) t = Cast <to = 1> (c) y = Relu (t)"""
    )
    found = fornix.compare(full, half, FEEDS)
    assert kind(found) == "dtype"
    assert found.first is not None
    assert dtype in found.first.cause.text.split()
    assert found.first.op_type == "MatMul"
    recorded = {name: fornix.ReferenceEvaluator(half).run([name], FEEDS)[0] for name in "ty"}
    assert kind(fornix.compare(full, recorded, FEEDS)) == "dtype"


def test_other_operators_of_less_precision_may_be_a_matter_of_dtype() -> None:
    w, b = (RANDOM.normal(size=shape).astype(np.float32) for shape in ((8, 8), (8,)))
    stored = f"w = Constant <value = {of(w)}> () b = Constant <value = {of(b)}> ()"
    ends = "(float[2,8] x) => (float[N] y)"
    full = model(f"{stored} y = Gemm (x, w, b)", ends=ends)
    half = model(
        f"""{stored} h = Cast <to = 10> (x) v = Cast <to = 10> (w) m = MatMul (h, v)
            c = Cast <to = 1> (m) y = Add (c, b)""",
        ends=ends,
    )
    found = fornix.compare(full, half, {"x": RANDOM.normal(size=(2, 8)).astype(np.float32)})
    assert not found.agrees
    assert found.first is not None
    assert (found.first.cause.kind, found.first.cause.is_proven) == ("dtype", False)
    assert "perhaps dtype: the other model computes in float16" in str(found)


def test_inputs_that_are_cut_to_ten_bits_are_tf32() -> None:
    w = RANDOM.normal(size=(8, 8)).astype(np.float32)
    bits = (X.view(np.int32) + 0xFFF + ((X.view(np.int32) >> 13) & 1)) & ~0x1FFF
    short = (w.view(np.int32) + 0xFFF + ((w.view(np.int32) >> 13) & 1)) & ~0x1FFF
    recorded = bits.view(np.float32).astype(np.float64) @ short.view(np.float32)
    found = fornix.compare(
        model(f"w = Constant <value = {of(w)}> () y = MatMul (x, w)"),
        {"y": recorded.astype(np.float32)},
        FEEDS,
    )
    assert kind(found) == "dtype"
    assert found.first is not None
    assert "TF32" in found.first.cause.text


def test_a_range_that_float16_does_not_have_is_told() -> None:
    full = model("c = Constant <value = float {60000}> () t = Mul (x, c) y = Relu (t)")
    half = model(
        """c = Constant <value = float {60000}> () a = Cast <to = 10> (x) b = Cast <to = 10> (c)
           d = Mul (a, b) t = Cast <to = 1> (d) y = Relu (t)"""
    )
    found = fornix.compare(full, half, FEEDS)
    assert kind(found) == "dtype"
    assert found.first is not None
    assert "whose range it leaves" in found.first.cause.text


def test_nan_is_told_with_where_it_comes_from() -> None:
    recorded = {"t": np.abs(X), "y": np.log(np.where(X > 0, X, np.nan))}
    found = fornix.compare(model("t = Abs (x) y = Log (t)"), recorded, FEEDS)
    assert kind(found) == "nan"
    assert found.first is not None
    assert found.first.cause.text.startswith("the first NaN comes from here, made from 't' from ")


def test_another_operator_in_the_place_is_told() -> None:
    found = fornix.compare(
        model("t = Neg (x) y = Relu (t)"), model("t = Neg (x) y = Softplus (t)"), FEEDS
    )
    assert kind(found) == "operator"
    assert found.first is not None
    assert found.first.cause.text == "the model has Relu, the other model Softplus"


def test_what_nothing_explains_is_unknown() -> None:
    found = fornix.compare(model("y = Relu (x)"), {"y": np.sqrt(np.abs(X)) + 0.1}, FEEDS)
    assert found.first is not None
    assert (found.first.cause.kind, found.first.cause.is_proven) == ("unknown", False)


def test_errors_that_came_in_are_no_errors_of_the_node() -> None:
    body = "s = Constant <value = float {%s}> () a = Mul (x, s) b = Exp (a) c = Neg (b) y = Exp (c)"
    found = fornix.compare(model(body % "1"), model(body % "1.01"), FEEDS)
    assert [x.value for x in found.findings] == ["a"]


def test_cancellation_is_rounding() -> None:
    body = """b = Constant <value = float {100000}> () a = Add (x, b) c = Sub (a, b)
              y = Mul (c, b)"""
    assert fornix.compare(model(body), {"y": X * 100000}, FEEDS).agrees
    assert not fornix.compare(model("y = Identity (x)"), {"y": X * 1.0001}, FEEDS).agrees


def test_functions_may_cancel_inside() -> None:
    x = RANDOM.normal(size=(4, 4096)).astype(np.float32) * 4
    ends = "(float[4,4096] x) => (float[4,4096] y)"
    for name in ("Gelu", "Sigmoid", "Mish"):
        body = f"t = Neg (x) y = {name} (t)"
        found = fornix.compare(model(body, 22, ends), "onnxruntime", {"x": x}, atol=1e-12)
        assert found.is_rounding


def test_models_of_other_names_are_aligned() -> None:
    first = model("t = Exp (x) u = Softmax <axis = -1> (t) v = Neg (u) y = Tanh (v)")
    second = model(
        "t1 = Exp (in) i = Identity (t1) k = Softmax <axis = -2> (i) l = Neg (k) out = Tanh (l)",
        ends="(float[2,3,8,8] in) => (float[N] out)",
    )
    found = fornix.compare(first, second, FEEDS)
    assert kind(found) == "attribute"
    assert found.first is not None
    assert found.first.value == "u"


def test_a_node_that_differs_is_found_though_outputs_agree() -> None:
    body = "t = Add (x, c) u = Mul (t, k) y = Add (u, o) "
    constants = """c = Constant <value = float {%s}> () k = Constant <value = float {1e-6}> ()
                   o = Constant <value = float {1000}> ()"""
    first, second = (model(constants % c + body) for c in ("1", "1.001"))
    found = fornix.compare(first, second, FEEDS)
    assert found.outputs[0].is_within
    assert kind(found) == "constant"
    assert fornix.compare(first, second, FEEDS, rtol=1e-6).agrees


def test_extents_that_are_computed_otherwise_are_no_difference() -> None:
    body = "t = Exp (x) s = Shape (t) e = Concat <axis = 0> (%s) u = Reshape (t, e) y = Tanh (u)"
    index = "i = Constant <value = int64[1] {%d}> () r = Constant <value = int64[1] {%d}> ()"
    first = model(
        index % (0, -1) + "t0 = Exp (x) s0 = Shape (t0) n = Gather (s0, i)" + body % "n, r"
    )
    second = model(index % (2, -1) + body % "i, r")
    found = fornix.compare(first, second, FEEDS)
    assert found.agrees
    assert found.findings == ()


def test_a_model_that_is_quantized_is_told_as_such() -> None:
    scale = "s = Constant <value = float {0.1}> () z = Constant <value = int8 {0}> ()"
    body = "t = Relu (x) q = QuantizeLinear (t, s, z) d = DequantizeLinear (q, s, z) y = Neg (d)"
    found = fornix.compare(model("t = Relu (x) y = Neg (t)"), model(scale + body), FEEDS)
    assert kind(found) == "dtype"
    assert found.first is not None
    assert "is quantized there" in found.first.cause.text


def test_nodes_of_the_other_model_may_stand_in_any_order() -> None:
    other = model("t = Exp (x) y = Neg (t)")
    first, second = other.graph.node
    del other.graph.node[:]
    other.graph.node.extend([second, first])
    assert fornix.compare(model("t = Exp (x) y = Neg (t)"), other, FEEDS).agrees


def test_what_only_onnxruntime_knows_is_run_by_it(tmp_path: Path) -> None:
    ours = model("t = Relu (x) y = Identity (t)")
    theirs = onnx.ModelProto.FromString(ours.SerializeToString())
    theirs.graph.node[1].op_type, theirs.graph.node[1].domain = "SampleOp", "com.microsoft"
    theirs.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(theirs, tmp_path / "echo.onnx")
    found = fornix.compare(ours, tmp_path / "echo.onnx", FEEDS)
    assert found.agrees
    assert found.sides[1].startswith("echo.onnx by onnxruntime ")


def test_tolerances_replace_what_rounding_explains() -> None:
    recorded = {"y": np.tanh(X) + np.float32(1e-3)}
    assert fornix.compare(model("y = Tanh (x)"), recorded, FEEDS, atol=2e-3).agrees
    assert not fornix.compare(model("y = Tanh (x)"), recorded, FEEDS, atol=5e-4).agrees
    exact = {"y": np.tanh(X.astype(np.float64)).astype(np.float32)}
    found = fornix.compare(model("y = Tanh (x)"), exact, FEEDS, atol=1e-12)
    assert found.is_rounding
    assert not found.agrees


class Wrong(engines.Kernels):
    """An engine whose optimizer, or whose node, errs."""

    is_plain = False
    name = "wrong"
    fuses = False

    def run(self, model: Any, feeds: Any, *, optimized: bool) -> dict[str, Any]:
        found = super().run(model, feeds, optimized=optimized)
        names = [node.op_type for node in model.graph.nodes]
        is_fused = optimized and "Neg" in names and "Exp" in names
        if is_fused if self.fuses else "Neg" in names:
            found["y" if "y" in found else next(iter(found))] *= np.float32(1.01)
        return found


class Fusing(Wrong):
    fuses = True


def test_an_optimization_that_errs_is_told_and_cut_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sides.ENGINES, "wrong", Fusing)
    body = "a = Relu (x) b = Neg (a) c = Exp (b) d = Tanh (c) y = Sigmoid (d)"
    found = fornix.compare(model(body), "wrong", FEEDS)
    assert kind(found) == "optimization"
    assert found.smallest is not None
    assert [x.op_type for x in found.smallest.model.graph.nodes] == ["Neg", "Exp"]


def test_a_node_that_errs_is_cut_out_with_what_it_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sides.ENGINES, "wrong", Wrong)
    found = fornix.compare(model("a = Relu (x) y = Neg (a)"), "wrong", FEEDS)
    assert not found.agrees
    assert found.smallest is not None
    assert found.smallest.is_shown
    assert [x.op_type for x in found.smallest.model.graph.nodes] == ["Neg"]
    np.testing.assert_array_equal(found.smallest.feeds["a"], np.maximum(X, 0))


def test_stored_values_are_no_results_of_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "Compiled", Wrong)
    body = "c = Constant <value = float {2}> () a = Mul (x, c) y = Neg (a)"
    found = fornix.compare(model(body), "reference", FEEDS)
    assert found.smallest is not None
    assert [x.op_type for x in found.smallest.model.graph.nodes] == ["Neg"]


def test_the_smallest_model_runs_by_itself(tmp_path: Path) -> None:
    body = "t = Mul (x, x) u = Elu <alpha = %s> (t) y = Neg (u)"
    found = fornix.compare(
        model("t = Neg (x) u = Elu (t) y = Neg (u)"),
        model("t = Neg (x) u = Elu <alpha = 0.5> (t) y = Neg (u)"),
        FEEDS,
    )
    del body
    assert found.smallest is not None
    one, feeds, other = map(Path, found.smallest.save(tmp_path / "small.onnx"))
    assert (one.name, feeds.name, other.name) == ("small.onnx", "small.npz", "small.other.onnx")
    with np.load(feeds) as arrays:
        given = dict(arrays)
    for path in (one, other):
        session = onnxruntime.InferenceSession(str(path))
        assert session.run(None, given)[0].shape == X.shape
    assert kind(fornix.compare(str(one), str(other), given)) == "attribute"


def test_the_smallest_model_is_written_as_test_data(tmp_path: Path) -> None:
    found = fornix.compare(model("y = Elu (x)"), {"y": X}, FEEDS)
    assert found.smallest is not None
    written = [
        Path(path).relative_to(tmp_path).as_posix() for path in found.smallest.save(tmp_path)
    ]
    assert written == [
        "model.onnx", "test_data_set_0/input_0.pb", "test_data_set_0/output_0.pb"
    ]  # fmt: skip


def test_recorded_values_come_from_an_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "values.npz", y=np.tanh(X))
    assert fornix.compare(model("y = Tanh (x)"), tmp_path / "values.npz", FEEDS).agrees


def test_shapes_that_differ_are_told() -> None:
    found = fornix.compare(model("y = Tanh (x)"), {"y": np.tanh(X)[:1]}, FEEDS)
    assert kind(found) == "shape"


def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tanh = model("y = Tanh (x)")
    with pytest.raises(InvalidArgument, match=r"values of the model are required .*found z"):
        fornix.compare(tanh, {"z": X}, FEEDS)
    with pytest.raises(InvalidArgument, match="every input must be fed, found none for x"):
        fornix.compare(tanh, {"y": X}, {})
    with pytest.raises(InvalidArgument, match="feeds must name its inputs"):
        fornix.compare(tanh, {"y": X}, {**FEEDS, "z": X})
    with pytest.raises(NoSuchFile, match=r"onnxruntime, reference, a model or an \.npz"):
        fornix.compare(tanh, "onnxruntme", FEEDS)
    with pytest.raises(NoSuchFile, match="a file is required, found none"):
        fornix.compare(tanh, tmp_path / "none.npz", FEEDS)
    two = model("y = Add (a, b)", ends="(float[2,3,8,8] a, float[2,3,8,8] b) => (float[N] y)")
    with pytest.raises(InvalidArgument, match="models of the same inputs are required"):
        fornix.compare(tanh, two, FEEDS)
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(NotSupported, match="onnxruntime is required, which is not installed"):
        fornix.compare(tanh, "onnxruntime", FEEDS)


def test_the_report_is_for_people_and_the_document_for_programs() -> None:
    found = fornix.compare(model("y = Elu (x)"), model("y = Elu <alpha = 0.5> (x)"), FEEDS)
    lines = str(found).splitlines()
    assert lines[0] == "the model and the other model differ"
    assert lines[2] == "first: node 'Elu_0' (Elu), value 'y'"
    assert lines[-1] == "smallest: 1 node (Elu)"
    document = found.document()
    assert document["agrees"] is False
    assert document["findings"][0]["cause"] == {
        "kind": "attribute", "text": "Elu has alpha = 1 here, 0.5 there", "proven": True
    }  # fmt: skip
