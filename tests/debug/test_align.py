from __future__ import annotations

from typing import Any

import numpy as np

from fornix.debug.align import Alignment, align, order_of
from fornix.debug.engines import everything
from fornix.debug.prepare import prepared
from fornix.format.text import parse_model
from fornix.reference.source import as_model

X = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)


def aligned(first: str, second: str) -> Alignment:
    def opened(body: str) -> Any:
        ends = "(float[2,3,4,5] x) => (float[A,B,C,D] y)"
        text = f'<ir_version: 9, opset_import: ["" : 18]> g {ends} {{ {body} }}'
        flat = prepared(as_model(parse_model(text)))
        return flat.graph, everything(flat, {"x": X})

    ours, mine = opened(first)
    theirs, others = opened(second)
    return align(ours, mine, theirs, others, {"x": "x", "y": "y"})


def test_values_that_are_alike_are_aligned_whatever_they_are_called() -> None:
    found = aligned("t = Exp (x) u = Neg (t) y = Tanh (u)", "p = Exp (x) q = Neg (p) y = Tanh (q)")
    assert found.names == {"x": "x", "y": "y", "t": "p", "u": "q"}
    assert found.orders == {}


def test_axes_may_be_in_another_order() -> None:
    turned = """l = Transpose <perm = [0, 2, 3, 1]> (x) p = Exp (l)
                y = Transpose <perm = [0, 3, 1, 2]> (p)"""
    found = aligned("t = Exp (x) y = Identity (t)", turned)
    assert found.names["t"] in {"p", "y"}
    assert order_of(X, X.transpose(0, 2, 3, 1)) == (0, 3, 1, 2)
    assert order_of(X, X[:1]) is None


def test_names_that_mean_something_else_are_not_trusted() -> None:
    found = aligned(
        "v1 = Exp (x) v2 = Sin (v1) v3 = Neg (v2) y = Tanh (v3)",
        "v2 = Exp (x) v3 = Sin (v2) v1 = Neg (v3) y = Tanh (v1)",
    )
    assert {name: found.names[name] for name in ("v1", "v2", "v3")} == {
        "v1": "v2", "v2": "v3", "v3": "v1"
    }  # fmt: skip


def test_behind_a_difference_places_are_aligned() -> None:
    found = aligned(
        "a = Exp (x) b = Elu (a) c = Neg (x) d = Elu (c) e = Sin (d) f = Cos (e) y = Tanh (f)",
        """p = Exp (x) q = Elu (p) r = Neg (x) s = Elu <alpha = 0.1> (r) t = Sin (s) u = Cos (t)
           y = Tanh (u)""",
    )
    assert {name: found.names[name] for name in "cdef"} == {
        "c": "r", "d": "s", "e": "t", "f": "u"
    }  # fmt: skip
