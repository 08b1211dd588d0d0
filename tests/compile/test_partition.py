from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import parser

from fornix.compile.units import CompiledUnit, IslandUnit
from fornix.passes import Level
from fornix.reference import ReferenceEvaluator
from fornix.reference.source import as_model
from tests.compare import assert_same
from tests.compile.units import Units

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'


def units(text: str, level: Level = Level.NONE) -> Units:
    return Units(as_model(parser.parse_model(HEAD + text)), level)


def groups(text: str, level: Level = Level.NONE) -> list[str]:
    """The operators of each unit, those of islands in brackets."""
    found = []
    for unit in units(text, level).units:
        if isinstance(unit, CompiledUnit):
            found.append(" ".join(node.op_type for node in unit.nodes))
        else:
            found.append(f"[{unit.node.op_type}]")
    return found


def reasons(text: str) -> dict[str, str]:
    return units(text).islands


def test_arithmetic_is_computed_where_it_is_read() -> None:
    assert groups("""f (float[N] x) => (float[N] y) {
        a = Exp (x)
        b = Neg (a)
        y = Tanh (b)
    }""") == ["Exp Neg Tanh"]


def test_a_product_takes_its_epilogue_along() -> None:
    assert groups("""f (float[N, 8] x, float[8, 4] w, float[4] b, float[N, 4] z) => (float[N, 4] y)
    {
        p = MatMul (x, w)
        q = Add (p, b)
        r = Relu (q)
        y = Add (r, z)
    }""") == ["MatMul Add Relu Add"]


@pytest.mark.parametrize("rows", ["N", "8"])
def test_products_read_the_matrix_that_one_index_chooses_where_it_lies(rows: str) -> None:
    assert groups(f"""f (float[{rows}, 16] x, float[4, 8, 16] w, int64 i) => (float[{rows}, 8] y) {{
        g = Gather <axis = 0> (w, i)
        t = Transpose <perm = [1, 0]> (g)
        y = MatMul (x, t)
    }}""") == ["Gather Transpose MatMul"]


def test_what_takes_long_is_computed_before_it_is_scattered() -> None:
    assert groups("""f (float[N, 8, 9, 9] x, float[K, 4] b, int64[K] i, float[M, 8, 2, 2] z,
        int64[K, 1] j) => (float[M, 8, 2, 2] y) {
        p = RoiAlign <output_height = 2, output_width = 2, sampling_ratio = 2> (x, b, i)
        y = ScatterND (z, j, p)
    }""") == ["RoiAlign", "ScatterND"]
    assert groups("""f (float[K, 8] x, float[8, 4] w, float[M, 4] z, int64[K, 1] j)
        => (float[M, 4] y) {
        p = MatMul (x, w)
        q = Neg (p)
        y = ScatterND (z, j, q)
    }""") == ["MatMul", "Neg ScatterND"]
    assert groups("""f (float[K, 4] x, float[M, 4] z, int64[K, 1] j) => (float[M, 4] y) {
        p = Exp (x)
        y = ScatterND (z, j, p)
    }""") == ["Exp ScatterND"]


@pytest.mark.parametrize("batch", ["N", "1", "2"])
def test_a_convolution_takes_its_epilogue_along_whatever_the_extents_are(batch: str) -> None:
    assert groups(f"""f (float[{batch}, 8, 5, 1] x, float[4, 8, 1, 1] w, float[{batch}, 4, 5, 1] z)
        => (float[{batch}, 4, 5, 1] y) {{
        p = Conv (x, w)
        q = Relu (p)
        y = Add (q, z)
    }}""") == ["Conv Relu Add"]


def test_an_epilogue_may_read_its_product_twice() -> None:
    assert groups("""f (float[N, 8] x, float[8, 4] w) => (float[N, 4] y) {
        p = MatMul (x, w)
        s = Sigmoid (p)
        y = Mul (p, s)
    }""") == ["MatMul Sigmoid Mul"]


def test_a_kernel_holds_one_product() -> None:
    assert groups("""f (float[N, 8] x, float[8, 4] w, float[8, 4] v) => (float[N, 4] y) {
        p = MatMul (x, w)
        q = MatMul (x, v)
        y = Add (p, q)
    }""") == ["MatMul", "MatMul Add"]


def test_sums_that_are_added_one_after_the_other_wait_for_none_that_follow() -> None:
    assert groups("""f (float[N, 8] x, float[8, 4] a, float[8, 4] b, float[8, 4] c, float[8, 4] d)
        => (float[N, 4] y) {
        first = MatMul (x, a)
        second = MatMul (x, b)
        two = Add (first, second)
        third = MatMul (x, c)
        three = Add (two, third)
        fourth = MatMul (x, d)
        four = Add (fourth, three)
        y = Relu (four)
    }""") == ["MatMul", "MatMul Add", "MatMul Add", "MatMul Add Relu"]


def test_what_joins_sums_is_not_stored_if_it_is_wider_than_they_are() -> None:
    assert groups("""f (float16[N, 8] x, float16[8, 4] a, float16[8, 4] b, float16[8, 4] c)
        => (float[N, 4] y) {
        p = MatMul (x, a)
        wide_p = Cast <to = 1> (p)
        q = MatMul (x, b)
        wide_q = Cast <to = 1> (q)
        two = Add (wide_p, wide_q)
        r = MatMul (x, c)
        wide_r = Cast <to = 1> (r)
        y = Add (two, wide_r)
    }""") == ["MatMul", "MatMul", "Cast Cast Add MatMul Cast Add"]
    assert groups("""f (int8[N, 8] x, int8[8, 4] a, int8[8, 4] b, int8[8, 4] c, float s)
        => (float[N, 4] y) {
        p = MatMulInteger (x, a)
        float_p = Cast <to = 1> (p)
        byte_p = QuantizeLinear (float_p, s)
        known_p = DequantizeLinear (byte_p, s)
        q = MatMulInteger (x, b)
        float_q = Cast <to = 1> (q)
        byte_q = QuantizeLinear (float_q, s)
        known_q = DequantizeLinear (byte_q, s)
        two = Add (known_p, known_q)
        r = MatMulInteger (x, c)
        float_r = Cast <to = 1> (r)
        y = Add (two, float_r)
    }""") == [
        "MatMulInteger Cast QuantizeLinear",
        "MatMulInteger Cast QuantizeLinear",
        "DequantizeLinear DequantizeLinear Add MatMulInteger Cast Add",
    ]


def test_of_narrow_elements_behind_another_sum_the_last_are_stored() -> None:
    assert groups("""f (int8[N, 8] x, int8[8, 4] a, int8[8, 4] b, float16 s, float16[4] k)
        => (float16[N, 4] y) {
        p = MatMulInteger (x, a)
        narrow = Cast <to = 10> (p)
        scaled = Mul (narrow, s)
        biased = Add (scaled, k)
        q = MatMulInteger (x, b)
        other = Cast <to = 10> (q)
        y = Add (biased, other)
    }""") == ["MatMulInteger Cast Mul Add", "MatMulInteger Cast Add"]


def test_a_product_is_stored_for_readers_elsewhere() -> None:
    assert groups("""f (float[N, 8] x, float[8, 4] w) => (float[4, N] y) {
        p = MatMul (x, w)
        y = Transpose (p)
    }""") == ["MatMul", "Transpose"]


def test_what_moves_data_is_computed_in_every_reader() -> None:
    assert groups("""f (float[8, 4] x, float[8, 3] w) => (float[4, 3] y, float[4, 8] z) {
        t = Transpose (x)
        y = MatMul (t, w)
        z = Exp (t)
    }""") == ["Transpose MatMul", "Transpose Exp"]


NOTHING = """<int64[3] rest = {16, 9, 9}, int64[3] turned = {9, 9, 16}> {
    n = Shape <start = 0, end = 1> (x)
"""


@pytest.mark.parametrize(
    ("operator", "given"),
    [
        ("Conv", "<pads = [1, 1, 1, 1]> (z, w)"),
        ("Conv", "<pads = [1, 1, 1, 1], group = 4> (z, v)"),
        ("ConvTranspose", "<strides = [2, 2]> (z, w)"),
        ("MatMul", "(z, m)"),
        ("MatMul", "(m, z)"),
    ],
)
def test_products_read_a_state_of_zeros_from_memory(operator: str, given: str) -> None:
    head = f"""f (float[N] x, float[16, 16, 3, 3] w, float[16, 4, 3, 3] v, float[9, 9] m)
        => (float[N, A, B, C] y) {NOTHING}"""
    assert groups(f"""{head}
        s = Concat <axis = 0> (n, rest)
        z = ConstantOfShape (s)
        y = {operator} {given}
    }}""") == ["Shape", "ConstantOfShape", operator]
    assert groups(f"""{head}
        s = Concat <axis = 0> (n, turned)
        o = ConstantOfShape <value = float[1] {{0.5}}> (s)
        z = Transpose <perm = [0, 3, 1, 2]> (o)
        y = {operator} {given}
    }}""") == ["Shape", "ConstantOfShape", f"Transpose {operator}"]


def test_what_is_made_of_nothing_stays_with_others_than_products() -> None:
    assert groups("""f (float[N, 9] x) => (float[N, 9] y, float[N, 9] q)
    <int64[1] rest = {9}, int64 i = {1}> {
        n = Shape <start = 0, end = 1> (x)
        s = Concat <axis = 0> (n, rest)
        z = ConstantOfShape <value = float[1] {0.5}> (s)
        p = Add (x, z)
        y = Softmax (p)
        q = CumSum (z, i)
    }""") == ["Shape", "ConstantOfShape Add Softmax", "ConstantOfShape CumSum"]


def test_what_is_dear_is_computed_once() -> None:
    assert groups("""f (float[8, 4] x, float[4, 3] w) => (float[8, 3] y, float[8, 4] z) {
        e = Exp (x)
        y = MatMul (e, w)
        z = Neg (e)
    }""") == ["Exp", "MatMul", "Neg"]


def test_a_row_takes_the_arithmetic_ahead_of_it_along() -> None:
    assert groups("""f (float[N, 64] x, float[N, 64] z) => (float[N, 64] y) {
        a = Add (x, z)
        y = Softmax (a)
    }""") == ["Add Softmax"]


def test_a_dear_function_stays_with_the_product_that_it_follows() -> None:
    assert groups("""f (float[N, 8] x, float[8, 8] w, float[8, 1] v) => (float[N, 1] y) {
        p = MatMul (x, w)
        t = Tanh (p)
        y = MatMul (t, v)
    }""") == ["MatMul Tanh", "MatMul"]


def test_an_operand_that_is_repeated_along_an_axis_is_computed_once() -> None:
    assert groups("""f (float[4] b, float[1000, 4] x) => (float[1000, 4] y) {
        e = Exp (b)
        y = Add (x, e)
    }""") == ["Exp", "Add"]


@pytest.mark.parametrize(("length", "kernels"), [("T", 2), ("12", 1)])
def test_what_is_read_in_longer_rows_is_stored_where_their_lengths_are_open(
    length: str, kernels: int
) -> None:
    found = groups(f"""f (float[N, 8, {length}] x, float[8, 1] s) => (float[N, 1, ?] y) {{
        shape = Constant <value_ints = [0, 1, -1]> ()
        one = Constant <value = float[1] {{1.0}}> ()
        a = PRelu (x, s)
        r = Reshape (a, shape)
        y = InstanceNormalization (r, one, one)
    }}""")
    assert len(found) == kernels


@pytest.mark.parametrize("length", ["L", "50"])
@pytest.mark.parametrize(
    "window",
    ["Conv <group = 8, pads = [1, 1]> (x, w)", "AveragePool <kernel_shape = [5]> (x)"],
)
def test_short_windows_are_stored_ahead_of_norms(length: str, window: str) -> None:
    head = f"f (float[N, 8, {length}] x, float[8, 1, 3] w, float[8] o, float[2] q)"
    own = groups(f"""{head} => (y) {{
        p = {window}
        y = InstanceNormalization (p, o, o)
    }}""")
    of_groups = groups(f"""{head} => (y) {{
        p = {window}
        a = Relu (p)
        shape = Constant <value_ints = [0, 2, -1]> ()
        r = Reshape (a, shape)
        y = InstanceNormalization (r, q, q)
    }}""")
    assert [kernel.split()[0] in window for kernel in of_groups] == [True, False]
    assert len(own) == (1 if "Conv" in window else 2)


def test_short_filters_are_stored_ahead_of_norms_of_several_channels() -> None:
    found = groups("""f (float[N, 8, 50] x, float[8, 1, 3] w, float[1] o) => (y) {
        p = Conv <group = 8, pads = [1, 1]> (x, w)
        y = GroupNormalization <num_groups = 1> (p, o, o) }""")
    assert len(found) == 2


@pytest.mark.parametrize(("kept", "kernels"), [("0, 8, -1", 1), ("0, 4, -1", 2)])
def test_joined_channels_stay_with_sums_of_whole_channels(kept: str, kernels: int) -> None:
    found = groups(f"""f (float[N, 4, 5, 7] x, float[N, 4, 5, 7] z) => (y) {{
        c = Concat <axis = 1> (x, z)
        shape = Constant <value_ints = [{kept}]> ()
        r = Reshape (c, shape)
        axes = Constant <value_ints = [2]> ()
        y = ReduceMean (r, axes)
    }}""")
    assert len(found) == kernels


@pytest.mark.parametrize(
    ("product", "kernels"),
    [("Conv (u, v)", 2), ("MatMul (u, m)", 2), ("LayerNormalization (u, s)", 1)],
)
def test_windows_behind_products_are_stored(product: str, kernels: int) -> None:
    found = groups(f"""f (float[N, 8, 20, 20] x, float[N, 8, 10, 10] u, float[8, 8, 1, 1] v,
        float[10, 10] m, float[10] s) => (y) {{
        p = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (x)
        q = {product}
        y = Add (p, q)
    }}""")
    assert len(found) == kernels


@pytest.mark.parametrize(("length", "kernels"), [("L", 2), ("50", 2), ("", 1)])
def test_short_windows_stay_with_sums_that_read_them_once_as_they_lie(
    length: str, kernels: int
) -> None:
    joined = "r = Reshape (p, shape)" if length else "r = Identity (p)"
    found = groups(f"""f (float[N, 8, {length or 50}] x, float[8, 1, 3] w) => (y) {{
        shape = Constant <value_ints = [0, -1]> ()
        p = Conv <group = 8, pads = [1, 1]> (x, w)
        {joined}
        axes = Constant <value_ints = [-1]> ()
        y = ReduceMean (r, axes)
    }}""")
    assert len(found) == kernels


def test_outputs_of_the_graph_are_stored() -> None:
    assert groups("""f (float[N] x) => (float[N] a, float[N] y) {
        a = Neg (x)
        y = Abs (a)
    }""") == ["Neg", "Abs"]


def test_an_island_reads_and_gives_memory() -> None:
    assert groups("""f (float[N] x) => (float[N] y) {
        a = Neg (x)
        r = Bernoulli (a)
        y = Neg (r)
    }""") == ["Neg", "[Bernoulli]", "Neg"]


def test_large_kernels_are_cut() -> None:
    chain = "\n".join(f"a{i + 1} = Neg (a{i})" for i in range(200))
    text = f"f (float[N] a0) => (float[N] a200) {{ {chain} }}"
    sizes = [len(unit.nodes) for unit in units(text).units if isinstance(unit, CompiledUnit)]
    assert sum(sizes) == 200
    assert max(sizes) <= 64


def test_shape_arithmetic_that_is_known_ahead_is_not_computed() -> None:
    assert groups("""f (float[N, 2, 3] x) => (float[N, 6] y) <int64[2] s = {0, -1}> {
        t = Identity (s)
        y = Reshape (x, t)
    }""") == ["Reshape"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "f (float[N] x) => (float[N] y) { y = RandomNormalLike (x) }",
            "the order in which numbers are drawn is part of the result",
        ),
        (
            "f (string[N] x) => (string[N] y) { y = Identity (x) }",
            "loops hold tensors of numbers and bools, 'x' is string[N]",
        ),
        (
            "f (float[N] x) => (int64[1, M] y) { y = NonZero (x) }",
            "known at run time only: NonZero: how many elements differ from zero",
        ),
        (
            "f (float[N] x, int64[1] s) => (float[4] y) { y = Reshape (x, s) }",
            "the extents of 'y' are known at run time only: it is float32[4] as declared",
        ),
        (
            "f (float[2] x, float[3] z) => (float[3] y) { y = Add (x, z) }",
            "ShapeError: shapes must broadcast, got [2] and [3]: 2 and 3 differ and neither is 1",
        ),
        (
            "f (float[N,0] x) => (float[0,N] y) { y = Transpose (x) }",
            "'y' has no elements",
        ),
        (
            """f (bool c, float[N] x) => (float[N] y) { y = If (c) <
                then_branch = g () => (float[N] t) { t = Neg (x) },
                else_branch = h () => (float[N] e) { e = Abs (x) }> }""",
            "control flow decides at run time what runs",
        ),
    ],
    ids=["random", "string", "data", "declared", "wrong", "empty", "control"],
)
def test_an_island_says_why(text: str, reason: str) -> None:
    (found,) = reasons(text).values()
    assert reason in found


def test_a_function_of_the_model_is_an_island() -> None:
    text = """<ir_version: 8, opset_import: ["" : 18, "own" : 1]>
        f (float[N] x) => (float[N] y) { y = own.Twice (x) }
        <domain: "own", opset_import: ["" : 18]> Twice (a) => (b) { b = Add (a, a) }"""
    found = Units(as_model(parser.parse_model(text)), Level.NONE)
    assert found.islands == {"Twice": "calls of model functions run node by node"}


MODELS: Sequence[str] = (
    """f (float[N, 6] x, float[6, 5] w) => (float[5, N] y, float[N] s)
    <int64[1] axes = {1}> {
        p = MatMul (x, w)
        e = Exp (p)
        t = Transpose (e)
        y = Concat <axis = 0> (t)
        q = ReduceMean <keepdims = 0> (e, axes)
        s = Neg (q)
    }""",
    """f (float[N, 3, 8, 8] x, float[4, 3, 3, 3] w) => (float[N, 4, 4, 4] y) {
        c = Conv <pads = [1, 1, 1, 1]> (x, w)
        r = Relu (c)
        m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
        y = Add (m, m)
    }""",
    """f (float[N, 4] x) => (float[N, 2] y, float[N, 2] z) <int64[2] n = {2, 2}> {
        a, b = Split <axis = 1> (x, n)
        y = Mul (a, b)
        c = Exp (b)
        z = Sub (a, c)
    }""",
    """f (float[N, 6] x, float[6, 5] a, float[6, 5] b, float[6, 5] c) => (float[N, 5] y) {
        p = MatMul (x, a)
        q = MatMul (x, b)
        two = Add (p, q)
        e = Tanh (two)
        r = MatMul (x, c)
        y = Add (e, r)
    }""",
    """f (float[N, 3, 6, 6] x, float[4, 5, 3, 3] w, float[4, 3, 3, 3] v)
        => (float[N, 4, 6, 6] y) <int64[3] rest = {5, 6, 6}> {
        n = Shape <start = 0, end = 1> (x)
        s = Concat <axis = 0> (n, rest)
        h = ConstantOfShape <value = float[1] {0.5}> (s)
        p = Conv <pads = [1, 1, 1, 1]> (h, w)
        q = Conv <pads = [1, 1, 1, 1]> (x, v)
        y = Add (p, q)
    }""",
    """f (float[N, 8, 21] x, float[8, 1, 3] w) => (float[N, 2, 84] y, float[N, 200] z)
    <int64[3] groups = {0, 2, -1}, int64[2] flat = {0, -1}, float[2] one = {1, 1},
    int64[6] sides = {0, 0, 2, 0, 0, 2}> {
        c = Conv <group = 8, pads = [1, 1]> (x, w)
        r = Reshape (c, groups)
        y = InstanceNormalization (r, one, one)
        p = Pad <mode = "edge"> (x, sides)
        f = Reshape (p, flat)
        z = Softmax (f)
    }""",
    """f (float[N, 8, 9, 10] x, float[N, 8, 4, 5] u, float[8, 8, 1, 1] w) => (y)
    { p = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (x) q = Conv (u, w)
    y = Sub (q, p) }""",
)


@pytest.mark.parametrize("text", MODELS)
@pytest.mark.parametrize("extent", [1, 2, 5])
def test_units_compute_what_the_model_computes(
    text: str, extent: int, rng: np.random.Generator
) -> None:
    found = units(text, Level.ALL)
    assert not any(isinstance(unit, IslandUnit) for unit in found.units)
    feeds = {
        value.name: rng.normal(
            size=[
                d if isinstance(d, int) else extent
                for d in getattr(value.type, "shape", None) or ()
            ]
        ).astype(np.float32)
        for value in found.model.graph.inputs
    }
    wanted = ReferenceEvaluator(parser.parse_model(HEAD + text)).run(None, feeds)
    for one, other in zip(found.run(feeds), wanted, strict=True):
        assert_same(one, other, rtol=1e-5, atol=1e-6)


def test_of_two_sums_that_meet_the_first_is_stored_as_bytes() -> None:
    assert groups("""f (uint8[1, 64, 5, 5] x, int8[8, 64, 1, 1] v, int8[8, 64, 1, 1] w)
    => (uint8[?, ?, ?, ?] y)
    <float s = {0.5}, uint8 z = {3}> {
        a = ConvInteger (x, v)
        b = ConvInteger (x, w)
        p = Cast <to = 1> (a)
        q = Cast <to = 1> (b)
        r = QuantizeLinear (p, s, z)
        t = QuantizeLinear (q, s, z)
        c = DequantizeLinear (r, s, z)
        d = DequantizeLinear (t, s, z)
        e = Add (c, d)
        y = QuantizeLinear (e, s, z)
    }""") == [
        "ConvInteger Cast QuantizeLinear",
        "ConvInteger Cast QuantizeLinear DequantizeLinear DequantizeLinear Add QuantizeLinear",
    ]


def test_of_two_sums_that_meet_the_second_takes_them_whatever_reads_the_result() -> None:
    assert groups("""f (uint8[1, 8, 5, 5] x, int8[8, 8, 1, 1] w, float s, uint8 z)
        => (int32[1, 8, 5, 5] y) {
        a = ConvInteger (x, w)
        p = Cast <to = 1> (a)
        r = QuantizeLinear (p, s, z)
        c = DequantizeLinear (r, s, z)
        d = DequantizeLinear (x, s, z)
        e = Add (c, d)
        q = QuantizeLinear (e, s, z)
        y = ConvInteger (q, w)
    }""") == [
        "ConvInteger Cast QuantizeLinear DequantizeLinear DequantizeLinear Add QuantizeLinear",
        "ConvInteger",
    ]


def test_what_is_turned_and_joins_another_ahead_of_a_row_is_stored() -> None:
    assert groups("""f (float[12, 512, 1024] x, int64[12, 512, 512] i, float[12, 512, 512] s)
        => (float[12, 512, 512] y) {
        g = GatherElements <axis = -1> (x, i)
        t = Transpose <perm = [0, 2, 1]> (g)
        u = Add (s, t)
        y = Softmax (u)
    }""") == ["GatherElements Transpose", "Add Softmax"]
    assert groups("""f (float[N, 512, 512, 12] g, float[N, 12, 512, 512] s)
        => (float[N, 12, 512, 512] y) {
        t = Transpose <perm = [0, 3, 1, 2]> (g)
        u = Add (s, t)
        y = Softmax (u)
    }""") == ["Transpose", "Add Softmax"]


def test_what_is_turned_stays_in_a_row_if_it_is_small_or_joins_none() -> None:
    assert groups("""f (float[2, 16, 16] x, float[2, 16, 16] s) => (float[2, 16, 16] y) {
        t = Transpose <perm = [0, 2, 1]> (x)
        u = Add (s, t)
        y = Softmax (u)
    }""") == ["Transpose Add Softmax"]
    assert groups("""f (float[12, 512, 512] x) => (float[12, 512, 512] y) {
        t = Transpose <perm = [0, 2, 1]> (x)
        u = Neg (t)
        y = Softmax (u)
    }""") == ["Transpose Neg Softmax"]


@pytest.mark.parametrize("mode", ["reflect", "edge"])
def test_what_is_turned_is_stored_ahead_of_what_chooses_and_behind_it(mode: str) -> None:
    """Tiles are turned of what lies in memory, not of elements that are each asked for."""
    pads = "int64[8] p = {0, 0, 1, 1, 0, 0, 1, 1}"
    assert groups(f"""f (float[1, 32, 64, 64] x) => (float[1, 66, 66, 32] y) <{pads}> {{
        t = Pad <mode = "{mode}"> (x, p)
        y = Transpose <perm = [0, 2, 3, 1]> (t)
    }}""") == ["Pad", "Transpose"]
    assert groups(f"""f (float[1, 64, 64, 32] x) => (float[1, 32, 66, 66] y) <{pads}> {{
        t = Transpose <perm = [0, 3, 1, 2]> (x)
        u = Neg (t)
        y = Pad <mode = "{mode}"> (u, p)
    }}""") == ["Transpose", "Neg Pad"]
    assert groups(f"""f (float[1, 4, 8, 8] x) => (float[1, 10, 10, 4] y) <{pads}> {{
        t = Pad <mode = "{mode}"> (x, p)
        y = Transpose <perm = [0, 2, 3, 1]> (t)
    }}""") == ["Pad Transpose"]


def test_rows_that_are_turned_stay_with_what_asks_little_or_reads_few_of_them() -> None:
    assert groups("""f (float[1, 256, 256, 3] x) => (float[1, 3, 264, 264] y)
        <int64[8] p = {0, 4, 4, 0, 0, 4, 4, 0}> {
        t = Pad <mode = "reflect"> (x, p)
        y = Transpose <perm = [0, 3, 1, 2]> (t)
    }""") == ["Pad Transpose"]
    parts = "float[1, 84, 1600] a, float[1, 84, 400] b, float[1, 84, 100] c"
    assert groups(f"""f ({parts}) => (float[1, 2100, 84] y) {{
        t = Concat <axis = 2> (a, b, c)
        y = Transpose <perm = [0, 2, 1]> (t)
    }}""") == ["Concat", "Transpose"]
    assert groups("""f (float[1, 84, 1600] a, float[1, 84, 400] b) => (float[1, 2000, 84] y) {
        t = Concat <axis = 2> (a, b)
        y = Transpose <perm = [0, 2, 1]> (t)
    }""") == ["Concat Transpose"]
    assert groups("""f (float[1, 8, 256, 256] x) => (float[1, 128, 128, 8] y)
        <float[4] s = {1.0, 0.25, 0.25, 1.0}> {
        t = Transpose <perm = [0, 2, 3, 1]> (x)
        y = Resize <mode = "linear"> (t, , s)
    }""") == ["Transpose Resize"]
