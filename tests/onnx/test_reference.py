from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator as Peer
from onnx.reference import op_run as peer_run

from fornix.onnx import defs, helper, model_container
from fornix.onnx.reference import ReferenceEvaluator, op_run
from fornix.onnx.reference.op_run import OpRun, OpRunExpand
from fornix.onnx.reference.ops import load_op
from fornix.onnx.reference.shape_annotation_checker import ShapeAnnotationError
from tests.onnx.surface import names_of, parameters_of

X = np.array([[1, -2], [3, 4]], np.float32)
HEADER = '<ir_version: 10, opset_import: ["": 20, "mine": 1]>'


def model(text: str) -> Any:
    return parser.parse_model(HEADER + text)


def scaled(base: type) -> type:
    class Scale(base):
        op_domain = "mine"

        def _run(self, x: Any, by: Any = None, factor: Any = None) -> tuple[Any, ...]:
            assert self.factor == factor
            return (x * np.float32(factor if by is None else by),)

    return Scale


def both(text: str, feeds: dict[str, Any], *makers: Any) -> list[list[Any]]:
    """Results of fornix and of the peer, with classes that derive from each one's OpRun."""
    results = []
    for evaluator, base in ((ReferenceEvaluator, OpRun), (Peer, peer_run.OpRun)):
        classes = [make(base) for make in makers]
        results.append(evaluator(model(text), new_ops=classes).run(None, feeds))
    return results


@pytest.mark.parametrize("name", sorted({*names_of(peer_run)} - {"OpFunctionContextDependant"}))
def test_names_are_the_peers(name: str) -> None:
    assert hasattr(op_run, name)


def test_signatures_are_the_peers() -> None:
    assert parameters_of(ReferenceEvaluator) == parameters_of(Peer)
    assert parameters_of(ReferenceEvaluator.run) == parameters_of(Peer.run)
    for name in ("run", "make_node", "create", "eval", "implicit_inputs"):
        ours = [entry[0] for entry in parameters_of(getattr(OpRun, name))]
        assert ours == [entry[0] for entry in parameters_of(getattr(peer_run.OpRun, name))]


def test_nodes_are_evaluated_by_classes_of_ones_own() -> None:
    text = "g (float[2, 2] x) => (float[2, 2] y) { a = mine.Scale <factor = 3.0> (x) y = Neg(a) }"
    ours, theirs = both(text, {"x": X}, scaled)
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(ours[0], X * -3)


def test_they_go_before_kernels() -> None:
    def abs_(base: type) -> type:
        class Abs(base):
            def _run(self, x: Any) -> tuple[Any, ...]:
                return (x + 100,)

        return Abs

    ours, theirs = both("g (float[2, 2] x) => (float[2, 2] y) { y = Abs(x) }", {"x": X}, abs_)
    np.testing.assert_array_equal(ours[0], theirs[0])


def test_attributes_of_functions_and_inputs_that_are_left_out_arrive() -> None:
    text = """g (float[2, 2] x, float[2] b) => (float[2, 2] y, float[2, 2] z) {
        y = mine.F <k = 5.0> (x) z = mine.Scale <factor = 1.0> (x, b) }
        <domain: "mine", opset_import: ["": 20, "mine": 1]> F <k> (a) => (c) {
            c = mine.Scale <factor: float = @k> (a) }"""
    b = np.array([2, 2], np.float32)
    found = ReferenceEvaluator(model(text), new_ops=[scaled(OpRun)]).run(None, {"x": X, "b": b})
    np.testing.assert_array_equal(found[0], X * 5)


def test_subgraphs_run_with_what_is_around_them() -> None:
    class Twice(OpRun):
        op_domain = "mine"

        def need_context(self) -> bool:
            return True

        def _run(
            self, x: Any, *, context: Any, body: Any, attributes: Any = None
        ) -> tuple[Any, ...]:
            assert body is not None
            assert attributes is None
            once = self._run_body({**context, "i": x})  # type: ignore[attr-defined]
            return tuple(self._run_body({**context, "i": once[0]}))  # type: ignore[attr-defined]

    text = """g (float[2, 2] x, float[2, 2] w) => (float[2, 2] y) {
        v = Neg(w)
        y = mine.Twice <body = b (float[2, 2] i) => (float[2, 2] o) { o = Add(i, v) }> (x) }"""
    found = ReferenceEvaluator(model(text), new_ops=[Twice]).run(None, {"x": X, "w": X})
    np.testing.assert_array_equal(found[0], -X)


def test_operators_may_be_evaluated_by_their_bodies() -> None:
    seen: list[str] = []

    class Gelu(OpRunExpand):
        pass

    class Exploded(OpRun):
        def _run(self, *_: Any, **__: Any) -> tuple[Any, ...]:
            raise AssertionError

    class Erf(OpRun):
        def _run(self, x: Any) -> tuple[Any, ...]:
            seen.append("Erf")
            return (np.zeros_like(x),)

    text = "g (float[2, 2] x) => (float[2, 2] y) { y = Gelu(x) }"
    ReferenceEvaluator(model(text), new_ops=[Erf]).run(None, {"x": X})
    assert seen == []
    [y] = ReferenceEvaluator(model(text), new_ops=[Gelu, Erf]).run(None, {"x": X})
    assert seen == ["Erf"]
    np.testing.assert_allclose(y, X / 2)
    with pytest.raises(RuntimeError, match="Gelu is evaluated by its body"):
        Gelu(None, {})


@pytest.mark.parametrize(
    ("result", "error"),
    [
        ([1], TypeError),
        ((), ValueError),
        (((1,),), TypeError),
        ((object(),), TypeError),
        (ZeroDivisionError(), ZeroDivisionError),
        (KeyError("k"), KeyError),
        (ValueError("v"), ValueError),
        (AttributeError("a"), TypeError),
    ],
)
def test_mistakes_of_ones_own_are_raised_as_by_the_peer(
    result: Any, error: type[Exception]
) -> None:
    text = "g (float[2, 2] x) => (float[2, 2] y) { y = mine.Op(x) }"

    def wrong(base: type) -> type:
        class Op(base):
            op_domain = "mine"

            def _run(self, x: Any) -> Any:
                if isinstance(result, Exception):
                    raise result
                return result

        return Op

    for evaluator, base in ((Peer, peer_run.OpRun), (ReferenceEvaluator, OpRun)):
        with pytest.raises(error) as caught:
            evaluator(model(text), new_ops=[wrong(base)]).run(None, {"x": X})
        assert caught.type is error


def test_plain_numbers_become_arrays() -> None:
    class Number(OpRun):
        op_domain = "mine"

        def _run(self, x: Any) -> Any:
            return (np.float32(x.sum()),)

    text = "g (float[2, 2] x) => (float y) { y = mine.Number(x) }"
    [y] = ReferenceEvaluator(model(text), new_ops=[Number]).run(None, {"x": X})
    assert isinstance(y, np.ndarray)
    assert y == 6


def test_arguments_are_checked_as_by_the_peer() -> None:
    source = model("g (float[2, 2] x) => (float[2, 2] y) { y = Neg(x) }")
    for evaluator in (Peer, ReferenceEvaluator):
        with pytest.raises(ValueError):
            evaluator(source, opsets={"": 20})
        with pytest.raises(ValueError):
            evaluator(source, functions=[])
        with pytest.raises(TypeError):
            evaluator(3)
        with pytest.raises(TypeError):
            evaluator(source, new_ops=[type("A", (), {"op_domain": ""})])


def test_parameters_of_nodes_are_checked_as_by_the_peer() -> None:
    node = helper.make_node("Scale", ["x"], ["y"], domain="mine")
    for base in (peer_run.OpRun, OpRun):
        kind: Any = scaled(base)
        for params, error in (
            (3, TypeError),
            ({"opsets": {}}, RuntimeError),
            ({"opsets": {}, "new_ops": None}, KeyError),
        ):
            with pytest.raises(error):
                kind(node, params)
        instance = kind(node, {"opsets": {}, "new_ops": None, "log": print})
        with pytest.raises(RuntimeError):
            instance.run(X, context={})
        with pytest.raises(ValueError):
            instance.run(X, linked_attributes={})


def test_classes_make_and_evaluate_nodes() -> None:
    celu: Any = load_op("", "Celu", 12)
    assert celu.infer_name() == ("Celu", 12)
    node = celu.make_node(alpha=0.5)
    assert (list(node.input), list(node.output), node.op_type) == (["x0"], ["y0"], "Celu")
    wanted = np.where(X > 0, X, 0.5 * (np.exp(X / 0.5) - 1))
    np.testing.assert_allclose(celu.eval(X, alpha=0.5), wanted, rtol=1e-6)
    instance = celu.create(1, alpha=0.5)
    assert (instance.op_type, instance.domain, instance.alpha) == ("Celu", "", 0.5)
    assert (list(instance.input), list(instance.output)) == (["x0"], ["y0"])
    assert str(instance) == "Celu(op_type=Celu, alpha=0.5)"
    split = load_op("", "Split", 18)
    assert len(split.eval(X, n_outputs=2, num_outputs=2)) == 2
    clip = load_op("", "Clip", 13)
    np.testing.assert_array_equal(clip.eval(X, None, np.float32(2)), np.minimum(X, 2))


def test_each_version_has_its_class() -> None:
    cube = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    old = load_op("", "Softmax", 11).eval(cube)
    new = load_op("", "Softmax", 13).eval(cube)
    np.testing.assert_allclose(old.sum(axis=(1, 2)), 1, rtol=1e-6)
    np.testing.assert_allclose(new.sum(axis=2), 1, rtol=1e-6)
    with pytest.raises(NotImplementedError, match="found 'Nope'"):
        load_op("", "Nope", 13)


def test_calls_of_functions_are_operators_too() -> None:
    function = parser.parse_function(
        '<domain: "mine", opset_import: ["": 20]> F (a) => (b) { b = Neg(a) }'
    )
    make = load_op("mine", "F", 1, custom=ReferenceEvaluator(function))
    params = {"opsets": {"mine": 1}, "new_ops": None, "log": print}
    call = make(helper.make_node("F", ["x"], ["y"], domain="mine"), params)
    np.testing.assert_array_equal(call.run(X)[0], -X)
    with pytest.raises(RuntimeError, match="F: 1 inputs are required, found 2"):
        call.run(X, X)
    with pytest.raises(RuntimeError, match="F: an evaluator is required"):
        op_run.OpFunction(call.onnx_node, params)


def test_what_graphs_read_from_outside() -> None:
    graph = model("g (float[2] x) => (float[2] y) { a = Add(x, w) y = Mul(a, v) }").graph
    assert sorted(OpRun.implicit_inputs(graph)) == sorted(peer_run.OpRun.implicit_inputs(graph))


@pytest.mark.parametrize("verbose", [0, 2, 3, 4])
def test_nodes_and_values_are_printed_by_level(
    verbose: int, capsys: pytest.CaptureFixture[str]
) -> None:
    source = model("g (float[2, 2] x) => (float[2, 2] y) { a = Neg(x) y = Abs(a) }")
    ReferenceEvaluator(source, verbose=verbose).run(None, {"x": X})
    printed = capsys.readouterr().out.splitlines()
    wanted = {
        0: [],
        2: ["Neg(x) -> a", "Abs(a) -> y"],
        3: [
            " +I x: float32:(2, 2) in [-2.0, 4.0]",
            "Neg(x) -> a",
            " + a: float32:(2, 2) in [-4.0, 2.0]",
            "Abs(a) -> y",
            " + y: float32:(2, 2) in [1.0, 4.0]",
        ],
        4: [
            " +I x: float32:(2, 2):[1.0, -2.0, 3.0, 4.0]",
            "Neg(x) -> a",
            " + a: float32:(2, 2):[-1.0, 2.0, -3.0, -4.0]",
            "Abs(a) -> y",
            " + y: float32:(2, 2):[1.0, 2.0, 3.0, 4.0]",
        ],
    }
    assert printed == wanted[verbose]


def test_types_are_those_that_the_model_declares() -> None:
    text = "g (float[N, 2] x) => (double[2] y) <float[N] a> { a = Neg(x) y = Abs(a) }"
    ours, theirs = ReferenceEvaluator(model(text)), Peer(model(text))
    assert (ours.input_types_, ours.output_types_) == (ours.input_types, ours.output_types)
    assert [t.SerializeToString() for t in ours.input_types] == [
        t.SerializeToString() for t in theirs.input_types
    ]
    assert [t.SerializeToString() for t in ours.output_types] == [
        t.SerializeToString() for t in theirs.output_types
    ]
    for name in ("x", "y", "a"):
        found = ours.get_result_types(name)
        assert found is not None
        assert found.SerializeToString() == theirs.get_result_types(name).SerializeToString()
    assert ours.get_result_types("b", exc=False) is None
    with pytest.raises(RuntimeError, match="a value with a declared type is required, found 'b'"):
        ours.get_result_types("b")
    assert (ours.has_linked_attribute, str(ours)) == (False, str(theirs))


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("float[N, 2] x) => (float[N, 2] y", None),
        ("float[N, 3] x) => (float[N, 2] y", "'x', axis 1: 3 is declared, found 2"),
        ("float[N, M] x) => (float[M, 2] y", None),
        ("float[N, 2] x) => (float[2] y", "'y': rank 1 is declared, found 2"),
        ("float[N, 2] x) => (double[N, 2] y", "'y': float64 is declared, found float32"),
        ("float[N, 2] x) => (y", None),
    ],
)
def test_declared_types_are_checked_if_asked_for(declared: str, message: str | None) -> None:
    source = model(f"g ({declared}) {{ y = Neg(x) }}")
    for evaluator in (Peer, ReferenceEvaluator):
        evaluator(source).run(None, {"x": X})
        checked = evaluator(source, check_shape_annotations=True)
        if message is None:
            checked.run(None, {"x": X})
            continue
        with pytest.raises(RuntimeError):
            checked.run(None, {"x": X})
        with pytest.raises(RuntimeError):
            evaluator(source).run(None, {"x": X}, check_shape_annotations=True)
        checked.run(None, {"x": X}, check_shape_annotations=False)
    if message is not None:
        with pytest.raises(ShapeAnnotationError, match=message):
            ReferenceEvaluator(source, check_shape_annotations=True).run(None, {"x": X})


def test_a_name_of_an_extent_stands_for_one_number() -> None:
    source = model("g (float[N, N] x) => (float[N, N] y) { y = Neg(x) }")
    evaluator = ReferenceEvaluator(source, check_shape_annotations=True)
    evaluator.run(None, {"x": X})
    evaluator.run(None, {"x": np.zeros((3, 3), np.float32)})
    with pytest.raises(ShapeAnnotationError, match=r"axis 1: 2 \(N\) is declared, found 3"):
        evaluator.run(None, {"x": np.zeros((2, 3), np.float32)})


def test_containers_are_evaluated() -> None:
    tensor = model_container.make_large_tensor_proto("#w", "w", 1, (2, 2))
    value = helper.make_tensor_value_info
    node = helper.make_node("Add", ["x", "w"], ["y"])
    graph = helper.make_graph(
        [node], "g", [value("x", 1, [2, 2])], [value("y", 1, [2, 2])], [tensor]
    )
    container = model_container.make_large_model(graph, {"#w": X})
    evaluator = ReferenceEvaluator(container)
    np.testing.assert_array_equal(evaluator.run(None, {"x": X})[0], X + X)
    assert evaluator.retrieve_external_data(tensor) is X
    with pytest.raises(RuntimeError, match="a ModelContainer is required"):
        ReferenceEvaluator(node).retrieve_external_data(tensor)


def test_schemas_of_ones_own_give_defaults() -> None:
    default = helper.make_attribute("factor", 7.0)
    schema = defs.OpSchema("Scale", "mine", 1, attributes=[defs.OpSchema.Attribute("f", default)])

    class Scale(OpRun):
        op_domain = "mine"
        op_schema = schema

        def _run(self, x: Any, f: Any = None) -> tuple[Any, ...]:
            return (x * f,)

    text = "g (float[2, 2] x) => (float[2, 2] y) { y = mine.Scale(x) }"
    [y] = ReferenceEvaluator(model(text), new_ops=[Scale]).run(None, {"x": X})
    np.testing.assert_array_equal(y, X * 7)
    required = defs.OpSchema.Attribute("f", defs.OpSchema.AttrType.FLOAT)
    Scale.op_schema = defs.OpSchema("Scale", "mine", 1, attributes=[required])
    with pytest.raises(RuntimeError, match="Scale: attribute 'f' is required, found none"):
        ReferenceEvaluator(model(text), new_ops=[Scale]).run(None, {"x": X})


def test_the_peer_reads_what_stands_for_sparse_tensors_and_types() -> None:
    values, indices = np.ones(2, np.float32), np.array([1, 3], np.int64)
    sparse = onnx.helper.make_sparse_tensor(
        onnx.numpy_helper.from_array(values), onnx.numpy_helper.from_array(indices), [5]
    )
    found = op_run.to_sparse_tensor(sparse)
    assert (found.shape, found.dtype) == ((5,), np.dtype(np.float32))
    type_ = op_run.OnnxType(helper.make_tensor_type_proto(1, [2]))
    assert "tensor_type" in repr(type_)
    assert repr(op_run.RefAttrName("a")) == "RefAttrName('a')"
