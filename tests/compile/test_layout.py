from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper, parser

from fornix.compile import program
from fornix.compile.cache import ObjectCache
from fornix.compile.layout import layouts
from fornix.compile.memo import Memo
from fornix.compile.target import Target
from fornix.ir.load import from_message
from fornix.passes import Level
from fornix.reference import ReferenceEvaluator
from fornix.runtime import InferenceSession
from tests.compile.units import Units

LANES = Target.host().vector_bytes // 4
M = 4 * LANES
SIDE = 6


HALF = LANES // 2 * 3


WEIGHTS = {
    "w": (M, M, 3, 3),
    "v": (M, M, 1, 1),
    "odd": (9, M, 1, 1),
    "half": (HALF, M, 1, 1),
    "whole": (M, HALF, 1, 1),
    "grouped": (M, 8, 3, 3),
    "few": (M, 4, 3, 3),
    "double": (M, 2 * M, 1, 1),
    "more": (M, M + HALF, 1, 1),
    "rest": (M - 9, M, 1, 1),
    "two": (32, M, 1, 1),
    "nine": (M, 9, 1, 1),
    "others": (M, 23, 1, 1),
}


def model(body: str, result: str = "float[?, ?, ?, ?] y") -> Any:
    """A model that convolves an image ``x``, and does what ``body`` says with ``c``."""
    found = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        f (float[N, {M}, {SIDE}, {SIDE}] x) => ({result}) {{
            c = Conv <pads = [1, 1, 1, 1]> (x, w)
            {body}
        }}"""
    )
    rng = np.random.default_rng(0)
    for name, shape in WEIGHTS.items():
        array = rng.standard_normal(shape).astype(np.float32) / 10
        found.graph.initializer.append(numpy_helper.from_array(array, name))
    return found


def lanes_of(source: Any, target: Target) -> dict[str, int]:
    """How many channels lie in a block of each blocked value."""
    units = Units(from_message(source), Level.NONE)
    outputs = units.model.graph.outputs
    found = layouts(units.units, units.traits, outputs, units.lowering.inference, target)
    return {value.name: lanes for value, lanes in found.items()}


def blocked(source: Any) -> set[str] | dict[str, str]:
    """The blocked values by name; with what they are blocked by, if all channels of one are."""
    units = Units(from_message(source), Level.NONE)
    outputs = units.model.graph.outputs
    found = layouts(units.units, units.traits, outputs, units.lowering.inference, Target.host())
    if M in found.values():
        kinds = {LANES: "lanes"}
        return {value.name: kinds.get(lanes, "all") for value, lanes in found.items()}
    return {value.name for value in found}


CASES = {
    "between convolutions": ("y = Conv (c, v)", {"c"}),
    "through a pool": (
        "p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c) y = Conv (p, v)",
        {"c", "p"},
    ),
    "through a sum with another image": (
        "d = Conv (c, v) s = Add (c, d) r = Relu (s) y = Conv (r, v)",
        {"c", "r"},
    ),
    "up to a pool over all places": ("g = GlobalAveragePool (c) y = Conv (g, v)", {"c"}),
    "by all channels where a reader wants them last": (
        "t = Transpose <perm = [0, 2, 3, 1]> (c) y = Softmax <axis = 3> (t)",
        {"c": "all"},
    ),
    "by all channels where what they come from has them last": (
        """t = Transpose <perm = [0, 2, 3, 1]> (x) u = Softmax <axis = 3> (t)
           i = Transpose <perm = [0, 3, 1, 2]> (u) s = Add (c, i)
           d = Conv (s, v) y = Conv (d, v)""",
        {"s": "all", "d": "lanes"},
    ),
    "by all channels where places are one axis": (
        f"""sides = Constant <value_ints = [0, {M}, {SIDE * SIDE}]> ()
           back = Constant <value_ints = [0, {M}, {SIDE}, {SIDE}]> ()
           a = Reshape (x, sides) t = Transpose <perm = [0, 2, 1]> (a)
           u = Softmax <axis = 2> (t) i = Transpose <perm = [0, 2, 1]> (u)
           k = Reshape (i, back) s = Add (c, k) d = Conv (s, v) y = Conv (d, v)""",
        {"s": "all", "d": "lanes"},
    ),
    "by all channels between what has them last and a convolution": (
        """t = Transpose <perm = [0, 2, 3, 1]> (x) u = Softmax <axis = 3> (t)
           i = Transpose <perm = [0, 3, 1, 2]> (u) s = Mul (i, i)
           d = Conv (s, v) y = Add (d, s)""",
        {"s": "all"},
    ),
    "not between what has them last and no convolution": (
        """t = Transpose <perm = [0, 2, 3, 1]> (x) u = Softmax <axis = 3> (t)
           i = Transpose <perm = [0, 3, 1, 2]> (u) s = Mul (i, i)
           p = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (s) y = Add (p, s)""",
        set(),
    ),
    "not where another image is added that has them not": (
        """t = Transpose <perm = [0, 2, 3, 1]> (x) u = Softmax <axis = 3> (t)
           i = Transpose <perm = [0, 3, 1, 2]> (u) s = Add (i, x)
           d = Conv (s, v) y = Add (d, s)""",
        set(),
    ),
    "by halves where channels fill those": (
        "d = Conv (c, half) e = Relu (d) y = Conv (e, whole)",
        {"c", "e"} if LANES > 8 else {"c"},
    ),
    "between groups": (
        f"d = Conv <group = {M // 8}> (c, grouped) y = Conv (d, v)",
        {"c", "d"},
    ),
    "but not between groups of few filters": (
        f"d = Conv <group = {M // 4}> (c, few) y = Conv (d, v)",
        set(),
    ),
    "put together at whole blocks": (
        "d = Conv (c, v) k = Concat <axis = 1> (c, d) y = Conv (k, double)",
        {"c", "d", "k"},
    ),
    "put together at half blocks": (
        "d = Conv (c, half) k = Concat <axis = 1> (d, c) y = Conv (k, more)",
        dict.fromkeys("cdk", "all")
        if Target.host().is_wide
        else {"c", "d", "k"}
        if LANES > 8
        else {"c"},
    ),
    "not put together elsewhere": (
        "d = Conv (c, odd) e = Conv (c, rest) k = Concat <axis = 1> (d, e) y = Conv (k, v)",
        {"c"},
    ),
    "not taken apart elsewhere": (
        """n = Constant <value_ints = [9, 23]> () d = Conv (c, two) a, b = Split <axis = 1> (d, n)
           e = Conv (a, nine) f = Conv (b, others) y = Add (e, f)""",
        {"c", "e"},
    ),
    "not where channels are moved elsewhere": (
        "t = Transpose <perm = [1, 0, 2, 3]> (c) y = Softmax <axis = 3> (t)",
        set(),
    ),
    "not where one of the readers moves them": (
        """t = Transpose <perm = [1, 0, 2, 3]> (c) u = Softmax <axis = 3> (t) e = ReduceSum (u)
           d = Conv (c, v) y = Add (d, e)""",
        set(),
    ),
    "not where all of an image is one row": (
        """row = Constant <value_ints = [0, 1, -1]> () like = Shape (x)
           o = Constant <value_floats = [1.0]> () z = Constant <value_floats = [0.0]> ()
           r = Reshape (c, row) i = InstanceNormalization (r, o, z) y = Reshape (i, like)""",
        set(),
    ),
    "not where channels do not fill blocks": ("d = Conv (c, odd) y = Softmax (d)", {"c"}),
    "not where a NumPy kernel reads": ("t = NonZero (c) f = Cast <to = 1> (t) y = Relu (f)", set()),
}


@pytest.mark.parametrize("case", CASES)
def test_images_are_blocked(case: str) -> None:
    body, wanted = CASES[case]
    result = "float[?, ?] y" if "NonZero" in body else "float[?, ?, ?, ?] y"
    assert blocked(model(body, result)) == wanted


@pytest.mark.parametrize("case", ["put together at whole blocks", "not put together elsewhere"])
def test_images_of_any_size_are_blocked_as_others_are(case: str) -> None:
    body, wanted = CASES[case]
    source = model(body)
    for axis in source.graph.input[0].type.tensor_type.shape.dim[2:]:
        axis.dim_param = f"n{axis.dim_value}"
    assert blocked(source) == wanted


def test_results_and_what_is_handed_past_a_numpy_kernel_are_not_blocked() -> None:
    body = "t = NonZero (x) d = Conv (c, v) n = Size (t) k = CastLike (n, d) y = Add (d, k)"
    assert blocked(model(body)) == set()
    assert blocked(model("y = Identity (c)")) == set()


@pytest.mark.parametrize("case", [c for c in CASES if "NumPy" not in c])
@pytest.mark.parametrize("n", [1, 3])
def test_layouts_do_not_change_results(case: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source = model(CASES[case][0])
    x = np.random.default_rng(1).standard_normal((n, M, SIDE, SIDE)).astype(np.float32)
    memo = Memo(ObjectCache())
    monkeypatch.setattr(program, "memo", lambda: memo)
    (found,) = InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    reference = InferenceSession(source, providers=["ReferenceExecutionProvider"])
    (wanted,) = reference.run(None, {"x": x})
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5 * np.abs(wanted).max())


def test_units_alike_but_for_their_layouts_have_code_of_their_own() -> None:
    body = """d = Relu (c) e = Conv (d, v) t = Transpose <perm = [0, 2, 3, 1]> (x)
              u = Softmax <axis = 3> (t) f = Relu (u) y = Conv (e, v)"""
    x = np.random.default_rng(1).standard_normal((1, M, SIDE, SIDE)).astype(np.float32)
    source = model(body)
    (found,) = InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    reference = InferenceSession(source, providers=["ReferenceExecutionProvider"])
    (wanted,) = reference.run(None, {"x": x})
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("kind", ["1 × 1", "3 × 3", "depthwise"])
def test_one_image_is_convolved_in_one_unit_with_what_follows(kind: str) -> None:
    group, taps = (M, 3) if kind == "depthwise" else (1, int(kind[0]))
    source = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        f (float[1, {M}, {SIDE}, {SIDE}] x) => (float[1, {M}, {SIDE}, {SIDE}] y) {{
            c = Conv <pads = [1, 1, 1, 1]> (x, first)
            r = Relu (c)
            d = Conv <pads = [{taps // 2}, {taps // 2}, {taps // 2}, {taps // 2}], group = {group}>
                (r, second)
            s = Relu (d)
            y = Conv (s, third)
        }}"""
    )
    rng = np.random.default_rng(0)
    shapes = {"first": (M, M, 3, 3), "second": (M, M // group, taps, taps), "third": (M, M, 1, 1)}
    for name, shape in shapes.items():
        array = rng.standard_normal(shape).astype(np.float32) / 10
        source.graph.initializer.append(numpy_helper.from_array(array, name))
    session = InferenceSession(source, providers=["CPUExecutionProvider"])
    kernels = {k for p in session.placement() if p.op_type == "Relu" for k in p.kernels}
    assert kernels
    assert all(name.startswith("Conv+Relu") for name in kernels)
    x = rng.standard_normal((1, M, SIDE, SIDE)).astype(np.float32)
    (found,) = session.run(None, {"x": x})
    reference = InferenceSession(source, providers=["ReferenceExecutionProvider"])
    (wanted,) = reference.run(None, {"x": x})
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5 * np.abs(wanted).max())


def wide(*features: str) -> Target:
    """A processor with vectors of 16 float32 numbers and these ``features``."""
    return dataclasses.replace(
        Target.host(), vector_bytes=64, vector_registers=32, features=frozenset(features)
    )


def through(channels: int, body: str, read: int) -> Any:
    """A model in which ``body`` makes ``k`` of ``d``; they have ``read`` and ``channels`` ones."""
    source = model(f"d = Conv (c, rows) {body} y = Conv (k, columns)")
    for name, shape in (("rows", (channels, M, 1, 1)), ("columns", (M, read, 1, 1))):
        array = np.zeros(shape, np.float32)
        source.graph.initializer.append(numpy_helper.from_array(array, name))
    return source


@pytest.mark.parametrize(
    ("features", "channels", "lanes"),
    [
        ({"amx-tile"}, 24, 24),
        ({"amx-tile"}, 8, 8),
        ({"amx-tile"}, 32, 16),
        ({"amx-tile"}, 20, 0),
        (set(), 24, 8),
    ],
)
def test_channels_that_leave_half_a_vector_are_one_block_where_whole_ones_are_faster(
    features: set[str], channels: int, lanes: int
) -> None:
    found = lanes_of(through(channels, "k = Relu (d)", channels), wide(*features))
    assert found.get("k", 0) == lanes


@pytest.mark.parametrize(("features", "lanes"), [({"amx-tile"}, {"d": 24, "k": 48}), (set(), 8)])
def test_channels_that_are_put_together_at_half_vectors_are_one_block_there_too(
    features: set[str], lanes: dict[str, int] | int
) -> None:
    source = through(24, "k = Concat <axis = 1> (d, d)", 48)
    found = lanes_of(source, wide(*features))
    wanted = lanes if isinstance(lanes, dict) else dict.fromkeys("dk", lanes)
    assert {name: found[name] for name in "dk"} == wanted


@pytest.mark.parametrize("taps", [1, 3])
def test_parts_of_an_image_that_begin_within_a_vector(taps: int) -> None:
    source = model(
        f"""d = Conv (c, rows) a, b = Split <axis = 1, num_outputs = 2> (d)
            e = Conv <pads = [{taps // 2}, {taps // 2}, {taps // 2}, {taps // 2}]> (b, mixed)
            k = Concat <axis = 1> (e, a) y = Conv (k, columns)"""
    )
    rng = np.random.default_rng(1)
    shapes = {"rows": (48, M, 1, 1), "mixed": (24, 24, taps, taps), "columns": (M, 48, 1, 1)}
    for name, shape in shapes.items():
        array = rng.standard_normal(shape).astype(np.float32) / 10
        source.graph.initializer.append(numpy_helper.from_array(array, name))
    feeds = {"x": rng.standard_normal((2, M, SIDE, SIDE)).astype(np.float32)}
    found, wanted = (
        InferenceSession(source, providers=[f"{kind}ExecutionProvider"]).run(None, feeds)[0]
        for kind in ("CPU", "Reference")
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5 * np.abs(wanted).max())


RANGED = "q, s, z = DynamicQuantizeLinear (c) d = DequantizeLinear (q, s, z)"


def test_what_is_quantized_by_the_range_of_all_of_it_stays_blocked() -> None:
    found = lanes_of(model(f"{RANGED} y = Conv (d, v)"), Target.host())
    assert {"c", "q"} <= found.keys()


def test_what_is_quantized_and_has_its_channels_moved_is_not_blocked() -> None:
    body = f"{RANGED} t = Transpose <perm = [1, 0, 2, 3]> (q) y = Cast <to = 1> (t)"
    assert "q" not in lanes_of(model(body), Target.host())


def test_depthwise_sums_of_bytes_are_right_whatever_the_range() -> None:
    rng = np.random.default_rng(3)
    found = model(
        f"""{RANGED} i = ConvInteger <group = {M}, pads = [1, 1, 1, 1]> (q, own, z)
            f = Cast <to = 1> (i) y = Mul (f, s)"""
    )
    own = rng.integers(-127, 128, (M, 1, 3, 3)).astype(np.int8)
    found.graph.initializer.append(numpy_helper.from_array(own, "own"))
    assert {"c", "q"} <= lanes_of(found, Target.host()).keys()
    session = InferenceSession(found.SerializeToString())
    for shift in (0.0, 3.0, -3.0):  # zero points on both sides and within
        x = (rng.standard_normal((2, M, SIDE, SIDE)) + shift).astype(np.float32)
        (expected,) = ReferenceEvaluator(found).run(None, {"x": x})
        (y,) = session.run(None, {"x": x})
        step = np.abs(expected).max() / 127
        assert np.abs(y - expected).max() <= step  # a byte on the other side of a tie
        assert np.abs(y - expected).mean() <= step / 100
