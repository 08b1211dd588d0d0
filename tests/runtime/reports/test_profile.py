from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from fornix.compile import peak
from fornix.compile.program import memo
from fornix.errors import Fail, InvalidArgument, NotSupported
from fornix.runtime import InferenceSession, SessionOptions, providers
from fornix.runtime.reports.profile import BODIES, NUMPY, Profile
from fornix.runtime.threads import Pool
from tests.runtime.test_providers import CHAIN, Adder, X

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'
ISLAND = """f (float[N, 64] x, float[64, 700] w) => (float[N, 700] y, float[N, K] z) {
    ["product"] p = MatMul (x, w)
    ["rectify"] y = Relu (p)
    ["where"] z = Unique <axis = 1> (y)
}"""
GATHER = 'f (float[4] x, int64[N] i) => (float[N] y) { ["g"] y = Gather (x, i) }'


def profiled(text: str, threads: int, **feeds: np.ndarray) -> Profile:
    options = SessionOptions(intra_op_num_threads=threads)
    model = parser.parse_model(HEAD + text)
    session = InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.profile(feeds, repeats=3)


@pytest.mark.parametrize("threads", [1, 2])
def test_every_kernel_is_told_in_order_with_its_nodes_and_its_work(threads: int) -> None:
    x = np.ones((500, 64), np.float32)
    found = profiled(ISLAND, threads, x=x, w=np.ones((64, 700), np.float32))
    *kernels, last = found.entries
    assert {node.name for entry in kernels for node in entry.nodes} == {"product", "rectify"}
    assert (last.name, last.kind, last.operations) == ("Unique", NUMPY, None)
    assert "run time" in last.reason
    assert last.types == ("float32[500, 1]",)
    assert sum(entry.operations or 0 for entry in kernels) == 500 * 700 * (2 * 64 + 1)
    assert kernels[-1].types == ("float32[500, 700]",)
    assert found.threads == threads


def test_spans_follow_each_other_inside_their_run() -> None:
    x = np.ones((3, 64), np.float32)
    found = profiled(ISLAND, 1, x=x, w=np.ones((64, 700), np.float32))
    assert len(found.runs) == 3
    for number, run in enumerate(found.runs):
        spans = [entry.spans[number] for entry in found.entries]
        begins = [run.begin, *(span.begin + span.seconds for span in spans)]
        for end, span in zip(begins, spans, strict=False):
            assert end <= span.begin + 1e-9
        assert begins[-1] <= run.begin + run.seconds + 1e-9


def test_a_run_that_kernels_have_to_do_is_profiled_node_by_node() -> None:
    x = np.arange(4, dtype=np.float32)
    found = profiled(GATHER, 1, x=x, i=np.array([-1, 2]))
    assert found.entries[0].kind != NUMPY
    empty = profiled("f (float[N] x) => (string[N] y) { y = Cast <to = 8> (x) }", 1, x=x)
    assert [entry.kind for entry in empty.entries] == [NUMPY]
    with pytest.raises(InvalidArgument, match="'x'"):
        profiled(GATHER, 1, x=np.ones(3, np.float32), i=np.array([0]))


def test_data_that_do_not_fit_raise_and_leave_no_trace() -> None:
    options = SessionOptions(intra_op_num_threads=1)
    session = InferenceSession(parser.parse_model(HEAD + GATHER), options)
    x = np.arange(4, dtype=np.float32)
    with pytest.raises(Fail, match=r"node 'g' .*4"):
        session.profile({"x": x, "i": np.array([4, 2])})
    found = session.profile({"x": x, "i": np.array([3, 2])}, repeats=1)
    assert [entry.is_numpy for entry in found.entries] == [False]


def test_steps_of_other_providers_have_entries() -> None:
    session = InferenceSession(
        parser.parse_model(CHAIN), providers=[Adder(), "CPUExecutionProvider"]
    )
    found = session.profile({"x": X, "z": X}, repeats=1)
    kinds = [(entry.name, entry.kind) for entry in found.entries]
    assert ("Add", "Addition") in kinds
    assert len(kinds) == 4


def test_control_flow_drives_bodies() -> None:
    text = """f (float[N] x, bool c) => (float[N] y) {
        y = If (c) <
            then_branch = t () => (float[N] a) { a = Exp (x) },
            else_branch = e () => (float[N] b) { b = Neg (x) }
        >
    }"""
    found = profiled(text, 1, x=X[0], c=np.array(True))
    assert [(entry.name, entry.kind) for entry in found.entries] == [("If", BODIES)]


LOOP = """f (float[3] x) => (float[3] y) {
    n = Constant <value_int = 4> () t = Constant <value = bool {1}> ()
    ["steps"] y = Loop <body = b (int64 i, bool go, float[3] s) => (bool on, float[3] r) {
        on = Identity (go)
        odd = Cast <to = 9> (i)
        ["pick"] r = If (odd) <
            then_branch = th () => (float[3] a) { ["grow"] a = Exp (s) },
            else_branch = el () => (float[3] a) { ["turn"] a = Neg (s) }
        >
    }> (n, t, x)
}"""


@pytest.mark.parametrize("provider", ["CPUExecutionProvider", "ReferenceExecutionProvider"])
def test_what_runs_in_bodies_has_lines_of_its_own(provider: str) -> None:
    session = InferenceSession(parser.parse_model(HEAD + LOOP), providers=[provider])
    x = np.zeros(3, np.float32)
    wanted = session.run(None, {"x": x})
    found = session.profile({"x": x}, repeats=2)
    assert {entry.path for entry in found.entries} == {()}
    times = {
        (*entry.path, node.name): len(entry.spans)
        for entry in found.inside
        for node in entry.nodes
        if node.name
    }
    assert times["steps", "pick"] == 4
    assert times["steps", "pick", "turn"] == 1
    grown = [e for e in found.inside if any(node.name == "grow" for node in e.nodes)]
    assert sum(len(entry.spans) for entry in grown) == 3
    (around,) = [e for e in found.inside if any(node.name == "pick" for node in e.nodes)]
    assert around.total >= sum(entry.total for entry in grown) > 0
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], wanted[0])


def test_sessions_on_numpy_kernels_have_profiles_too() -> None:
    session = InferenceSession(
        parser.parse_model(HEAD + GATHER), providers=["ReferenceExecutionProvider"]
    )
    found = session.profile({"x": np.ones(4, np.float32), "i": np.array([0])}, repeats=1)
    assert [(entry.name, entry.kind) for entry in found.entries] == [("Gather", NUMPY)]
    assert len(found.runs) == 1


@pytest.mark.parametrize(("count", "moved"), [(4, 0), (3, 2 * 6 * 8 * 4)])
def test_what_is_not_copied_counts_no_bytes(count: int, moved: int) -> None:
    text = """f (float[N, 8] x, float[8, 8] w) => (float[M, 8] y) {
        a = MatMul (x, w)
        b = MatMul (a, w)
        joined = Concat <axis = 0> (a, b)
        y = MatMul (joined, w)
    }"""
    x = np.ones((count, 8), np.float32)
    found = profiled(text, 1, x=x, w=np.ones((8, 8), np.float32))
    assert [entry.bytes for entry in found.entries if entry.name == "Concat"] == [moved]


def test_a_profile_needs_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    session = InferenceSession(parser.parse_model(HEAD + GATHER))
    monkeypatch.setattr(providers, "no_machine_code", lambda: "nothing can be compiled: no LLVM")
    with pytest.raises(
        NotSupported, match=r"profile: machine code is required, but nothing .* LLVM"
    ):
        session.profile({})


@pytest.mark.parametrize("threads", [1, 2])
def test_the_peak_is_above_what_numpy_reaches(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peak, "BLOCK_BYTES", 1 << 20)
    found = peak.measure(threads, Pool(threads).run, memo().cache)
    assert found.operations > 1e9
    assert found.bytes >= found.read > 1e8
    assert found.bytes >= found.copied > 1e8


def test_copies_of_the_peak_copy() -> None:
    text = peak._copying(4)
    source, target = np.arange(64), np.zeros(64, np.int64)
    symbols = [64 // (4 * peak.VECTORS), source.ctypes.data, target.ctypes.data]
    peak._seconds(text, symbols, 1, lambda work: work(0), memo().cache)
    np.testing.assert_array_equal(source, target)
