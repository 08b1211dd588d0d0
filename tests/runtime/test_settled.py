"""Axes, sizes, pads and bounds that are fed: numbers that come twice have programs."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from onnx import parser

import fornix
from fornix.errors import FornixError
from fornix.runtime import InferenceSession, SessionOptions
from fornix.runtime.program import Program
from fornix.runtime.programs import MAX_MET, MAX_PROGRAMS
from fornix.runtime.settling import MAX_NODES, telling

HEAD = '<ir_version: 8, opset_import: ["" : 20, "com.microsoft" : 1]>\n'
SLICE = "f (float[h, w] x, int64[n] a, int64[m] b) => (float[] y) { y = Slice (x, a, b) }"
SUMS = "f (float[h, w] x, int64 a) => (float[] y) { z = Exp (x) y = CumSum (z, a) }"


def session(
    text: str, provider: str = "CPUExecutionProvider", threads: int = 1
) -> InferenceSession:
    options = SessionOptions(intra_op_num_threads=threads)
    return InferenceSession(parser.parse_model(HEAD + text), options, providers=[provider])


def ints(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


CUT = "f (float[h, w] x, int64[2] a, int64[2] b) => (float[] y) { z = Exp (x) y = Slice (z, a, b) }"
SHAPED = "f (float[h, w] x, int64[2] s) => (float[] y) { z = Exp (x) y = Reshape (z, s) }"
CASES = {
    CUT: [
        {"a": ints(1, 0), "b": ints(3, 6)},
        {"a": ints(-3, 1), "b": ints(-1, 6)},
        {"a": ints(0, -2), "b": ints(4, -1)},
    ],
    SHAPED: [{"s": ints(*s)} for s in ((3, 8), (-1, 8), (0, -1), (12, 2), (2, -1))],
    SLICE: [{"a": ints(1), "b": ints(3)}, {"a": ints(0, 1), "b": ints(-1, 9)}],
    SUMS: [{"a": np.array(0)}, {"a": np.array(-1)}],
    "f (float[h, w] x, int64[n] p, float v) => (float[] y) { y = Pad (x, p, v) }": [
        {"p": ints(1, 2, 3, 4), "v": np.array(2, np.float32)},
        {"p": ints(0, -1, 2, 0), "v": np.array(-0.0, np.float32)},
    ],
    'f (float[h, w] x, int64[n] p) => (float[] y) { y = Pad <mode = "reflect"> (x, p) }': [
        {"p": ints(1, 2, 3, 1)},
        {"p": ints(0, 0, 2, 3)},
    ],
    "f (float[h, w] x, int64[n] s) => (float[] y) { y = CenterCropPad (x, s) }": [
        {"s": ints(5, 3)},
        {"s": ints(0, 6)},
    ],
    "f (float[h, w] x, int64[n] s) => (float[] y) { z = Exp (x) y = ReduceSum (z, s) }": [
        {"s": ints(1)},
        {"s": ints(-2)},
        {"s": ints()},
    ],
    "f (float[h, w] x, int64[1] s) => (float[] y) { y = ReduceLogSumExp <keepdims = 0> (x, s) }": [
        {"s": ints(0)},
        {"s": ints(-1)},
    ],
    """f (float[h, w] x, int32 s) => (float[] y) {
        z = com.microsoft.ExpandDims (x, s) y = Neg (z) }""": [
        {"s": np.array(0, np.int32)},
        {"s": np.array(-1, np.int32)},
    ],
    """f (float[h, w] x, bool t) => (float[] y, bool[] m) {
        zero = Constant <value = float {0}> ()
        y, m = Dropout (x, zero, t) }""": [{"t": np.array(False)}, {"t": np.array(True)}],
    "f (float[h, w] x, int64 n) => (float[] y, float[] z) { z = HannWindow (n) y = Neg (x) }": [
        {"n": np.array(0)},
        {"n": np.array(1)},
        {"n": np.array(40)},
    ],
    """f (float[h, w] x, int64 n, int64 l, int64 r, float a, float b) => (float[] y) {
        y = MelWeightMatrix (n, l, r, a, b) }""": [
        {
            "n": np.array(count),
            "l": np.array(64),
            "r": np.array(8000),
            "a": np.array(20, np.float32),
            "b": np.array(4000, np.float32),
        }
        for count in (1, 7)
    ],
    "f (float[h, w] x, float a, float b, float d) => (float[] y) { y = Range (a, b, d) }": [
        dict(zip("abd", np.array(three, np.float32), strict=True))
        for three in ((0, 5, 1), (3, -2, -0.5), (1, 1, 1))
    ],
    "f (float[h, w] x, int64[n] s) => (float[] y) { y = Expand (x, s) }": [
        {"s": ints(2, 1, 1)},
        {"s": ints(1)},
        {"s": ints(3, 2, 4, 6)},
    ],
    "f (float[h, w] x, int64[n] s) => (float[] y, float[] z) { y, z = Split <axis = 1> (x, s) }": [
        {"s": ints(1, 5)},
        {"s": ints(4, 2)},
        {"s": ints(6, 0)},
    ],
    "f (float[h, w] x, int64[n] s) => (float[] y) { z = Tile (x, s) y = Neg (z) }": [
        {"s": ints(2, 3)},
        {"s": ints(1, 1)},
        {"s": ints(2, 0)},
    ],
    "f (float[h, w] x, int64[n] s) => (float[] y) { z = Unsqueeze (x, s) y = Neg (z) }": [
        {"s": ints(0)},
        {"s": ints(1, 3)},
    ],
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("text", CASES)
def test_numbers_that_are_fed_have_programs_and_serve_no_others(
    text: str, threads: int, rng: np.random.Generator
) -> None:
    found, plain = session(text, threads=threads), session(text, "ReferenceExecutionProvider")
    for turn in rng.permutation(len(CASES[text]) * 5) % len(CASES[text]):
        x = rng.standard_normal((4, 6)).astype(np.float32)
        feeds = CASES[text][turn] | {"x": x}
        wanted = plain.run(None, feeds)
        for ours, expected in zip(found.run(None, feeds), wanted, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-5)
            assert ours.dtype == expected.dtype
            assert ours.shape == expected.shape


def test_code_takes_over_in_the_second_run(monkeypatch: pytest.MonkeyPatch) -> None:
    found = session(SUMS)
    cases = [{"x": np.ones((3, 5), np.float32), "a": np.array(axis)} for axis in (0, 1)]
    for feeds in cases * 3:
        found.run(None, feeds)
    monkeypatch.setattr(Program, "run", None)  # each has a short way by now
    for axis, feeds in enumerate(cases):
        (y,) = found.run(None, feeds)
        np.testing.assert_allclose(y, np.exp(feeds["x"]).cumsum(axis), rtol=1e-6)
        y[:] = 0
        np.testing.assert_allclose(found.run(None, feeds)[0][0, 0], np.e, rtol=1e-6)


@pytest.mark.parametrize("text", [CUT, SHAPED])
def test_numbers_below_zero_have_code_as_others_have(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, plain = session(text), session(text, "ReferenceExecutionProvider")
    for numbers in CASES[text]:
        feeds = numbers | {"x": np.ones((4, 6), np.float32)}
        for _ in range(3):
            found.run(None, feeds)
        with monkeypatch.context() as patched:
            patched.setattr(Program, "run", None)  # it has a short way by now
            (y,) = found.run(None, feeds)
        np.testing.assert_allclose(y, plain.run(None, feeds)[0], rtol=1e-6)


def test_numbers_below_zero_may_be_of_what_no_program_is_made_for() -> None:
    text = """f (float[h, w] x, int64[1] a, int64[1] b) => (float[] y) {
        one = Constant <value = int64[1] {1}> ()
        c = Add (a, one)
        y = Slice (x, c, b)
    }"""
    found, x = session(text), np.arange(12, dtype=np.float32).reshape(4, 3)
    for start, end in [(-3, -1), (-3, -1), (0, 3), (-3, -1), (-3, 4), (-3, 4), (-3, 4)]:
        (y,) = found.run(None, {"x": x, "a": ints(start), "b": ints(end)})
        assert np.array_equal(y, x[start + 1 : end])


def test_objects_in_place_of_numbers_are_refused_in_every_run() -> None:
    found, x, wrong = session(SHAPED), np.ones((4, 6), np.float32), np.empty(2, object)
    wrong[:] = [ints(-1, 8), ints(-1, 8)]
    for _ in range(4):
        assert found.run(None, {"x": x, "s": ints(-1, 8)})[0].shape == (3, 8)
        with pytest.raises(FornixError, match=r"input 's' of the model is int64\[2\]"):
            found.run(None, {"x": x, "s": wrong})


def test_whoever_is_told_of_runs_that_have_no_code_learns_the_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found, x = session(SHAPED), np.ones((4, 6), np.float32)
    for columns in (2, 3, 4):
        found.run(None, {"x": x, "s": ints(-1, columns)})
    assert "this one as s[0] is -1, and code is made for 0 or more" in caplog.text


def test_lengths_need_no_program_of_their_own() -> None:
    found, x = session(SHAPED), np.ones((4, 6), np.float32)
    for shape in [(3, 8), (6, 4), (3, 8), (6, 4)] * 2:
        assert found.run(None, {"x": x, "s": ints(*shape)})[0].shape == shape
    assert found._programs is not None
    assert len(found._programs.programs) == 1


def test_an_array_that_is_changed_between_runs_holds_other_numbers() -> None:
    found, axis = session(SUMS), np.array(0)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for turn in range(8):
        axis[...] = turn // 2 % 2
        (y,) = found.run(None, {"x": x, "a": axis})
        np.testing.assert_allclose(y, np.exp(x).cumsum(turn // 2 % 2), rtol=1e-6)


def test_numbers_beyond_those_that_are_worth_it_are_left_to_kernels() -> None:
    found, x = session(SLICE), np.arange(400, dtype=np.float32).reshape(20, 20)
    for start in [*range(MAX_PROGRAMS + 4)] * 3:
        (y,) = found.run(None, {"x": x, "a": ints(start), "b": ints(19)})
        assert np.array_equal(y, x[start:19])


def test_numbers_that_change_from_run_to_run_are_left_to_kernels() -> None:
    found, x = session(SLICE), np.arange(100, dtype=np.float32)[:, None]
    for start in [*range(MAX_MET + 9), 0, 0, 0, 7, 7]:
        (y,) = found.run(None, {"x": x, "a": ints(start), "b": ints(99)})
        assert np.array_equal(y, x[start:99])


@pytest.mark.parametrize(
    ("text", "numbers", "message"),
    [
        (SUMS, {"a": np.array(2)}, "axis"),
        (SLICE, {"a": ints(1, 1, 1), "b": ints(2, 2, 2)}, "axes"),
        (SLICE, {"a": ints(1), "b": ints(2, 2)}, "starts"),
        (SHAPED, {"s": ints(-1, 5)}, "5"),
        (SHAPED, {"s": ints(-1, -1)}, "-1"),
        (SHAPED, {"s": ints(-2, 3)}, "-2"),
    ],
)
def test_numbers_that_do_not_fit_are_told_in_every_run(
    text: str, numbers: dict[str, Any], message: str
) -> None:
    found = session(text)
    feeds = {"x": np.ones((2, 3), np.float32), **numbers}
    good = {"x": feeds["x"], **CASES[text][2 if text == SHAPED else 0]}
    for given in [feeds, feeds, good, good, feeds, good]:
        if given is good:
            found.run(None, given)
            continue
        with pytest.raises(FornixError, match=message):
            found.run(None, given)


def test_other_extents_and_layouts_run_with_the_same_numbers(rng: np.random.Generator) -> None:
    found = session(SUMS)
    for rows in [3, 3, 3, 1, 0, 7, 3]:
        x = rng.standard_normal((5, rows)).astype(np.float32).T
        (y,) = found.run(None, {"x": x, "a": np.array(1)})
        np.testing.assert_allclose(y, np.exp(x).cumsum(1), rtol=1e-5)


def test_inputs_of_unknown_rank_come_with_numbers(rng: np.random.Generator) -> None:
    found = session(SUMS.replace("float[h, w]", "float[]"))
    for shape in [(3, 4), (5,), (2, 3, 4), (5,)] * 4:
        x = rng.standard_normal(shape).astype(np.float32)
        (y,) = found.run(None, {"x": x, "a": np.array(-1)})
        np.testing.assert_allclose(y, np.exp(x).cumsum(-1), rtol=1e-5)


def test_data_and_models_that_take_long_to_compile_are_not_settled() -> None:
    chain = " ".join(f"t{i + 1} = Exp (t{i})" for i in range(MAX_NODES))
    for text, names in [
        (SUMS, ["a"]),
        ("f (int64[4] x, int64[4] a) => (int64[] y) { y = Compress (x, a) }", []),
        (f"f (float[n] x, int64 a) => (float[] y) {{ t0 = CumSum (x, a) {chain} }}", []),
    ]:
        model = fornix.load(io.BytesIO(parser.parse_model(HEAD + text).SerializeToString()))
        assert telling(model) == names
