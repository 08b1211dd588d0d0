from __future__ import annotations

from onnx.parser import parse_model

from fornix.ir.load import from_message
from fornix.ir.loop_bodies import with_fitting_bodies
from fornix.ir.types import TensorType
from fornix.ir.verify import verify

LOOP = """<ir_version: 8, opset_import: ["" : %d]>
    g (int64 n, bool go) => (counts) {
        counts = Loop <body = b (%s i, bool on) => (bool on, c) { c = Neg (i) }> (n, go) }"""


def test_a_counter_with_an_axis_becomes_a_scalar_that_is_reshaped() -> None:
    model = from_message(parse_model(LOOP % (18, "int64[1]")))
    made = with_fitting_bodies(model)
    verify(made)
    (loop,) = made.graph.nodes
    (body,) = loop.graphs
    assert isinstance(body.inputs[0].type, TensorType)
    assert body.inputs[0].type.shape == ()
    assert [node.op_type for node in body.nodes] == ["Reshape", "Neg"]
    (before,) = next(iter(model.graph.nodes)).graphs
    assert [node.op_type for node in before.nodes] == ["Neg"]


def test_scalars_stay_as_they_are_and_so_do_models_whose_reshape_reads_no_shape() -> None:
    for opset, kind in ((18, "int64"), (4, "int64[1]")):
        model = from_message(parse_model(LOOP % (opset, kind)))
        assert with_fitting_bodies(model) is model


CARRIED = """<ir_version: 8, opset_import: ["" : 18]>
    g (int64 n, bool go, float[N] x) => (y, z) {
        zero = Constant <value_float = 0.0> ()
        y, z = Loop <body = b (int64 i, bool on, float[1] s, float[M] t) => (bool on, u, t) {
            u = Neg (s) }> (n, go, zero, x) }"""


def test_a_carried_value_declares_no_shape_that_it_does_not_begin_with() -> None:
    made = with_fitting_bodies(from_message(parse_model(CARRIED)))
    verify(made)
    loop = list(made.graph.nodes)[-1]
    (body,) = loop.graphs
    assert [str(value.type) for value in body.inputs[2:]] == ["float32[...]", "float32[M]"]
