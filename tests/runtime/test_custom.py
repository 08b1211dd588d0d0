"""Operators of users in sessions: compiled with their neighbours where they can be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fornix
from fornix import FornixWarning, InferenceSession, ReferenceEvaluator, SessionOptions
from fornix.compile.identity import processor
from fornix.errors import DTypeError, Fail, SchemaError
from fornix.format.text import parse_model, print_model
from fornix.ir.graph import Model
from fornix.ir.load import from_message
from fornix.ir.loops import Tensor, compute
from fornix.ops import scalar as s
from fornix.ops.call import NotLowered
from fornix.ops.grads.term import Term
from fornix.ops.registered import temporary
from fornix.runtime.stored import keeping, kept
from fornix.system import is_mappable

X = np.linspace(-2, 2, 15, dtype=np.float32).reshape(5, 3)
MODEL = """<ir_version: 10, opset_import: ["": 22, "my.domain": 1]>
    g (float[N, 3] x) => (float[N, 3] y) {
        a = Relu (x)
        b = my.domain.Twice (a)
        y = Sqrt (b)
    }"""


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    with temporary():
        yield


def twice(factor: float = 2) -> Any:
    @fornix.op("my.domain::Twice (x: T[...]) => (y: T[...])", T="float, double", replace=True)
    def kernel(x: Any) -> Any:
        return x * x.dtype.type(factor)

    return kernel


def lowered(factor: float = 2) -> Any:
    operator = twice(factor)

    @operator.lower
    def lower(x: Tensor) -> Tensor:
        return compute(x.shape, lambda *place: x[place] * factor)

    return operator


def result(model: Any = None) -> Any:
    return InferenceSession(model or parse_model(MODEL)).run(None, {"x": X})[0]


def as_ir(text: str) -> Model:
    return from_message(parse_model(text))


def kernels(session: InferenceSession) -> list[tuple[str, ...]]:
    return [place.kernels for place in session.placement()]


def expected(factor: float = 2) -> Any:
    return np.sqrt(np.maximum(X, 0) * np.float32(factor))


def test_a_kernel_runs_between_compiled_neighbours() -> None:
    twice()
    session = InferenceSession(parse_model(MODEL))
    assert kernels(session) == [("Relu",), (), ("Sqrt",)]
    np.testing.assert_array_equal(result(), expected())
    np.testing.assert_array_equal(session.run(["b"], {"x": X})[0], np.maximum(X, 0) * 2)


def test_with_a_lowering_it_is_one_kernel_with_its_neighbours() -> None:
    lowered()
    session = InferenceSession(parse_model(MODEL))
    assert kernels(session) == [("Relu+Twice+Sqrt",)] * 3
    np.testing.assert_array_equal(session.run(None, {"x": X})[0], expected())


def test_elementwise_operators_are_compiled() -> None:
    @fornix.op("my.domain::Twice (x: T) => (y: T)", T="float", elementwise=True)
    def swish(x: Any) -> Any:
        return x / (1.0 + s.exp(-x))

    session = InferenceSession(parse_model(MODEL))
    assert kernels(session) == [("Relu+Twice+Sqrt",)] * 3
    reference = ReferenceEvaluator(parse_model(MODEL)).run(None, {"x": X})[0]
    np.testing.assert_allclose(session.run(None, {"x": X})[0], reference, rtol=1e-6)
    assert swish.version == 1


@pytest.mark.parametrize("extent", [0, 1, 7])
def test_extents_that_are_special_are_served(extent: int) -> None:
    lowered()
    session = InferenceSession(parse_model(MODEL))
    x = np.ones((extent, 3), np.float32)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], np.sqrt(x * 2))


def test_a_changed_lowering_takes_the_place_of_the_old_one() -> None:
    lowered(2)
    np.testing.assert_array_equal(result(), expected(2))
    lowered(3)
    np.testing.assert_array_equal(result(), expected(3))


FUNCTION = """
    <domain: "my.domain", opset_import: ["": 22]>
    Twice (x) => (y) { y = Add (x, x) }"""


def test_a_function_of_that_name_goes_first() -> None:
    twice(7)
    np.testing.assert_array_equal(result(parse_model(MODEL + FUNCTION)), expected(2))
    reference = ReferenceEvaluator(parse_model(MODEL + FUNCTION))
    np.testing.assert_array_equal(reference.run(None, {"x": X})[0], expected(2))


def test_what_users_registered_keeps_programs_from_being_kept() -> None:
    assert not keeping._has_registered(as_ir(MODEL))
    lowered()
    assert keeping._has_registered(as_ir(MODEL))
    assert not keeping._has_registered(as_ir(MODEL + FUNCTION))


@pytest.mark.slow
@pytest.mark.skipif(not (is_mappable() and processor()), reason="programs are kept on Linux")
def test_another_process_finds_no_code_of_another_operator(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(parse_model(MODEL).SerializeToString())
    script = f"""if True:
        import sys, numpy as np
        from tests.runtime.test_custom import X, expected, lowered, result
        lowered(float(sys.argv[1]))
        np.testing.assert_allclose(result({str(path)!r}), expected(float(sys.argv[1])), rtol=1e-6)
    """
    environment = {**os.environ, "FORNIX_CACHE": str(tmp_path / "cache")}
    environment["PYTHONPATH"] += os.pathsep + str(Path(__file__).parents[2])
    for factor in "235":
        subprocess.run([sys.executable, "-c", script, factor], check=True, env=environment)
    assert list((tmp_path / "cache").glob("*.plan")) == []


def test_results_folded_ahead_do_not_outlive_the_operator(tmp_path: Path) -> None:
    text = MODEL.replace("Relu (x)", "Relu (w)").replace(
        "(float[N, 3] y) {", "(float[2] y, float[N, 3] z) <float[2] w = {4, 9}> { z = Neg (x)"
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(parse_model(text).SerializeToString())
    for factor in (1, 4):
        twice(factor)
        kept._OPEN.clear()
        np.testing.assert_array_equal(result(str(path)), np.sqrt([4, 9]) * np.sqrt(factor))


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (lambda x: x.shap, "its lower rule raised AttributeError: "),
        (lambda x: x.shape, "its lower rule raised TypeError: y must be a loop tensor, found Dim"),
        (lambda x: undefined, "its lower rule raised NameError: "),  # type: ignore[name-defined] # noqa: F821
        (
            lambda x: compute(x.shape[:1], lambda n: x[n, 0]),
            r"its lower rule raised TypeError: y must be float32\[N, 3\], found float32\[N\]",
        ),
        (
            lambda x: compute(x.shape, lambda *i: s.less(x[i], 0.0)),
            r"its lower rule raised TypeError: y must be float32\[N, 3\], found bool\[N, 3\]",
        ),
    ],
)
def test_where_a_lowering_fails_the_kernel_serves_and_says_so(rule: Any, reason: str) -> None:
    twice().lower(rule)
    with pytest.warns(FornixWarning, match=f"my.domain::Twice-1: {reason}.*; its kernel serves"):
        session = InferenceSession(parse_model(MODEL))
    np.testing.assert_array_equal(session.run(None, {"x": X})[0], expected())
    assert session.placement()[1].reason.startswith("its lower rule raised ")


def test_a_lowering_may_decline() -> None:
    def lower(x: Tensor) -> Tensor:
        raise NotLowered(f"it is for matrices, found {x.rank} axes")

    twice().lower(lower)
    session = InferenceSession(parse_model(MODEL))
    assert session.placement()[1].reason == "it is for matrices, found 2 axes"


def test_without_known_extents_neighbours_run_all_the_same() -> None:
    fornix.op("my.domain::Twice (x: T) => (y: T)", T="float")(lambda x: x + x)
    np.testing.assert_array_equal(result(), expected())
    text = MODEL.replace("Sqrt (b)", "Sqrt (c) \n c = Neg (b)").replace("y = Sqrt (c) \n", "")
    text = text.replace("c = Neg (b)", "c = Neg (b) y = Abs (c)")
    np.testing.assert_array_equal(result(parse_model(text)), np.maximum(X, 0) * 2)


def test_wrong_results_are_told_before_others_read_them() -> None:
    fornix.op("my.domain::Twice (x: T[...]) => (y: T[...])", T="float")(lambda x: x[:, :2])
    with pytest.raises(
        Exception, match=r"\(my.domain.Twice, opset 1\): its output y must be float"
    ):
        result()
    fornix.op("my.domain::Twice (x: T) => (y: T)", replace=True)(lambda x: x.astype(np.float64))
    with pytest.raises(
        DTypeError, match=r"its output y must be float32.*, its kernel gave float64"
    ):
        result()


def test_an_exception_of_the_kernel_is_the_cause() -> None:
    def kernel(x: Any) -> Any:
        raise RuntimeError(f"no luck with {x.shape}")

    fornix.op("my.domain::Twice (x: T[...]) => (y: T[...])")(kernel)
    session = InferenceSession(parse_model(MODEL))
    with pytest.raises(
        Fail, match=r"Twice, opset 1\): its kernel raised RuntimeError: no"
    ) as found:
        session.run(None, {"x": X})
    assert isinstance(found.value.__cause__, RuntimeError)


def test_without_the_operator_there_is_no_session() -> None:
    lowered().unregister()
    with pytest.raises(
        SchemaError, match=r"found 'Twice'; register it: @fornix.op\('my.domain::Tw"
    ):
        InferenceSession(parse_model(MODEL))


def test_all_of_fornix_knows_it() -> None:
    twice()
    message = parse_model(MODEL)
    model = fornix.convert_version(as_ir(MODEL), 23)
    assert [node.domain for node in model.graph.nodes] == ["", "my.domain", ""]
    assert fornix.check(as_ir(MODEL)) == []
    assert "b = my.domain.Twice (a)" in print_model(message)
    from fornix import onnx

    onnx.checker.check_model(message, full_check=True, check_custom_domain=True)
    schema = onnx.defs.get_schema("Twice", domain="my.domain")
    assert [x.name for x in schema.inputs] == ["x"]
    inferred = onnx.shape_inference.infer_shapes(message)
    assert onnx.helper.printable_type(inferred.graph.value_info[1].type) == "FLOAT, Nx3"
    found = onnx.reference.ReferenceEvaluator(message).run(None, {"x": X})[0]
    np.testing.assert_array_equal(found, expected())


def test_names_of_the_standard_in_other_domains_mean_nothing_special() -> None:
    """What passes and kernels know of ai.onnx::Add holds for nobody else's."""
    names = [
        "Abs", "Constant", "Identity", "Relu", "Cast", "Transpose", "Reshape", "Squeeze", "Split",
        "BatchNormalization", "Conv", "Dropout", "Shape", "Softmax", "Sigmoid", "Erf", "Flatten",
    ]  # fmt: skip
    for name in names:
        fornix.op(f"my.domain::{name} (x: T[...]) => (y: T[...])", T="float")(lambda x: x + 1)
        text = f"""<ir_version: 10, opset_import: ["": 22, "my.domain": 1]>
            g (float[N, 3] x) => (float[N, 3] y) <float[3] w = {{1, 2, 3}}> {{
                a = Transpose <perm = [1, 0]> (x)  b = my.domain.{name} (a)
                c = Transpose <perm = [1, 0]> (b)  d = my.domain.{name} (c)
                e = my.domain.{name} (d)  v = my.domain.{name} (w)  y = Mul (e, v)
            }}"""
        (y,) = InferenceSession(parse_model(text)).run(None, {"x": np.ones((2, 3), np.float32)})
        np.testing.assert_array_equal(y, [[8, 12, 16]] * 2, err_msg=name)


def test_gradients_pass_it_by_its_rule() -> None:
    operator = twice()
    text = """<ir_version: 10,
        opset_import: ["": 22, "my.domain": 1, "ai.onnx.preview.training": 1]> g
        (float[3] x) => (float[3] dx) {
            a = my.domain.Twice (x)
            y = Sin (a)
            dx = ai.onnx.preview.training.Gradient <xs = ["x"], y = "y"> (x)
        }"""
    with pytest.raises(
        Exception, match=r"it lies on the way of a Gradient, and Twice has no deriv"
    ):
        InferenceSession(parse_model(text))

    @operator.grad
    def grad_twice(x: Term, *, node: Any) -> Term:
        return node.g * 2.0

    (dx,) = InferenceSession(parse_model(text)).run(None, {"x": X[0]})
    np.testing.assert_allclose(dx, 2 * np.cos(2 * X[0]), rtol=1e-6)
    fornix.op("my.domain::Twice (x: T[...]) => (y: T[...])", replace=True)(lambda x: x).grad(
        lambda x: x.nothing
    )
    with pytest.raises(Fail, match="its grad rule raised AttributeError"):
        InferenceSession(parse_model(text))


def test_the_kernel_alone_runs_without_optimization() -> None:
    twice()
    options = SessionOptions(graph_optimization_level="none")
    session = InferenceSession(parse_model(MODEL), options, ["ReferenceExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"x": X})[0], expected())


@pytest.mark.parametrize("name", ["Attention", "Einsum", "MaxUnpool", "RotaryEmbedding"])
def test_names_of_the_standards_operators_are_free_in_other_domains(name: str) -> None:
    """Nothing is asked of their extents and attributes that the standard asks."""

    @fornix.op(f"my.domain::{name} (x: T[N], y: T[M]) => (z: T[K])", T="float")
    def kernel(x: Any, y: Any) -> Any:
        return np.concatenate([x, y])

    model = MODEL.replace(
        "g (float[N, 3] x) => (float[N, 3] y)", "g (float[N] x, float[M] w) => (float[K] y)"
    )
    model = model.replace("Twice (a)", f"{name} (a, w)")
    session = InferenceSession(from_message(parse_model(model)))
    (y,) = session.run(None, {"x": np.full(2, 4, np.float32), "w": np.full(3, 9, np.float32)})
    np.testing.assert_array_equal(y, np.array([2, 2, 3, 3, 3], np.float32))
