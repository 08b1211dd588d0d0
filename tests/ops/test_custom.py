from __future__ import annotations

import re
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fornix
from fornix import ops
from fornix.dtype import FLOAT64
from fornix.errors import (
    DTypeError,
    Fail,
    FornixError,
    InferenceError,
    NotSupported,
    ParseError,
    SchemaError,
    ShapeError,
)
from fornix.format.text import parse_model
from fornix.infer import infer_model, infer_strictly
from fornix.ir.graph import Model
from fornix.ir.load import from_message
from fornix.ops import registered
from fornix.ops import scalar as s
from fornix.ops.fact import Fact, tensor
from fornix.ops.registered import is_registered, temporary
from fornix.ops.schema import UNBOUNDED
from fornix.ops.types import F32, FLOAT
from fornix.reference import ReferenceEvaluator

X = np.array([[-1, 0, 0.5], [1, 2, 3]], np.float32)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    with temporary():
        yield


def model(node: str, opset: int = 1, output: str = "") -> Model:
    return from_message(
        parse_model(
            f'<ir_version: 10, opset_import: ["": 22, "my.domain": {opset}]>'
            f" g (float[N, 3] x) => ({output} y) {{ y = my.domain.{node} }}"
        )
    )


def run(node: str, x: Any = X, opset: int = 1) -> Any:
    return ReferenceEvaluator(model(node, opset)).run(None, {"x": x})[0]


def error_of(node: str, x: Any = X) -> FornixError:
    with pytest.raises(FornixError) as caught:
        run(node, x)
    return caught.value


def test_one_function_is_an_operator() -> None:
    @fornix.op("my.domain::Clip <low: float = 0.0> (x: T[...]) => (y: T[...])", T="float, double")
    def clip(x: Any, *, low: float) -> Any:
        """Not less than ``low``, not more than 1."""
        return np.clip(x, low, 1).astype(x.dtype)

    np.testing.assert_array_equal(run("Clip (x)"), np.clip(X, 0, 1))
    np.testing.assert_array_equal(run("Clip <low = 0.75> (x)"), np.clip(X, 0.75, 1))
    (y,) = (given := model("Clip (x)")).graph.outputs
    assert str(infer_model(given).fact(y).type) == "float32[N, 3]"
    assert fornix.check(model("Clip (x)", output="float[M, 3]")) == []
    assert (clip.domain, clip.name, clip.version) == ("my.domain", "Clip", 1)
    assert repr(clip) == "<operator my.domain::Clip-1>"
    assert clip.__doc__ == "Not less than ``low``, not more than 1."


def test_it_can_be_called_like_the_function() -> None:
    @fornix.op("my.domain::Split (x: T[N, C]) => (a: T[N], b: T[C])", T=FLOAT)
    def split(x: Any) -> Any:
        return x[:, 0].copy(), x[0].copy()

    a, b = split(X)
    np.testing.assert_array_equal(a, X[:, 0])
    np.testing.assert_array_equal(b, X[0])
    with pytest.raises(DTypeError, match=r"^my.domain::Split-1: x is int64\[1, 1\], but Split-1"):
        split([[1]])
    with pytest.raises(SchemaError, match=r"^my.domain::Split-1: Split-1 takes 1 inputs, found 2"):
        split(X, X)
    split.unregister()
    with pytest.raises(SchemaError, match=r"^my.domain::Split-1: it has to be registered"):
        split(X)


def test_types_in_words_are_types() -> None:
    made = fornix.op("my.domain::A (x: T, n: int64[], z: U?, v: V) => (y: T)", T=F32,
                     V=["seq(tensor(float))", "float16"])  # fmt: skip
    schema = made(lambda x, n, z=None, v=None: x).schema
    assert schema.constraints["T"].members == {"tensor(float)"}
    assert schema.constraints["V"].members == {"seq(tensor(float))", "tensor(float16)"}
    assert {"tensor(string)", "tensor(int2)", "tensor(float6e3m2)"} < schema.constraints[
        "U"
    ].members
    assert schema.inputs[1].type_text == "tensor(int64)"


def test_optional_and_variadic_inputs_and_several_outputs() -> None:
    @fornix.op("my.domain::Sum (x: T, bias: T?, more: T*) => (y: T, count: int64[]?)", T="float")
    def total(x: Any, bias: Any = None, *more: Any) -> Any:
        given = [x, *([] if bias is None else [bias]), *more]
        return sum(given), np.int64(len(given))

    np.testing.assert_array_equal(run('Sum (x, "")'), X)
    np.testing.assert_array_equal(run("Sum (x, x)"), 2 * X)
    np.testing.assert_array_equal(run('Sum (x, "", x, x)'), 3 * X)
    assert [str(np.asarray(x)) for x in total(X[0], None, X[0])[1:]] == ["2"]


def test_a_signature_can_be_read_off_the_function() -> None:
    @fornix.op("my.domain::Rows")
    def rows(x: Any, start: Any = None, *, n: int = 2, names: list[str] | None = None,
             scale: float, mode: str = "a") -> Any:  # fmt: skip
        assert (start, names, mode) == (None, None, "a")
        return x[:n] * np.float32(scale)

    schema = rows.schema
    assert [(x.name, x.type_text, x.occurrence.value) for x in schema.inputs] == [
        ("x", "T1", "single"),
        ("start", "T2", "optional"),
    ]
    told = {x.name: (x.kind, x.is_required, x.default) for x in schema.attributes.values()}
    assert told == {
        "n": ("int", False, 2),
        "names": ("strings", False, None),
        "scale": ("float", True, None),
        "mode": ("string", False, "a"),
    }
    np.testing.assert_array_equal(run("Rows <scale: float = 2.0, n = 1> (x)"), X[:1] * 2)


def test_a_star_is_variadic() -> None:
    @fornix.op("my.domain::Sum")
    def total(*xs: Any) -> Any:
        return sum(xs)

    np.testing.assert_array_equal(run("Sum (x, x, x)"), X * 3)
    assert total.schema.max_input == UNBOUNDED


def test_parameters_that_say_too_little_are_refused() -> None:
    with pytest.raises(SchemaError, match=r"A: attribute n needs an annotation, one of .*none"):
        fornix.op("my.domain::A")(lambda x, *, n: x)
    with pytest.raises(SchemaError, match=r"A: attributes need names, found \*\*more"):
        fornix.op("my.domain::A")(lambda x, **more: x)
    with pytest.raises(SchemaError, match=r"A: a signature with inputs and outputs is required"):
        fornix.op("my.domain::A")(max)


def test_functions_in_c_will_do() -> None:
    fornix.op("my.domain::Exp (x: T[...]) => (y: T[...])", T="float")(np.exp)
    np.testing.assert_array_equal(run("Exp (x)"), np.exp(X))


def test_versions_stand_side_by_side() -> None:
    @fornix.op("my.domain::Scale (x: T[...]) => (y: T[...])", T="float")
    def scale_1(x: Any) -> Any:
        return x * np.float32(2)

    @fornix.op("my.domain::Scale <by: float> (x: T[...]) => (y: T[...])", since=3, T="float")
    def scale_3(x: Any, *, by: float) -> Any:
        return x * np.float32(by)

    np.testing.assert_array_equal(run("Scale (x)", opset=2), X * 2)
    np.testing.assert_array_equal(run("Scale <by = 5.0> (x)", opset=3), X * 5)
    found = ops.find("my.domain", "Scale")
    assert found is not None
    assert [schema.since_version for schema in found.schemas] == [1, 3]
    scale_1.unregister()
    with pytest.raises(SchemaError, match=r"Scale: needs my.domain opset 3 or newer, the model im"):
        run("Scale (x)", opset=2)
    scale_3.unregister()
    assert not is_registered("my.domain", "Scale")


def test_a_newer_version_does_not_inherit_rules() -> None:
    @fornix.op("my.domain::A (x: T[...]) => (y: T[...])", T="float")
    def first(x: Any) -> Any:
        return x

    first.lower(lambda x: x)

    @fornix.op("my.domain::A (x: T) => (y: T)", since=2, T="float")
    def second(x: Any) -> Any:
        return x

    found = ops.find("my.domain", "A")
    assert found is not None
    assert found.rule("lower", 1) is not None
    assert found.rule("lower", 2) is None
    assert second.version == 2


def test_registering_twice_is_an_error_unless_it_replaces() -> None:
    @fornix.op("my.domain::A (x: T) => (y: T)", T="float")
    def first(x: Any) -> Any:
        return x

    again = fornix.op("my.domain::A (x: T) => (y: T)", T="float")
    message = (
        "operator my.domain::A-1: a version that is not registered is required, found one; "
        "replace=True takes its place"
    )
    with pytest.raises(SchemaError, match=re.escape(message)):
        again(lambda x: x)
    before = ReferenceEvaluator(model("A (x)"))
    before.run(None, {"x": X})
    fornix.op("my.domain::A (x: T) => (y: T)", replace=True, T="float")(lambda x: x + x)
    np.testing.assert_array_equal(run("A (x)"), X + X)
    np.testing.assert_array_equal(before.run(None, {"x": X})[0], X)
    assert first.name == "A"


def test_the_standard_is_not_for_users() -> None:
    for text in ("Relu (x: T) => (y: T)", "ai.onnx::Foo (x: T) => (y: T)", "ai.onnx.ml::Scaler",
                 "::Foo (x: T) => (y: T)"):  # fmt: skip
        with pytest.raises(SchemaError, match=r"needs a domain of its own, as in .my.domain::"):
            fornix.op(text)(lambda x: x)


def test_what_is_registered_inside_is_gone_afterwards() -> None:
    fornix.op("my.domain::A (x: T) => (y: T)")(lambda x: x)
    with temporary():
        fornix.op("my.domain::A (x: T) => (y: T)", since=2)(lambda x: x)
        fornix.op("my.domain::B (x: T) => (y: T)")(lambda x: x)
        assert is_registered("my.domain", "B")
    found = ops.find("my.domain", "A")
    assert found is not None
    assert len(found.schemas) == 1
    assert not is_registered("my.domain", "B")


def test_rules_are_for_what_is_registered() -> None:
    made = fornix.op("my.domain::A (x: T) => (y: T)")(lambda x: x)
    made.unregister()
    for use in (made.infer, made.lower, made.grad):
        with pytest.raises(SchemaError, match=r"my.domain::A-1: a schema that was registered"):
            use(lambda x: x)
    with pytest.raises(SchemaError, match=r"my.domain::A-1: a schema that was registered"):
        made.unregister()


@pytest.mark.parametrize(
    ("text", "types", "error", "message"),
    [
        ("F (x: T) = (y: T)", {}, ParseError, "expected '=>' between inputs and outputs"),
        ("F (x: T) => (y: T)", {"U": "float"}, SchemaError,
         "my.domain::F-1: its signature has the type variables T, found 'U'"),
        ("F (x: T) => (y: T)", {"T": "flot"}, DTypeError,
         r"my.domain::F-1: T must be a set of types such as 'float, double' .*found 'flot'"),
        ("F (x: T) => (y: T)", {"T": "seq(flot)"}, DTypeError, "found 'seq\\(flot\\)'"),
        ("F (x: seq(T)) => (y: T)", {}, DTypeError,
         r"F-1: x must be of a type such as 'tensor\(float\)' or 'seq\(float\)', found"),
        ("F <k: flot> (x: T) => (y: T)", {}, SchemaError,
         "F-1: attribute k must be one of float, int, .*, found 'flot'"),
        ("F <k: graph> (x: T) => (y: T)", {}, SchemaError, "attribute k must be .*found 'graph'"),
        ("F <k: int = 1.5> (x: T) => (y: T)", {}, SchemaError,
         "F-1: the default of attribute k must be of kind int, found 1.5"),
        ("F <k: floats = 1.5> (x: T) => (y: T)", {}, SchemaError, "kind floats, found 1.5"),
        ("F <k: ints = [1, 0.5]> (x: T) => (y: T)", {}, SchemaError, "kind ints, found"),
        ("F <k: tensor = 1> (x: T) => (y: T)", {}, SchemaError, "kind tensor, found 1"),
    ],
)  # fmt: skip
def test_signatures_are_checked(
    text: str, types: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fornix.op(f"my.domain::{text}", **types)(lambda x: x)  # type: ignore[arg-type] # types only


def test_inputs_may_be_sequences_and_defaults_of_floats_integers() -> None:
    made = fornix.op("my.domain::F <k: float = 2, ks: floats = [1]> (x: seq(float)) => (y: float)")

    @made
    def first(x: Any, *, k: float, ks: list[float]) -> Any:
        return x[0] * np.float32(k + ks[0])

    model = parse_model(
        """<ir_version: 10, opset_import: ["": 22, "my.domain": 1]>
        g (float[2] x) => (float[2] y) { s = SequenceConstruct (x, x) y = my.domain.F (s) }"""
    )
    for engine in (fornix.InferenceSession, fornix.ReferenceEvaluator):
        (found,) = engine(model).run(None, {"x": np.ones(2, np.float32)})
        np.testing.assert_array_equal(np.asarray(found), np.full(2, 3, np.float32))


def test_a_version_is_a_positive_number() -> None:
    with pytest.raises(
        SchemaError, match=r"my.domain::F-0: since has to be an opset, which is 1 or"
    ):
        fornix.op("my.domain::F (x: T) => (y: T)", since=0)(lambda x: x)


@pytest.mark.parametrize(
    "function",
    [
        lambda: None,
        lambda x, *, low: None,
        lambda x, *, high, low=0: None,
        lambda x, n: None,
        lambda x, n=None: None,
    ],
)
def test_parameters_of_rules_are_held_to_the_signature(function: Any) -> None:
    use = fornix.op("my.domain::F <low: float = 0.0, high: float?> (x: T, n: T?) => (y: T)")
    with pytest.raises(SchemaError, match=r"F-1: its kernel rule must take the inputs \(x, n\) by"):
        use(function)
    made = use(lambda x, n=None, *, low, high=None: x)
    with pytest.raises(SchemaError, match=r"F-1: its lower rule must take the inputs \(x, n\) by"):
        made.lower(function)


def test_what_a_kernel_raises_is_the_cause_of_an_error_with_the_node() -> None:
    @fornix.op("my.domain::F (x: T) => (y: T)")
    def broken(x: Any) -> Any:
        raise KeyError("nothing")

    error = error_of("F (x)")
    assert isinstance(error, Fail)
    assert str(error) == (
        "node for 'y' (my.domain.F, opset 1): its kernel raised KeyError: 'nothing'"
    )
    assert isinstance(error.__cause__, KeyError)
    assert "in broken" in "".join(traceback.format_exception(error))
    with pytest.raises(Fail, match=r"my.domain::F-1: its kernel raised KeyError") as caught:
        broken(X)
    assert isinstance(caught.value.__cause__, KeyError)


def test_errors_of_fornix_in_a_kernel_stay_what_they_are() -> None:
    @fornix.op("my.domain::F (x: T) => (y: T)")
    def broken(x: Any) -> Any:
        raise ShapeError(f"x must have 4 columns, found {x.shape[1]}")

    error = error_of("F (x)")
    assert isinstance(error, ShapeError)
    assert str(error).endswith("(my.domain.F, opset 1): x must have 4 columns, found 3")


def test_inputs_cannot_be_written_to() -> None:
    @fornix.op("my.domain::F (x: T) => (y: T)")
    def writes(x: Any) -> Any:
        x[0] = 1
        return x

    error = error_of("F (x)")
    assert str(error).endswith("destination is read-only; inputs stay as they are, work on a copy")
    fornix.op("my.domain::F (x: T) => (y: T)", replace=True)(lambda x: x)
    assert run("F (x)").flags.writeable


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.astype(np.float64), (r"y must be float32\[2, 3\], its kernel gave "
         r"float64\[2, 3\]; try y.astype\(np.float32\)")),
        (lambda x: x[:1], r"y must be float32\[2, 3\], its kernel gave float32\[1, 3\]; either"),
        (lambda x: x[0], r"y must be float32\[2, 3\], its kernel gave float32\[3\]; either"),
        (lambda x: x.tolist(), r"y must be float32\[2, 3\], its kernel gave list; return a NumPy"),
        (lambda x: x.astype("M8[s]"), r"y must be float32\[2, 3\], its kernel gave datetime64"),
        (lambda x: (x, x), r"the node has 1 output \(y\), its kernel gave 2"),
        (lambda _: (), r"the node has 1 output \(y\), its kernel gave 0"),
        (lambda _: None, r"y must be float32\[2, 3\], its kernel gave NoneType; return a NumPy"),
    ],
)  # fmt: skip
def test_results_are_held_to_the_signature(function: Any, message: str) -> None:
    fornix.op("my.domain::F (x: T[N, C]) => (y: T[N, C])", T="float")(function)
    error = error_of("F (x)")
    assert re.search(r"^node for 'y' \(my.domain.F, opset 1\): .*" + message, str(error)), error


def test_results_of_other_variables_are_of_the_types_that_these_allow() -> None:
    fornix.op("my.domain::F (x: T) => (y: U)", U="int32, int64")(lambda x: x)
    assert re.search(
        r"y must be one of tensor\(int32\), tensor\(int64\), its kernel gave float32\[2, 3\]",
        str(error_of("F (x)")),
    )


def test_several_outputs_are_a_tuple() -> None:
    fornix.op("my.domain::F (x: T) => (y: T, z: T)", T="float")(lambda x: [x, x])
    with pytest.raises(Fail, match=r"has 2 outputs \(y, z\), its kernel gave 1; several outputs"):
        ReferenceEvaluator(
            from_message(
                parse_model(
                    '<ir_version: 10, opset_import: ["my.domain": 1]> g (float[1] x) => (y, z)'
                    "{ y, z = my.domain.F (x) }"
                )
            )
        ).run(None, {"x": X[0, :1]})


def test_scalars_of_numpy_and_strings_are_arrays() -> None:
    fornix.op("my.domain::F (x: T) => (y: T[])")(lambda x: x.max())
    assert run("F (x)").shape == ()
    fornix.op("my.domain::G (x: T[...]) => (y: string[...])")(lambda x: x.astype(str))
    assert run("G (x)").dtype == object


def test_shapes_are_checked_before_the_kernel_runs() -> None:
    fornix.op("my.domain::F (x: T[N, 4]) => (y: T[N])")(lambda x: x[:, 3])
    assert "an extent 4 is declared, found 3 in x[2, 3]" in str(error_of("F (x)"))


def test_an_infer_rule_takes_the_place_of_what_the_signature_says() -> None:
    @fornix.op("my.domain::Tail <n: int> (x: T) => (y: T)")
    def tail(x: Any, *, n: int) -> Any:
        return x[n:]

    given = model("Tail <n: int = 2> (x)")
    (y,) = given.graph.outputs
    assert str(infer_model(given).fact(y).type) == "float32[...]"

    @tail.infer
    def infer_tail(x: Fact, *, n: int) -> Fact:
        return tensor(None, (x.shape[0] - n, *x.shape[1:]))

    assert str(infer_model(given).fact(y).type) == "float32[N - 2, 3]"
    np.testing.assert_array_equal(run("Tail <n: int = 1> (x)"), X[1:])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda x: 1 / 0, "its infer rule raised ZeroDivisionError: division by zero"),
        (lambda x: x.shap, "its infer rule raised AttributeError"),
        (lambda x: x.shape[0], r"its infer rule must give facts, found Dim; try .*tensor\(x.dtype"),
        (lambda x: (x, x), r"the node has 1 output \(y\), its infer rule gave 2"),
        (lambda x: tensor(FLOAT64, x.shape), r"says that y is float64, the signature has T = fl"),
    ],
)
def test_infer_rules_are_checked(rule: Any, message: str) -> None:
    fornix.op("my.domain::F (x: T) => (y: T)")(lambda x: x).infer(rule)
    with pytest.raises(
        InferenceError, match=r"^node for 'y' \(my.domain.F, opset 1\): .*" + message
    ):
        infer_strictly(model("F (x)"))


def test_unknown_operators_are_told_how_to_become_known() -> None:
    fornix.op("my.domain::Gamma (x: T) => (y: T)")(lambda x: x)
    assert str(error_of("Gama (x)")) == (
        "node for 'y' (my.domain.Gama, opset 1): an operator of domain 'my.domain' is required, "
        "found 'Gama'; did you mean 'Gamma'? Else register it: "
        "@fornix.op('my.domain::Gama (X: T) => (Y: T)')"
    )
    assert str(error_of("Zeta (x)")).endswith(
        "found 'Zeta'; register it: @fornix.op('my.domain::Zeta (X: T) => (Y: T)')"
    )


def test_a_schema_without_kernel_says_what_to_do() -> None:
    made = fornix.op("my.domain::F (x: T) => (y: T)")(lambda x: x)
    made.unregister()
    registered.register(made.schema, {})
    with pytest.raises(NotSupported, match=r"F-1 is registered without kernel; give it one: @forn"):
        run("F (x)")


def test_elementwise_operators_need_one_function_only() -> None:
    @fornix.op("my.domain::Swish <alpha: float = 1.0> (x: T, w: T?) => (y: T)",
               T="float, double, float16", elementwise=True)  # fmt: skip
    def swish(x: Any, w: Any = None, *, alpha: float) -> Any:
        """x · σ(alpha · x), times w."""
        y = x / (1.0 + s.exp(-(x * alpha)))
        return y if w is None else y * w

    np.testing.assert_allclose(run("Swish <alpha = 2.0> (x)"), X / (1 + np.exp(-2 * X)), rtol=1e-6)
    np.testing.assert_allclose(swish(X, X[0]), X / (1 + np.exp(-X)) * X[0], rtol=1e-6)
    assert swish(X.astype(np.float16)).dtype == np.float16
    (y,) = (given := model("Swish (x, x)")).graph.outputs
    assert str(infer_model(given).fact(y).type) == "float32[N, 3]"


def test_what_is_not_deterministic_is_not_computed_ahead() -> None:
    calls: list[int] = []

    def count(x: Any) -> Any:
        calls.append(1)
        return x + np.float32(len(calls))

    text = """<ir_version: 10, opset_import: ["": 22, "my.domain": 1]> g () => (float[2] y)
        <float[2] w = {1, 2}> { y = my.domain.F (w) }"""
    fornix.op("my.domain::F (x: T[...]) => (y: T[...])", deterministic=False)(count)
    assert [n.op_type for n in fornix.optimize(from_message(parse_model(text))).graph.nodes] == [
        "F"
    ]
    assert calls == []
    fornix.op("my.domain::F (x: T[...]) => (y: T[...])", replace=True)(count)
    optimized = fornix.optimize(from_message(parse_model(text)))
    assert [n.op_type for n in optimized.graph.nodes] == ["Constant"]


def test_threads_may_register_while_others_look() -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(30):
                made = fornix.op(f"my.domain::F{number} (x: T) => (y: T)")(lambda x: x)
                assert ops.find("my.domain", f"F{number}") is not None
                assert all(ops.operators().values())
                made.unregister()
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert not any(domain == "my.domain" for domain, _ in ops.operators())


def test_kernels_may_ask_for_their_node() -> None:
    @fornix.op("my.domain::F (x: T) => (y: T, z: T?)", T="float")
    def asks(x: Any, *, node: Any) -> Any:
        assert (node.version, node.opset, node.wants(1)) == (1, 4, False)
        return x + np.float32(node.opset)

    np.testing.assert_array_equal(run("F (x)", opset=4), X + 4)
    assert asks.name == "F"


def test_lists_of_attributes_are_the_kernels_own() -> None:
    @fornix.op("my.domain::F <axes: ints> (x: T) => (y: T)")
    def sorts(x: Any, *, axes: list[int]) -> Any:
        axes.append(len(axes))
        return x + np.float32(sum(axes))

    evaluator = ReferenceEvaluator(model("F <axes = [5, 1]> (x)"))
    for _ in range(2):
        np.testing.assert_array_equal(evaluator.run(None, {"x": X})[0], X + 8)
    assert sorts.name == "F"
