"""Nodes without machine code in kept programs: they run as they did in the first session."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from fornix.compile.identity import processor
from fornix.errors import FornixError
from fornix.runtime import InferenceSession
from fornix.runtime.native import FEW_UNITS, NativeStep
from fornix.runtime.reports.planned import PlannedModel
from fornix.runtime.sizing.learned import Learned
from fornix.system import is_mappable
from tests.conformance.cases import cases
from tests.conformance.run import check_case
from tests.runtime.stored.kept_models import (
    assert_same,
    fresh,
    is_recalled,
    recalled,
    use_cache,
    write,
)

HEAD = '<ir_version: 8, opset_import: ["" : 18, "ai.onnx.ml" : 3]>'
X = np.arange(12, dtype=np.float32).reshape(3, 4) - 5

pytestmark = pytest.mark.skipif(
    not (is_mappable() and processor()), reason="programs are kept on Linux"
)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_cache(tmp_path / "cache", monkeypatch)


FOUND = """
    f (float[N, 4] x) => (float[K, 4] y, int64 k)
    <float[4] b = {1, 2, 3, 4}, int64[1] axes = {1}, float zero = {0}> {
        p = Add (x, b)
        s = ReduceSum <keepdims = 0> (p, axes)
        positive = Greater (s, zero)
        places = NonZero (positive)
        turned = Transpose <perm = [1, 0]> (places)
        k0 = Size (places)
        rows = GatherND (p, turned)
        y = Exp (rows)
        k = Identity (k0)
    }"""
WORDS = """
    f (string[N] w, float[N] x) => (string[N] y, float[N] z)
    <string[2] upper = {"A", "B"}, float[2] b = {1, 2}> {
        z = Add (x, b)
        y = StringConcat (w, upper)
    }""".replace("18", "20")
LOOP = """
    f (int64 n, float[N] x) => (float[N] y, float[M, N] all)
    <bool yes = {1}, float[1] b = {0.5}> {
        s = Mul (x, b)
        y0, all = Loop (n, yes, s)
        <body = g (int64 i, bool c, float[N] a) => (bool d, float[N] e, float[N] o) {
            d = Identity (c)
            t = Add (a, b)
            e = Mul (t, x)
            o = Identity (t)
        }>
        y = Neg (y0)
    }"""
SEQUENCES = """
    f (seq(float[N]) xs, float[N] x) => (seq(float[N]) ys, float[N] y)
    <int64 zero = {0}> {
        two = Add (x, x)
        ys = SequenceInsert (xs, two)
        first = SequenceAt (ys, zero)
        y = Neg (first)
    }"""
NOTHING_NATIVE = """
    f (string[N] w) => (string[M] y, int64[M] places)
    { y, places = Unique (w) }""".replace(
    "y, places = Unique (w)", "y, places, _inverse, _counts = Unique (w)"
)
CASES: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "extents that data tell": (FOUND, [{"x": X}, {"x": X - 100}, {"x": X[:1]}]),
    "strings": (
        WORDS,
        [{"w": np.array(["x", "y"], object), "x": np.ones(2, np.float32)}],
    ),
    "bodies": (
        LOOP,
        [{"n": np.array(n), "x": X[:m, 0] / 9} for n, m in ((3, 3), (3, 3), (0, 2), (4, 2))],
    ),
    "sequences": (SEQUENCES, [{"xs": [X[0]], "x": X[1]}, {"xs": [], "x": X[1]}]),
    "nothing else": (NOTHING_NATIVE, [{"w": np.array(["b", "a", "b"], object)}]),
}


@pytest.mark.parametrize("case", list(CASES))
def test_the_next_process_runs_them_as_the_first_one_did(tmp_path: Path, case: str) -> None:
    text, runs = CASES[case]
    path = write(tmp_path / "model.onnx", HEAD.replace("18", "20") + text)
    first = InferenceSession(path)
    wanted = [first.run(None, feeds) for feeds in runs]
    assert not is_recalled(first)
    session, other = recalled(path), fresh(path)
    for feeds, results in zip(runs, wanted, strict=True):
        assert_same(session.run(None, feeds), results)
        assert_same(other.run(None, feeds), results)
    assert is_recalled(session)
    assert session.get_inputs() == other.get_inputs()
    assert session.get_outputs() == other.get_outputs()
    assert [place.op_type for place in session.placement()] == [
        place.op_type for place in other.placement()
    ]


def test_what_several_parts_compute_where_they_read_it_is_kept_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both parts behind a NonZero may have to run the kernel of the Unsqueeze that they share."""
    text = """f (float[N] x) => (float[1, K] a, float[1, L] b) <int64[1] ahead = {0}> {
        row = Unsqueeze (x, ahead)
        p = NonZero (x)
        i = Squeeze (p, ahead)
        g = Gather <axis = 1> (row, i)
        a = Exp (g)
        h = Floor (a)
        q = NonZero (h)
        turned = Transpose <perm = [1, 0]> (q)
        shape = Shape <start = 0, end = 1> (turned)
        size = Squeeze (shape, ahead)
        zero = Constant <value_int = 0> ()
        one = Constant <value_int = 1> ()
        j = Range (zero, size, one)
        k = Gather <axis = 1> (row, j)
        b = Neg (k)
    }"""
    path = write(tmp_path / "model.onnx", HEAD + text)
    feeds = {"x": np.array([1, 0, 3, -2, 0], np.float32)}
    wanted = InferenceSession(path).run(None, feeds)
    monkeypatch.delattr(PlannedModel, "run")
    for _ in range(2):
        assert_same(recalled(path).run(None, feeds), wanted)


def test_errors_of_kept_nodes_name_them(tmp_path: Path) -> None:
    text = """f (float[N] x, int64[K] i) => (float[M] y) {
        s = Neg (x)
        p = NonZero (s)
        q = Squeeze (p)
        [the_node] y = GatherElements (s, i)
        z = Size (q)
    }""".replace("[the_node] ", "").replace("=> (float[M] y)", "=> (float[M] y, int64 z)")
    model = parser.parse_model(HEAD + text)
    model.graph.node[2].name = "the node"
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    feeds = {"x": np.zeros((3,), np.float32), "i": np.array([7])}
    messages = []
    for made in (InferenceSession, recalled, fresh):
        with pytest.raises(FornixError) as found:
            made(path).run(None, feeds)
        messages.append((type(found.value), str(found.value)))
    assert messages[0] == messages[1] == messages[2]
    feeds["x"] = np.zeros((2, 2), np.float32).reshape(4)[:0]
    assert recalled(path).run(["z"], feeds | {"i": np.zeros(0, np.int64)})[0] == 0


def test_weights_that_kept_nodes_read_stay_in_the_model(tmp_path: Path) -> None:
    table = np.random.default_rng(0).standard_normal((40000, 4), np.float32)
    model = parser.parse_model(
        HEAD
        + """f (float[N] x) => (float[K, 4] y) {
        p = NonZero (x)
        q = Transpose <perm = [1, 0]> (p)
        y = GatherND (t, q)
    }"""
    )
    model.graph.initializer.append(numpy_helper.from_array(table, "t"))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    x = np.array([0, 1, 0, 2], np.float32)
    wanted = InferenceSession(path).run(None, {"x": x})
    (plan,) = (tmp_path / "cache").glob("*.plan")
    assert plan.stat().st_size < table.nbytes / 4
    session = recalled(path)
    assert_same(session.run(None, {"x": x}), wanted)
    np.testing.assert_array_equal(wanted[0], table[[1, 3]])
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(FornixError, match="the file must stay as it is"):
        session.run(None, {"x": x})
    assert not is_recalled(InferenceSession(path))


def test_functions_of_the_model_come_with_nodes_that_call_them(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 18, "own" : 1]>
    f (float[N] x) => (int64[M] y) { a = Neg (x) y = own.Places (a) }
    <domain: "own", opset_import: ["" : 18]>
    Places (v) => (w) {
        p = NonZero (v)
        axes = Constant <value_ints = [0]> ()
        w = Squeeze (p, axes)
    }"""
    path = write(tmp_path / "model.onnx", text)
    x = np.array([0, 1, 0, 2], np.float32)
    wanted = InferenceSession(path).run(None, {"x": x})
    assert_same(recalled(path).run(None, {"x": x}), wanted)
    np.testing.assert_array_equal(wanted[0], [1, 3])


def test_outputs_that_are_stored_are_kept(tmp_path: Path) -> None:
    text = HEAD + "f (float[N] x) => (float[N] y, float[2] c) <float[2] c = {3, 4}> { y = Neg (x) }"
    path = write(tmp_path / "model.onnx", text)
    InferenceSession(path)
    session = recalled(path)
    for _ in range(2):
        y, c = session.run(None, {"x": X[0]})
        np.testing.assert_array_equal(y, -X[0])
        np.testing.assert_array_equal(c, [3, 4])
        c[:] = 0  # the caller's own


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system that forks is required")
def test_a_child_runs_what_its_parent_was_making_ready(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", HEAD + FOUND)
    code = """
import os, sys, numpy, fornix
session = fornix.InferenceSession(sys.argv[1])
child = os.fork()
if not child:
    y, k = session.run(None, {"x": numpy.ones((2, 4), numpy.float32)})
    os._exit(0 if k == 2 else 1)
sys.exit(os.waitpid(child, 0)[1])
"""
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)


def test_random_numbers_differ_from_run_to_run(tmp_path: Path) -> None:
    node = helper.make_node("RandomNormal", [], ["r"], shape=[64])
    add = helper.make_node("Add", ["r", "x"], ["y"])
    x, y = (helper.make_tensor_value_info(name, 1, [64]) for name in "xy")
    graph = helper.make_graph([node, add], "random", [x], [y])
    imports = [helper.make_opsetid("", 18)]
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    InferenceSession(path)
    session = recalled(path)
    feeds = {"x": np.zeros(64, np.float32)}
    assert not np.array_equal(session.run(None, feeds)[0], session.run(None, feeds)[0])


def test_what_is_computed_of_tables_alone_is_there(tmp_path: Path) -> None:
    stream = np.random.default_rng(0)
    support, width = 60, 13
    node = helper.make_node(
        "SVMClassifier", ["x"], ["label", "y"], domain="ai.onnx.ml", kernel_type="RBF",
        kernel_params=[0.5, 0.0, 3.0], rho=[0.3, 0.1, 0.2], classlabels_ints=[0, 1, 2],
        vectors_per_class=[support // 3] * 3,
        support_vectors=stream.standard_normal(support * width).tolist(),
        coefficients=stream.standard_normal(2 * support).tolist(),
    )  # fmt: skip
    x = helper.make_tensor_value_info("x", 1, ["N", width])
    label, y = (helper.make_tensor_value_info(n, t, None) for n, t in (("label", 7), ("y", 1)))
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    graph = helper.make_graph([node], "svm", [x], [label, y])
    path = tmp_path / "svm.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), path)
    feeds = {"x": stream.standard_normal((3, width)).astype(np.float32)}
    wanted = InferenceSession(path).run(None, feeds)
    session = recalled(path)
    assert_same(session.run(None, feeds), wanted)
    assert_same(session.run(None, feeds), wanted)


def test_native_steps_beside_kernels_have_a_short_way_when_they_are_recalled(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "words.onnx", HEAD.replace("18", "20") + WORDS)
    feeds = {"w": np.array(["a", "b"], object), "x": np.array([3, 4], np.float32)}
    InferenceSession(path).run(None, feeds)
    session = recalled(path)
    programs = session._programs
    assert programs is not None
    native = [step for step in programs.general.steps if isinstance(step, NativeStep)]
    assert native
    assert all(step.short is not None for step in native)
    for x in (feeds["x"], feeds["x"] * 2):
        y, z = session.run(None, {**feeds, "x": x})
        assert list(y) == ["aA", "bB"]
        np.testing.assert_array_equal(z, x + np.array([1, 2], np.float32))


def test_short_steps_are_not_prepared_for_each_of_their_extents(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", HEAD + FOUND)
    first, second = InferenceSession(path), recalled(path)
    for rows in (3, 5, 2000, 3):
        x = np.resize(X, (rows, 4))
        assert_same(second.run(None, {"x": x}), first.run(None, {"x": x}))
    assert second._programs is not None
    steps = [x for x in second._programs.general.steps if isinstance(x, NativeStep)]
    assert steps
    assert not any(step.bounds for step in steps if len(step.units) <= FEW_UNITS)


def test_a_kept_step_that_kernels_cannot_do_alone_is_done_by_those_of_the_model() -> None:
    """Extents of 1 are not what the code is made for, and it needs no shape of the zeros."""
    case = cases()["test_affine_grid_3d_expanded"]
    for _ in range(2):
        session = InferenceSession(case.model)
        check_case(case, session)
    assert is_recalled(session)


FOREMOST = """
    f (float[N, 4] x, bool[N] m) => (float[J, 6] y, int64 z, int64[1] s)
    <int64[1] three = {3}, int64[4] around = {1, 0, 0, 2}> {
        places = NonZero (m)
        columns = Transpose <perm = [1, 0]> (places)
        rows = GatherND (x, columns)
        s = Shape <start = 0, end = 1> (rows)
        k = Min (s, three)
        b, z = TopK <axis = 0> (rows, k)
        y = Pad (b, around)
    }"""


def test_kernels_in_the_place_of_code_read_what_formulas_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "foremost.onnx", HEAD + FOREMOST)
    feeds = {"x": X, "m": np.zeros(3, bool)}
    expected = InferenceSession(path, providers=["ReferenceExecutionProvider"]).run(None, feeds)
    sessions = [fresh(path), InferenceSession(path), recalled(path)]
    monkeypatch.delattr(PlannedModel, "run")
    with mock.patch.object(Learned, "run", autospec=True, side_effect=Learned.run) as kernels:
        for session in sessions:
            assert_same(session.run(None, feeds), expected)
    assert kernels.call_count == len(sessions)
