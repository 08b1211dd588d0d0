"""Bodies of If, Loop and Scan: the next process has their programs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from fornix.compile.identity import processor
from fornix.runtime import InferenceSession, making
from fornix.runtime.control.bodies import CompiledBody
from fornix.runtime.shortcuts.generic import ShortWay
from fornix.runtime.stored import inner
from fornix.system import is_mappable
from tests.runtime.stored.kept_models import recalled, use_cache, write

HEAD = '<ir_version: 8, opset_import: ["" : 18]>'
CHOICE = """
    f (float[N, 4] x, bool c, string[M] names) => (float[A, B] y, string[M] same)
    <float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}> {
        same = Identity (names)
        z = Exp (x)
        y = If (c) <
            then_branch = one () => (float[A, B] a) {
                p = MatMul (z, w)
                a = Relu (p)
            },
            else_branch = other () => (float[A, B] b) {
                t = Transpose <perm = [1, 0]> (z)
                b = MatMul (t, z)
            }
        >
    }"""
TURNS = """
    f (float[N, 4] x, int64 n, string[M] names) => (float[A, B] y, string[M] same) {
        same = Identity (names)
        true = Constant <value = bool {1}> ()
        y = Loop (n, true, x) <
            body = turn (int64 i, bool go, float[N, 4] before) => (bool on, float[N, 4] after) {
                on = Identity (go)
                half = Constant <value = float {0.5}> ()
                h = Mul (before, half)
                after = Tanh (h)
            }
        >
    }"""
X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)
W = np.arange(1, 17, dtype=np.float32).reshape(4, 4)
NAMES = np.array(["a", "b"], object)
TOLERANCE = 1e-5
"""Of sums and exponentials in float32."""

pytestmark = pytest.mark.skipif(
    not (is_mappable() and processor()), reason="programs are kept on Linux"
)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_cache(tmp_path / "cache", monkeypatch)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Models that are compiled from now on."""
    found: list[object] = []
    make = making.make_program

    def noted(source: Any, *arguments: Any, **more: Any) -> Any:
        found.append(source)
        return make(source, *arguments, **more)

    monkeypatch.setattr(making, "make_program", noted)
    return found


def choice(x: Any, *, c: bool) -> Any:
    z = np.exp(x.astype(np.float64))
    return np.maximum(z @ W, 0) if c else z.T @ z


def turns(x: Any, n: int) -> Any:
    found = x.astype(np.float64)
    for _ in range(n):
        found = np.tanh(found / 2)
    return found


def check(session: InferenceSession, feeds: dict[str, Any], wanted: Any) -> None:
    found, names = session.run(None, {**feeds, "names": NAMES})
    np.testing.assert_allclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE)
    np.testing.assert_array_equal(names, NAMES)


def test_branches_run_from_the_first_run_on_without_compiling(
    tmp_path: Path, made: list[object]
) -> None:
    path = write(tmp_path / "m.onnx", HEAD + CHOICE)
    first = InferenceSession(path)
    for c in (True, False) * 3:
        check(first, {"x": X, "c": np.array(c)}, choice(X, c=c))
    assert made
    second = recalled(path)
    made.clear()
    for c in (True, False) * 3:
        check(second, {"x": X, "c": np.array(c)}, choice(X, c=c))
    assert not made


def test_other_extents_are_compiled_and_kept_too(tmp_path: Path, made: list[object]) -> None:
    path = write(tmp_path / "m.onnx", HEAD + CHOICE)
    first = InferenceSession(path)
    for _ in range(2):
        check(first, {"x": X, "c": np.array(1, bool)}, choice(X, c=True))
    for rows in (5, 7, 9, 2):
        x = np.resize(X, (rows, 4))
        check(first, {"x": x, "c": np.array(1, bool)}, choice(x, c=True))
    made.clear()
    second = recalled(path)
    for rows in (3, 11, 4):
        x = np.resize(X, (rows, 4))
        check(second, {"x": x, "c": np.array(1, bool)}, choice(x, c=True))
    assert not made


def test_loops_compile_nothing_in_the_next_process(tmp_path: Path, made: list[object]) -> None:
    path = write(tmp_path / "m.onnx", HEAD + TURNS)
    first = InferenceSession(path)
    for n in (2, 3, 0, 4):
        check(first, {"x": X, "n": np.array(n)}, turns(X, n))
    second = recalled(path)
    made.clear()
    for n in (3, 0, 1, 5):
        check(second, {"x": X, "n": np.array(n)}, turns(X, n))
    assert not made


def test_the_next_process_needs_no_compiler_for_bodies(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", HEAD + CHOICE)
    code = """
import sys, numpy as np, fornix
session = fornix.InferenceSession(sys.argv[1])
x = np.arange(12, dtype=np.float32).reshape(3, 4) / 4
for c in (True, False) * 3:
    feeds = {"x": x, "c": np.array(c), "names": np.array(["a"], object)}
    print(session.run(None, feeds)[0].tobytes().hex())
print(*(name for name in ("llvmlite", "fornix.passes") if name in sys.modules))
"""
    said = []
    for _ in range(2):
        command = [sys.executable, "-c", code, str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        said.append(done.stdout.splitlines())
    assert said[1][2:6] == said[0][2:6]  # of the first two in either, one is of NumPy
    assert len(said[1]) == 7
    assert said[1][-1] == ""


GROWS = """
    f (float[1, 4] x, int64 n, string[M] names) => (float[A, 4] y, string[M] same)
    <int64[1] rows = {0}> {
        same = Identity (names)
        true = Constant <value = bool {1}> ()
        y = Loop (n, true, x) <
            body = turn (int64 i, bool go, float[K, 4] before) => (bool on, float[L, 4] after) {
                on = Identity (go)
                mean = ReduceMean <keepdims = 1> (before, rows)
                after = Concat <axis = 0> (before, mean)
            }
        >
    }"""
ROWS = """
    f (float[4] x, float[R, 4] n, string[M] names) => (float[4] y, float[R, 4] z, string[M] same) {
        same = Identity (names)
        y, z = Scan (x, n) <
            num_scan_inputs = 1,
            body = turn (float[4] a, float[4] r) => (float[4] b, float[4] q) {
                b = Add (a, r)
                q = Tanh (b)
            }
        >
    }"""
MEETS = """
import sys, numpy as np, fornix
session = fornix.InferenceSession(sys.argv[1])
feeds = dict(np.load(sys.argv[2]))
for _ in range(int(sys.argv[3])):
    found = session.run(None, feeds)
print(*(array.tobytes().hex() for array in found))
named = ("llvmlite", "google.protobuf", "numpy.random", "fornix.infer", "fornix.ops.op")
print(*(name for name in named if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("text", "feeds"),
    [
        (CHOICE, {"x": X, "c": np.array(1, bool)}),
        (TURNS, {"x": X, "n": np.array(3)}),
        pytest.param(ROWS, {"x": X[0], "n": X}, marks=pytest.mark.slow),
        pytest.param(GROWS, {"x": X[:1], "n": np.array(5)}, marks=pytest.mark.slow),
    ],
)
def test_what_another_process_met_twice_is_one_call_from_the_first_run_on(
    tmp_path: Path, text: str, feeds: dict[str, Any]
) -> None:
    """It asks no operator what it means, and reads no message."""
    for part in (", string[M] names", ", string[M] same", "same = Identity (names)"):
        text = text.replace(part, "")  # which run their kernels
    path, given = write(tmp_path / "m.onnx", HEAD + text), tmp_path / "feeds.npz"
    np.savez(given, **feeds)
    said = []
    for runs in ("4", "1"):
        command = [sys.executable, "-c", MEETS, str(path), str(given), runs]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        said.append(done.stdout.splitlines())
    assert said[0][0] == said[1][0]
    assert not said[1][1]


def test_values_grow_in_the_next_process_as_they_did_in_the_first_one(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", HEAD + GROWS)
    for session in (InferenceSession(path), recalled(path)):
        for n in (0, 1, 2, 3, 7, 7, 0):
            y, _ = session.run(None, {"x": X[:1], "n": np.array(n), "names": NAMES})
            np.testing.assert_allclose(y, np.repeat(X[:1], n + 1, 0), rtol=TOLERANCE)


def twins(*factors: float) -> Any:
    """A model of Ifs that differ in what their branches store alone."""
    nodes = []
    for k, factor in enumerate(factors):
        table = numpy_helper.from_array(np.full((4, 4), factor, np.float32), f"t{k}")
        then = helper.make_graph(
            [helper.make_node("MatMul", ["z", f"t{k}"], [f"a{k}"])], "then", [],
            [helper.make_tensor_value_info(f"a{k}", TensorProto.FLOAT, ["A", 4])], [table],
        )  # fmt: skip
        other = helper.make_graph(
            [helper.make_node("Neg", ["z"], [f"b{k}"])], "other", [],
            [helper.make_tensor_value_info(f"b{k}", TensorProto.FLOAT, ["A", 4])],
        )  # fmt: skip
        bodies = {"then_branch": then, "else_branch": other}
        nodes.append(helper.make_node("If", ["c"], [f"y{k}"], **bodies))
    before = [
        helper.make_node("Exp", ["x"], ["z"]),
        helper.make_node("Identity", ["names"], ["same"]),
    ]
    values = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4]),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        helper.make_tensor_value_info("names", TensorProto.STRING, ["M"]),
    ]
    results = [
        helper.make_tensor_value_info(f"y{k}", TensorProto.FLOAT, ["A", 4])
        for k in range(len(factors))
    ]
    graph = helper.make_graph([*before, *nodes], "g", values, results)
    graph.output.append(helper.make_tensor_value_info("same", TensorProto.STRING, ["M"]))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_bodies_that_store_other_numbers_have_programs_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(twins(1, 2, 3).SerializeToString())
    z = np.exp(X.astype(np.float64))
    for session in (InferenceSession(path), recalled(path)):
        for _ in range(3):
            found = session.run(None, {"x": X, "c": np.array(1, bool), "names": NAMES})
            for factor, y in zip((1, 2, 3), found, strict=False):
                wanted = z @ np.full((4, 4), factor)
                np.testing.assert_allclose(y, wanted, rtol=TOLERANCE)


def test_bodies_of_more_data_than_are_worth_a_look_are_not_kept(
    tmp_path: Path, made: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inner, "MAX_BYTES", 8)
    path = tmp_path / "m.onnx"
    path.write_bytes(twins(1).SerializeToString())
    feeds = {"x": X, "c": np.array(1, bool), "names": NAMES}
    wanted = np.exp(X.astype(np.float64)) @ np.ones((4, 4))
    for session in (InferenceSession(path), recalled(path)):
        made.clear()
        for _ in range(3):
            found = session.run(None, feeds)[0]
            np.testing.assert_allclose(found, wanted, rtol=TOLERANCE)
        assert made


def test_programs_for_ranks_that_feeds_tell_are_kept(tmp_path: Path, made: list[object]) -> None:
    path = write(tmp_path / "m.onnx", HEAD + "f (float[] x) => (float[] y) { y = Exp (x) }")
    shapes = [(3,), (2, 3), (2, 1, 3)]
    for number, session in enumerate((InferenceSession(path), recalled(path))):
        made.clear()
        for shape in shapes * 2:
            x = np.resize(X, shape)
            np.testing.assert_allclose(session.run(None, {"x": x})[0], np.exp(x), rtol=TOLERANCE)
        assert len(made) == (0 if number else len(shapes))


ASKED = """<ir_version: 8, opset_import: ["" : 7]>
    f (float[N, 4] x, bool c, string[M] names) => (float[A, 8] y, string[M] same) {
        same = Identity (names)
        z = Neg (x)
        y = If (c) <
            then_branch = one () => (float[A, 8] a) {
                r = Upsample <mode = "nearest", scales = [1.5, 2.0]> (z)
                a = Relu (r)
            },
            else_branch = other () => (float[A, 8] b) { b = Concat <axis = 1> (z, z) }
        >
    }"""


def test_kept_bodies_have_no_short_way_where_rules_are_asked_of_extents(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", ASKED)
    first = InferenceSession(path)
    feeds = [
        {"x": np.resize(X, (rows, 4)), "c": np.array(1, bool), "names": NAMES}
        for rows in (3, 5, 3, 4, 7, 1, 6, 5)
    ]
    wanted = [first.run(None, given)[0] for given in feeds]
    second = recalled(path)
    for _ in range(2):
        for given, y in zip(feeds, wanted, strict=True):
            np.testing.assert_array_equal(second.run(None, given)[0], y)
    ways = [
        program.short
        for body in bodies(second)
        for family in body._families.values()
        for _, program in family.programs
        if program is not None
    ]
    assert ways
    assert not any(isinstance(way, ShortWay) and way.is_open for way in ways)


def bodies(session: InferenceSession) -> list[CompiledBody]:
    """Those of a session's nodes."""
    assert session._programs is not None
    controls = [step.control for step in session._programs.general.steps]
    plans = [control.plan for control in controls if control is not None]
    return [body for plan in plans for body in plan.bodies.values() if is_compiled(body)]


def is_compiled(body: object) -> TypeGuard[CompiledBody]:
    return isinstance(body, CompiledBody)
