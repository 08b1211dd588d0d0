"""Models that break the standard: the optimizer leaves them as they are, or says what is wrong."""

from __future__ import annotations

import contextlib
import random
import warnings
from typing import Any

import numpy as np
import pytest

from fornix.errors import FornixError
from fornix.format.messages import AttributeProto, ModelProto
from fornix.format.tensors import from_array, to_array
from fornix.format.text import parse_model
from fornix.ir.load import from_message, to_message
from fornix.passes import optimize
from fornix.reference import ReferenceEvaluator
from tests.random_graphs import random_model
from tests.wide_graphs import wide_model

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
ODD = (-9, -1, 0, 1, 5, 2**40)


def parsed(body: str) -> Any:
    return from_message(parse_model(HEADER + body))


@pytest.mark.parametrize(
    "transposes",
    [
        "t = Transpose <perm = [0, 2, 1]> (x)",
        "t = Transpose <perm = [0, 0]> (x)",
        "t = Transpose <perm = [1, 0]> (x) z = Transpose <perm = [1]> (t)",
        "t = Transpose <perm = [5, 9]> (x)",
    ],
)
@pytest.mark.parametrize(
    "reader",
    [
        "y = Softmax <axis = 7> (t)",
        "y = Concat <axis = -5> (t, t)",
        "y = ReduceSum (t, far)",
        "y = Slice (t, far, far, far)",
        "y = Pad (t, far, none, far)",
        "y = Add (t, far)",
    ],
)
@pytest.mark.parametrize("known", ["float[2, 3] x", "float x"])
def test_transposes_and_axes_out_of_range_are_left(
    transposes: str, reader: str, known: str
) -> None:
    text = f"""g ({known}) => (float out)
    <int64[3] far = {{9, -9, 4}}, float none = {{0}}>
    {{ {transposes} {reader} out = Transpose <perm = [1, 0]> (y) }}"""
    optimized = optimize(parsed(text), debug=True)
    with pytest.raises(FornixError, match="node "):
        ReferenceEvaluator(optimized).run(None, {"x": np.zeros((2, 3), np.float32)})


def test_a_model_with_a_broken_node_keeps_what_is_wrong_with_it() -> None:
    text = "g (float[2] x) => (float[2] y) { y = Identity <axis = 3> (x) }"
    with pytest.raises(FornixError, match=r"node .*Identity.* has the attributes none, found 'ax"):
        ReferenceEvaluator(optimize(parsed(text))).run(None, {"x": np.zeros(2, np.float32)})


def test_a_broken_branch_that_is_never_taken_does_not_hold_up_the_rest() -> None:
    text = """g (float[2] x) => (float[2] y) <bool no = {0}>
    { y = If (no) <then_branch = a () => (z) { z = Transpose <perm = [4]> (x) },
                   else_branch = b () => (z) { z = Relu (x) }> }"""
    optimized = optimize(parsed(text), debug=True)
    assert [node.op_type for node in optimized.graph.nodes] == ["Relu"]


def test_attention_over_values_of_unknown_rank_is_left() -> None:
    text = """g (float q, float k, float v) => (float y) <float s = {0.5}>
    { t = Transpose <perm = [0, 1, 3, 2]> (k) m = MatMul (q, t) n = Mul (m, s)
      p = Softmax <axis = -1> (n) y = MatMul (p, v) }"""
    x = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4) / 24
    model = parsed(text)
    feeds = {"q": x, "k": x[::-1], "v": x}
    found = ReferenceEvaluator(optimize(model, opset=23)).run(None, feeds)[0]
    np.testing.assert_allclose(found, ReferenceEvaluator(model).run(None, feeds)[0], rtol=1e-6)


def test_statistics_without_root_give_no_warning() -> None:
    text = """g (float[1, 1, 2, 2] x) => (float[1, 1, 2, 2] y)
    <float[1, 1, 1, 1] w = {2}, float[1] one = {1}, float[1] least = {-5}>
    { c = Conv (x, w) y = BatchNormalization (c, one, one, one, least) }"""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimize(parsed(text))


def spoil(message: ModelProto, pick: random.Random) -> ModelProto:
    """``message`` with one thing changed that the standard or the graph relies on."""
    graph = message.graph
    node = pick.choice(list(graph.node))
    stored = pick.choice(list(graph.initializer)) if graph.initializer else None
    what = pick.randrange(7)
    if what == 0:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.INTS:
                attribute.ints[:] = [pick.choice(ODD) for _ in range(pick.randrange(5))]
            elif attribute.type == AttributeProto.INT:
                attribute.i = pick.choice(ODD)
    elif what == 1:
        del node.attribute[:]
    elif what == 2 and node.input:
        node.input[pick.randrange(len(node.input))] = ""
    elif what == 3 and node.input:
        names = [*(x.name for x in graph.initializer), *(x.name for x in graph.input)]
        node.input[0] = pick.choice(names)
    elif what == 4:
        node.op_type = pick.choice(list(graph.node)).op_type
    elif what == 5 and stored is not None:
        array = to_array(stored)
        stored.CopyFrom(from_array(pick.choice([array.reshape(-1), array[None]]), stored.name))
    else:
        graph.input[0].type.tensor_type.ClearField("shape")
    return message


@pytest.mark.parametrize("make", [random_model, wide_model])
def test_spoiled_models_are_optimized_or_refused_with_a_reason(make: Any) -> None:
    for seed in range(25):
        message = spoil(to_message(make(seed // 4)[0]), random.Random(seed))
        with contextlib.suppress(FornixError):
            optimize(from_message(message), debug=True)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 1000, 250))
@pytest.mark.parametrize("make", [random_model, wide_model])
def test_spoiled_models_that_run_compute_the_same(make: Any, first: int) -> None:
    for seed in range(first, first + 250):
        model, feeds = make(seed // 4)
        spoiled = from_message(spoil(to_message(model), random.Random(seed)))
        optimized = optimize(spoiled, debug=True)
        try:
            wanted = ReferenceEvaluator(spoiled).run(None, feeds)
        except FornixError:
            continue
        for one, other in zip(ReferenceEvaluator(optimized).run(None, feeds), wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("axes", [[5, -1], [0, 0], [2**40, 0]])
@pytest.mark.parametrize("node", ["Squeeze", "Unsqueeze"])
def test_axes_that_are_fed_are_checked_though_the_shape_is_known(
    node: str, axes: list[int]
) -> None:
    shape = [1, 1] if node == "Squeeze" else []
    declared = f"[{', '.join(map(str, shape))}]" if shape else ""
    text = f"g (float{declared} x, int64[{len(axes)}] axes) => (y) {{ y = {node} (x, axes) }}"
    optimized = optimize(parsed(text))
    feeds = {"x": np.zeros(shape, np.float32), "axes": np.array(axes)}
    with pytest.raises(FornixError, match=r"axes must"):
        ReferenceEvaluator(optimized).run(None, feeds)
