"""Extents that only data tell, and that broadcast: equal, or one of them 1, from run to run."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from fornix import InferenceSession, SessionOptions
from fornix.errors import FornixError
from fornix.onnx import parser

HEAD = '<ir_version: 10, opset_import: ["" : 18]>\n'
Feeds = dict[str, Any]

COUNTED = """f (float[N, 4] x, float[N, 4] z, bool[N] c, bool[N] d, float[4, 4] w)
    => (float[A, B] y) {
        a = Compress <axis = 0> (x, c)
        b = Compress <axis = 0> (z, d)
        left = MatMul (a, w)
        BODY
    }"""
BODIES = {
    "a sum": "sum = Add (left, b) y = MatMul (sum, w)",
    "rows of both": "s = Mul (left, b) t = Sub (s, a) y = Softmax (t)",
    "a choice": "zero = Sub (b, b) p = Less (left, zero) y = Where (p, b, left)",
    "an addend": "u = Identity (w) t = Transpose (a) g = MatMul (a, w) y = Gemm (g, w, b)",
    "three": "s = Max (left, b, a) y = Tanh (s)",
    "batches": """one = Constant <value = int64[1] {1}> () two = Constant <value = int64[1] {2}> ()
        p = Unsqueeze (left, one) q = Unsqueeze (b, two) m = MatMul (p, q) n = Squeeze (m, two)
        y = Exp (n)""",
    "what is spread": "k = Shape (b) s = Expand (left, k) y = MatMul (s, w)",
}
EXTENTS = (5, 1, 3, 0)


def counted(rows: tuple[int, int], seed: int = 0) -> Feeds:
    random = np.random.default_rng(seed)
    x, z = random.standard_normal((2, 7, 4)).astype(np.float32)
    c, d = (random.permutation(7) < count for count in rows)
    return {"x": x, "z": z, "c": c, "d": d, "w": random.standard_normal((4, 4), np.float32)}


def results(session: InferenceSession, feeds: Feeds) -> list[Any] | str:
    try:
        return session.run(None, feeds)
    except FornixError as error:
        return str(error)


def agree(session: InferenceSession, reference: InferenceSession, feeds: Feeds) -> None:
    wanted, found = results(reference, feeds), results(session, feeds)
    if isinstance(wanted, str) or isinstance(found, str):
        assert found == wanted
        return
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
        assert one.dtype == other.dtype


@pytest.fixture(scope="module", params=BODIES)
def model(request: pytest.FixtureRequest) -> bytes:
    text = HEAD + COUNTED.replace("BODY", BODIES[request.param])
    return parser.parse_model(text).SerializeToString()


@pytest.mark.parametrize("threads", [1, 2])
def test_runs_in_any_order(model: bytes, threads: int) -> None:
    reference = InferenceSession(model, providers=["ReferenceExecutionProvider"])
    session = InferenceSession(model, SessionOptions(intra_op_num_threads=threads))
    pairs = list(product(EXTENTS, EXTENTS))
    order = np.random.default_rng(threads).integers(0, len(pairs), 60)
    for number, place in enumerate([*range(len(pairs)), *order]):
        agree(session, reference, counted(pairs[place], number % 3))


def test_runs_that_broadcast_are_not_left_to_kernels(model: bytes) -> None:
    session = InferenceSession(model)
    for rows in [(5, 5), (5, 1), (1, 5), (1, 1), (3, 1)]:
        feeds = counted(rows)
        found = results(session, feeds)
        assert session._programs is not None
        if not isinstance(found, str):
            np.testing.assert_array_equal(session._programs.run(feeds, ["y"])[0], found[0])


def test_extents_that_were_taken_for_equal_are_stretched_in_machine_code() -> None:
    text = HEAD + COUNTED.replace("BODY", BODIES["rows of both"])
    session = InferenceSession(parser.parse_model(text))
    session.run(None, counted((5, 5)))
    before = [place.op_type for place in session.placement()]
    session.run(None, counted((5, 1)))
    after = {place.op_type: bool(place.kernels) for place in session.placement()}
    assert "Stretched" not in before
    assert after["Stretched"]
    assert all(after.values())


LAST = """f (TYPE[A, N] x, TYPE[M, B] z, bool[N] c, bool[B] d, bool[N] e) => (TYPE[P, Q] y) {
    one = Constant <value = int64[1] {1}> ()
    k = Compress <axis = 1> (x, c)
    l = Compress <axis = 1> (z, d)
    m = Compress <axis = 0> (e, e)
    sum = Add (k, l)
    y = Where (m, sum, k)
}"""


MORE_TYPES = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("int64", "double", "uint8", "int32")
]


@pytest.mark.parametrize("type_", ["float", "float16", *MORE_TYPES])
def test_extents_of_all_axes_and_types(type_: str) -> None:
    dtype = {"float": "f4", "int64": "i8", "float16": "f2", "double": "f8", "uint8": "u1"}
    text = parser.parse_model(HEAD + LAST.replace("TYPE", type_)).SerializeToString()
    reference = InferenceSession(text, providers=["ReferenceExecutionProvider"])
    session = InferenceSession(text)
    random = np.random.default_rng(3)
    sizes = (1, 2, 40)
    for counts in product(sizes, sizes, sizes, sizes, sizes):
        if random.random() < (0.9 if len({*counts} - {1}) > 1 else 0.6):
            continue
        a, m, *told = counts
        x, z = (random.integers(0, 9, (n, 40)).astype(dtype.get(type_, "i4")) for n in (a, m))
        masks = [random.permutation(40) < n for n in told]
        agree(session, reference, {"x": x, "z": z, **dict(zip("cde", masks, strict=True))})


RANGES = """f (float[N, 4] x, int64[I] counts) => (float[4] y, float[I, 4] rows)
<int64 zero = {0}, int64 one = {1}, int64[1] first = {0}, int64[1] second = {1}> {
    trips = Size (counts)
    yes = Constant <value = bool {1}> ()
    start = ConstantOfShape <value = float[1] {0}> (FOUR)
    y, rows = Loop (trips, yes, start) <body = b (int64 i, bool go, float[4] before)
        => (bool keep, float[4] after, float[4] row) {
            keep = Identity (go)
            k = Gather (counts, i)
            places = Range (zero, k, one)
            numbers = Cast <to = 1> (places)
            column = Unsqueeze (numbers, second)
            sum = Add (x, column)
            row = ReduceSum <keepdims = 0> (sum, first)
            after = Add (before, row)
        }>
}""".replace("(FOUR)", "(four)").replace("int64 zero", "int64[1] four = {4}, int64 zero")
MASKS = """f (float[N, 4] x, bool[I, N] c, bool[I, N] d) => (float[4] y)
<int64 zero = {0}, int64[1] first = {0}, int64[1] four = {4}> {
    shape = Shape (c)
    trips = Gather (shape, zero)
    yes = Constant <value = bool {1}> ()
    start = ConstantOfShape <value = float[1] {0}> (four)
    y = Loop (trips, yes, start) <body = b (int64 i, bool go, float[4] before)
        => (bool keep, float[4] after) {
            keep = Identity (go)
            one = Gather (c, i)
            other = Gather (d, i)
            p = Compress <axis = 0> (x, one)
            q = Compress <axis = 0> (x, other)
            product = Mul (p, q)
            sum = ReduceSum <keepdims = 0> (product, first)
            after = Add (before, sum)
        }>
}"""


def ranged(random: np.random.Generator, sizes: list[int]) -> Feeds:
    x = random.standard_normal((random.choice([1, 6]), 4)).astype(np.float32)
    return {"x": x, "counts": random.choice(sizes, random.integers(1, 9))}


def masked(random: np.random.Generator, sizes: list[int]) -> Feeds:
    x, rows = random.standard_normal((6, 4)).astype(np.float32), random.integers(1, 9)
    counts = random.choice(sizes, (2, rows))
    c, d = (np.array([random.permutation(6) < n for n in line]) for line in counts)
    return {"x": x, "c": c, "d": d}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("text", "fed"), [(RANGES, ranged), (MASKS, masked)])
def test_bodies_of_loops(text: str, fed: Any, threads: int) -> None:
    model = parser.parse_model(HEAD + text).SerializeToString()
    reference = InferenceSession(model, providers=["ReferenceExecutionProvider"])
    session = InferenceSession(model, SessionOptions(intra_op_num_threads=threads))
    random = np.random.default_rng(threads)
    for sizes in [[6], [6], [6], [6, 1], [1], [6, 1, 0], [6, 1, 6], [3], [6, 3, 1], [6, 1]]:
        for _ in range(3):
            agree(session, reference, fed(random, sizes))


@pytest.mark.parametrize(("text", "fed"), [(RANGES, ranged), (MASKS, masked)])
def test_loops_stay_one_call(text: str, fed: Any) -> None:
    session = InferenceSession(parser.parse_model(HEAD + text))
    random = np.random.default_rng(0)
    for sizes in [[6], [6], [6, 1], [6, 1], [6, 1]]:
        session.run(None, fed(random, sizes))
    assert session._programs is not None
    flow = session._programs.general.flow
    assert flow is not None
    for sizes in [[6], [1], [6, 1]]:
        feeds = fed(random, sizes)
        results = flow(feeds)
        assert results is not None
        for one, other in zip(results, session.run(None, feeds), strict=True):
            np.testing.assert_array_equal(one, other)
