from __future__ import annotations

import numpy as np

from fornix.dtype import INT64
from fornix.ir.attribute import Attribute, AttributeKind
from fornix.ir.graph import Function, Graph, Node, Value
from fornix.ir.types import TensorType
from tests.ir.graphs import BRANCHES, model

EXPECTED = """\
<ir_version: 8, opset_import: ["" : 17]>
main (float32[N] x, bool[] c) => (float32[N] y) {
  float32[1] w = <MessageTensor w: float32[1]>
  a = Mul(x, w)
  b = Clip(a, _, w)
  y = If <then_branch = then () => (float32[N] t) {
      t = Add(a, b)
    }, else_branch = other () => (float32[N] e) {
      k = Neg(a)
      e = Sub(k, w)
    }>(c)
}
<opset_import: ["" : 17]>
my.domain.f:special <alpha, beta = 0.5> (x) => (y) {
  [n] y, _ = my.domain.g:o <alpha: float = @alpha, s = "a\\"b">(x)
}"""


def test_a_model_prints_as_it_is_written() -> None:
    whole = model(BRANCHES)
    x = Value("x")
    body = Graph("body", [x])
    given = {"alpha": Attribute("alpha", AttributeKind.FLOAT, None, "alpha"), "s": 'a"b'}
    body.append(Node("my.domain", "g", [x], ["y", ""], given, name="n", overload="o"))
    body.outputs = (body.nodes[0].output,)
    function = Function("my.domain", "f", body, {"": 17}, overload="special", attributes=["alpha"])
    function.defaults["beta"] = Attribute.of("beta", 0.5)
    whole.functions.append(function)
    assert str(whole) == EXPECTED
    assert str(whole.graph) in EXPECTED
    assert str(function) in EXPECTED


def test_long_lists_and_tensors_are_shortened() -> None:
    made = Node("", "Op", attributes={"ints": list(range(10)), "t": np.zeros((2, 3), np.int64)})
    made.set_attribute("type", TensorType(INT64, (2,)))
    made.set_attribute("bytes", b"\xff")
    assert repr(made) == (
        "_ = Op <ints = [0, 1, 2, 3, 4, 5, 6, 7, …], t = <ArrayTensor _: int64[2, 3]>, "
        "type = int64[2], bytes = b'\\xff'>()"
    )
