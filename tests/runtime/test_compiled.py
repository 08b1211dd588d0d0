"""Sessions on compiled code: what their callers may rely on."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from onnx import parser

from fornix.compile.traits import Survey
from fornix.errors import Fail, ShapeError
from fornix.ir.graph import Node
from fornix.runtime import InferenceSession, SessionOptions, native
from fornix.runtime.providers import NotAsCompiled, Run
from fornix.runtime.shortcuts import generic, quick

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'
ROWS = """f (float[N, M] x, float[M, 16] w) => (float[N, 16] y) {
    p = MatMul (x, w)
    y = Softmax (p)
}"""


def compiled(text: str, threads: int = 1) -> InferenceSession:
    options = SessionOptions(intra_op_num_threads=threads)
    return InferenceSession(
        parser.parse_model(HEAD + text), options, providers=["CPUExecutionProvider"]
    )


def reference(text: str) -> InferenceSession:
    return InferenceSession(
        parser.parse_model(HEAD + text), providers=["ReferenceExecutionProvider"]
    )


def count_fallbacks(session: InferenceSession, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes of runs that NumPy kernels did as a whole."""
    notes: list[str] = []
    programs = session._programs
    assert programs is not None
    original = programs.run

    def observed(*arguments: Any) -> list[Any]:
        try:
            return original(*arguments)
        except NotAsCompiled as reason:
            notes.append(str(reason))
            raise

    monkeypatch.setattr(programs, "run", observed)
    return notes


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 3), (7, 1), (1, 33), (130, 65)])
def test_one_program_runs_every_extent(n: int, m: int, rng: np.random.Generator) -> None:
    feeds = {"x": rng.normal(size=(n, m)), "w": rng.normal(size=(m, 16))}
    feeds = {name: array.astype(np.float32) for name, array in feeds.items()}
    session = compiled(ROWS)
    (found,) = session.run(None, feeds)
    (wanted,) = reference(ROWS).run(None, feeds)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_tensors_without_elements_are_what_the_reference_says(
    n: int, m: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds = {"x": np.zeros((n, m), np.float32), "w": np.zeros((m, 16), np.float32)}
    session = compiled(ROWS)
    notes = count_fallbacks(session, monkeypatch)
    (found,) = session.run(None, feeds)
    (wanted,) = reference(ROWS).run(None, feeds)
    np.testing.assert_array_equal(found, wanted)
    assert notes == []


REPEATED = """f (float[N, 2, M] x) => (float[P, 2, Q] y) {
    one = Constant <value = int64[2] {1, 1}> ()
    far = Constant <value = int64[2] {9, 9}> ()
    ends = Constant <value = int64[2] {0, 2}> ()
    times = Constant <value = int64[3] {2, 1, 2}> ()
    shorter = Slice (x, one, far, ends)
    y = Tile (shorter, times)
}"""


def test_what_turns_out_empty_is_repeated(rng: np.random.Generator) -> None:
    session = compiled(REPEATED)
    for n, m in ((1, 3), (3, 1), (3, 4), (1, 1), (0, 2)):
        x = rng.standard_normal((n, 2, m)).astype(np.float32)
        wanted = np.tile(x[1:, :, 1:], (2, 1, 2))
        assert np.array_equal(session.run(None, {"x": x})[0], wanted)


def test_a_decoder_may_begin_with_an_empty_past(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """f (float[B, P, 4] past, float[B, S, 4] new) => (float[B, T, 4] all, float[B, S, 4] y)
    {
        all = Concat <axis = 1> (past, new)
        e = Exp (new)
        y = Neg (e)
    }"""
    session = compiled(text)
    notes = count_fallbacks(session, monkeypatch)
    for length in (0, 1, 5, 0):
        past = np.full((2, length, 4), 3, np.float32)
        new = np.ones((2, 3, 4), np.float32)
        both, y = session.run(None, {"past": past, "new": new})
        np.testing.assert_array_equal(both, np.concatenate([past, new], 1))
        np.testing.assert_allclose(y, -np.exp(new), rtol=1e-6)
    assert notes == []


def test_an_extent_of_1_broadcasts_where_the_code_expected_another() -> None:
    text = "f (float[N] a, float[64] b) => (float[64] y) { y = Add (a, b) }"
    session = compiled(text)
    b = np.arange(64, dtype=np.float32)
    for n in (64, 1):
        a = np.full(n, 2, np.float32)
        np.testing.assert_array_equal(session.run(None, {"a": a, "b": b})[0], b + 2)
    for n in (2, 63, 65):
        with pytest.raises(ShapeError, match=r"^node for 'y' \(Add, opset 18\): shapes must broad"):
            session.run(None, {"a": np.zeros(n, np.float32), "b": b})


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("transformation", ["half_pixel", "align_corners", "asymmetric"])
def test_one_program_resizes_to_every_extent(
    mode: str, transformation: str, rng: np.random.Generator
) -> None:
    text = f"""f (float[N, 3, H, W] x, float[P, Q] like) => (float[N, 3, P, Q] y) {{
        first = Shape <start: int = 0, end: int = 2> (x)
        last = Shape (like)
        sizes = Concat <axis: int = 0> (first, last)
        y = Resize <mode: string = "{mode}",
                    coordinate_transformation_mode: string = "{transformation}"> (x, , , sizes)
    }}"""
    session, peer = compiled(text), reference(text)
    assert all(place.kernels for place in session.placement())
    for size, target in (
        ((5, 7), (11, 40)),
        ((9, 30), (9, 4)),
        ((2, 2), (1, 33)),
        ((8, 3), (8, 3)),
    ):
        x = rng.normal(size=(2, 3, *size)).astype(np.float32)
        feeds = {"x": x, "like": np.zeros(target, np.float32)}
        (found,), (expected,) = session.run(None, feeds), peer.run(None, feeds)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_extents_that_disagree_are_the_error_of_the_kernel() -> None:
    feeds = {"x": np.zeros((2, 3), np.float32), "v": np.zeros((4, 5), np.float32)}
    text = 'f (float[N, M] x, float[K, L] v) => (float[N, L] y) { ["dot"] y = MatMul (x, v) }'
    with pytest.raises(ShapeError, match=r"^node 'dot' \(MatMul, opset 18\): ") as raised:
        compiled(text).run(None, feeds)
    with pytest.raises(ShapeError) as expected:
        reference(text).run(None, feeds)
    assert str(raised.value) == str(expected.value)


def test_a_shape_that_is_fed_has_to_broadcast() -> None:
    session = compiled("f (float[2, 2] x, int64[2] s) => (y) { y = Expand (x, s) }")
    x = np.ones((2, 2), np.float32)
    np.testing.assert_array_equal(session.run(None, {"x": x, "s": np.array([1, 2])})[0], x)
    with pytest.raises(
        ShapeError, match=r"'y' \(Expand.* must broadcast, got \[2, 2\] and \[2, 3\]"
    ):
        session.run(None, {"x": x, "s": np.array([2, 3])})


def test_the_length_of_a_single_part_that_is_fed_has_to_fit() -> None:
    session = compiled("f (float[4] x, int64[1] s) => (y) { y = Split (x, s) }")
    x = np.ones(4, np.float32)
    np.testing.assert_array_equal(session.run(None, {"x": x, "s": np.array([4])})[0], x)
    with pytest.raises(ShapeError, match=r"'y' \(Split.* must add up to 4, got \[1\]"):
        session.run(None, {"x": x, "s": np.array([1])})


def test_a_mask_longer_than_the_keys_is_the_error_of_the_kernel() -> None:
    text = """f (float[1, 2, s, 4] q, float[1, 2, t, 4] k, float[1, 2, t, 4] v, float[s, m] mask)
        => (float[1, 2, s, 4] y) { y = Attention (q, k, v, mask) }"""
    model = parser.parse_model(HEAD.replace("18", "23") + text)

    def feeds(reach: int) -> dict[str, Any]:
        shapes = {"q": (1, 2, 3, 4), "k": (1, 2, 5, 4), "v": (1, 2, 5, 4), "mask": (3, reach)}
        return {name: np.ones(shape, np.float32) for name, shape in shapes.items()}

    for provider in ("CPUExecutionProvider", "ReferenceExecutionProvider"):
        session = InferenceSession(model, providers=[provider])
        session.run(None, feeds(5))
        session.run(None, feeds(4))
        with pytest.raises(ShapeError, match=r"must broadcast to \[1, 2, 3, 5\], found \[3, 7\]"):
            session.run(None, feeds(7))


def test_declared_extents_are_not_trusted() -> None:
    text = """f (float[N] x) => (float[9] y) <float[9] b = {0, 0, 0, 0, 0, 0, 0, 0, 0}> {
        i = NonZero (x)
        s = Squeeze (i)
        f = Cast <to = 1> (s)
        y = Add (f, b)
    }"""
    lying = parser.parse_model(HEAD + text)
    lying.graph.value_info.append(parser.parse_graph(
        "g (float[9] f) => (float[9] f) { }"
    ).input[0])  # fmt: skip
    session = InferenceSession(lying, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.ones(9, np.float32)})
    np.testing.assert_array_equal(y, np.arange(9))
    with pytest.raises(ShapeError, match="shapes must broadcast"):
        session.run(None, {"x": np.ones(5, np.float32)})


@pytest.mark.parametrize(("n", "m"), [(3, 3), (70, 70), (5, 1), (1, 6), (1, 1)])
def test_extents_that_broadcasting_leaves_open_are_compiled_as_declared(n: int, m: int) -> None:
    model = parser.parse_model(
        HEAD + "f (float[N] x, float[M] z) => (float[N] y) { y = Add (x, z) }"
    )
    session = InferenceSession(model, providers=["CPUExecutionProvider"])
    assert all(place.kernels for place in session.placement())
    x, z = np.arange(n, dtype=np.float32), np.arange(m, dtype=np.float32) * 10
    for _ in range(2):
        np.testing.assert_array_equal(session.run(None, {"x": x, "z": z})[0], x + z)


def test_indices_out_of_range_are_the_error_of_the_kernel() -> None:
    text = """f (float[8, 4] x, int64[N] i) => (float[N, 4] y) {
        ["rows"] g = Gather (x, i)
        y = Neg (g)
    }"""
    session = compiled(text)
    assert all(place.kernels for place in session.placement())
    x = np.arange(32, dtype=np.float32).reshape(8, 4)
    good = np.array([7, -8, 0])
    np.testing.assert_array_equal(session.run(None, {"x": x, "i": good})[0], -x[good])
    for wrong in (8, -9, 2**40):
        with pytest.raises(Fail, match=rf"^node 'rows' \(Gather, opset 18\): .*{wrong}"):
            session.run(None, {"x": x, "i": np.array([0, wrong])})


def test_division_by_zero_is_the_error_of_the_kernel() -> None:
    text = 'f (int64[N] a, int64[N] b) => (int64[N] y) { ["q"] y = Div (a, b) }'
    session = compiled(text)
    a = np.array([7, -7, 9])
    np.testing.assert_array_equal(
        session.run(None, {"a": a, "b": np.array([2, 2, -3])})[0], [3, -3, -3]
    )
    with pytest.raises(Fail, match=r"^node 'q' \(Div, opset 18\): an integer is divided by zero"):
        session.run(None, {"a": a, "b": np.array([1, 0, 1])})


@pytest.mark.parametrize(
    ("node", "vast", "wanted"),
    [
        ("Sin (a)", 1e22, -0.8522008497671888),
        ("Cos (a)", 1e22, 0.5232147853951389),
        ("Tan (a)", 1e22, -1.628778225606898),
        ("Mod <fmod = 1> (a, b)", 1e22, 4.0),
        ("Mod <fmod = 1> (a, b)", -1e300, float(-(int(1e300) % 7))),
    ],
)
def test_numbers_too_vast_for_the_code_are_computed_exactly(
    node: str, vast: float, wanted: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = compiled(f"f (double[N] a, double[N] b) => (double[N] y) {{ y = {node} }}")
    notes = count_fallbacks(session, monkeypatch)
    feeds = {"a": np.array([1.5, vast, 0.5]), "b": np.full(3, 7.0)}
    assert session.run(None, feeds)[0][1] == pytest.approx(wanted, rel=1e-15)
    assert ["of numbers so large" in note or "check" in note for note in notes] == [True]
    session.run(None, {**feeds, "a": np.ones(3)})
    assert len(notes) == 1


def test_what_only_holds_for_no_elements_is_found_out_by_the_run() -> None:
    text = """f (float[N, M] x) => (float[N, 1] y) {
        w = Constant <value = float[0, 1] {}> ()
        y = MatMul (x, w)
    }"""
    session = compiled(text)
    assert session.run(None, {"x": np.zeros((2, 0), np.float32)})[0].tolist() == [[0], [0]]
    with pytest.raises(ShapeError, match=r"MatMul.*rows of B, got A\[2, 3\] and B\[0, 1\]"):
        session.run(None, {"x": np.zeros((2, 3), np.float32)})


def test_feeds_may_lie_anywhere_in_memory(rng: np.random.Generator) -> None:
    text = "f (float[N, 5] x) => (float[N, 5] y) { y = Exp (x) }"
    session = compiled(text)
    x = rng.normal(size=(5, 6)).astype(np.float32)
    raw = np.zeros(4 * 30 + 1, np.uint8)
    shifted = raw[1:].view(np.float32).reshape(6, 5)
    shifted[...] = x.T
    readonly = x.T.copy()
    readonly.flags.writeable = False
    for feed in (x.T, np.asfortranarray(x.T), shifted, readonly, np.repeat(x.T, 2, 0)[::2]):
        np.testing.assert_allclose(session.run(None, {"x": feed})[0], np.exp(x.T), rtol=1e-6)


def test_results_are_the_callers_own_and_aligned() -> None:
    text = """f (float[N] x) => (float[N] a, float[N] b, float[N] x2) {
        a = Neg (x)
        b = Identity (a)
        x2 = Identity (x)
    }"""
    session = compiled(text)
    x = np.arange(3, dtype=np.float32)
    first, again = session.run(None, {"x": x}), session.run(["a", "a", "b"], {"x": x})
    arrays = [*first, *again]
    for index, array in enumerate(arrays):
        assert array.flags.writeable
        assert array.flags.c_contiguous
        assert array.flags.aligned
        assert not np.shares_memory(array, x)
        assert not any(np.shares_memory(array, other) for other in arrays[:index])


def test_any_value_may_be_fetched_although_it_is_optimized_away() -> None:
    text = """f (float[N] x) => (float[N] y) {
        a = Identity (x)
        b = Neg (a)
        y = Neg (b)
    }"""
    x = np.arange(3, dtype=np.float32)
    y, b, a = compiled(text).run(["y", "b", "a"], {"x": x})
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(b, -x)
    np.testing.assert_array_equal(a, x)


def test_inputs_and_constants_may_be_outputs() -> None:
    text = (
        """f (float[N] x) => (float[N] x, float[2] c) <float[2] w = {1, 2}> { c = Identity (w) }"""
    )
    x = np.arange(3, dtype=np.float32)
    found = compiled(text).run(None, {"x": x})
    np.testing.assert_array_equal(found[0], x)
    np.testing.assert_array_equal(found[1], [1, 2])


def test_extents_without_names_are_symbols_too() -> None:
    model = parser.parse_model(HEAD + "f (float[N, M] x) => (float[N, M] y) { y = Exp (x) }")
    for dim in model.graph.input[0].type.tensor_type.shape.dim:
        dim.Clear()
    session = InferenceSession(model, providers=["CPUExecutionProvider"])
    assert all(place.kernels for place in session.placement())
    for shape in ((2, 3), (5, 1), (0, 4)):
        x = np.ones(shape, np.float32)
        np.testing.assert_allclose(session.run(None, {"x": x})[0], np.exp(x), rtol=1e-6)


def test_values_between_kernels_share_memory_without_harm(rng: np.random.Generator) -> None:
    lines, last = [], "x"
    for index in range(12):
        lines.append(f"m{index} = MatMul ({last}, w)")
        lines.append(f"s{index} = Softmax (m{index})")
        lines.append(f"a{index} = Add (s{index}, {last})")
        last = f"a{index}"
    text = f"f (float[N, 8] x, float[8, 8] w) => (float[N, 8] {last}) {{ {chr(10).join(lines)} }}"
    feeds = {"x": rng.normal(size=(9, 8)), "w": rng.normal(size=(8, 8))}
    feeds = {name: array.astype(np.float32) for name, array in feeds.items()}
    np.testing.assert_allclose(
        compiled(text).run(None, feeds)[0], reference(text).run(None, feeds)[0], rtol=1e-4
    )


LARGE = """f (float[N, 256] x, float[256, 256] w) => (float[N, 256] y, float[256] t) {
    p = MatMul (x, w)
    g = Gelu (p)
    s = Softmax (g)
    y = Add (s, p)
    t = ReduceSum <keepdims = 0> (y, axes)
}""".replace("{\n    p", "<int64[1] axes = {0}> {\n    p").replace("Gelu", "Tanh")


def test_results_are_the_same_bits_for_any_number_of_threads(rng: np.random.Generator) -> None:
    feeds = {"x": rng.normal(size=(1100, 256)), "w": rng.normal(size=(256, 256))}
    feeds = {name: array.astype(np.float32) for name, array in feeds.items()}
    wanted = compiled(LARGE, 1).run(None, feeds)
    for threads in (2, 3, 8):
        session = compiled(LARGE, threads)
        for _ in range(3):
            for one, other in zip(session.run(None, feeds), wanted, strict=True):
                assert one.tobytes() == other.tobytes()


def test_callers_share_a_session(rng: np.random.Generator) -> None:
    session = compiled(LARGE, 2)
    w = rng.normal(size=(256, 256)).astype(np.float32)
    inputs = [rng.normal(size=(n, 256)).astype(np.float32) for n in (3, 900, 901, 1, 900)]
    wanted = [session.run(None, {"x": x, "w": w}) for x in inputs]
    wrong: list[int] = []

    def call(index: int) -> None:
        for _ in range(5):
            found = session.run(None, {"x": inputs[index], "w": w})
            if any(a.tobytes() != b.tobytes() for a, b in zip(found, wanted[index], strict=True)):
                wrong.append(index)

    callers = [threading.Thread(target=call, args=(i,)) for i in range(len(inputs))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_session_works_in_the_child_of_a_fork(rng: np.random.Generator) -> None:
    session = compiled(LARGE, 2)
    feeds = {"x": rng.normal(size=(900, 256)), "w": rng.normal(size=(256, 256))}
    feeds = {name: array.astype(np.float32) for name, array in feeds.items()}
    wanted = session.run(None, feeds)
    child = os.fork()
    if child == 0:
        found = session.run(None, feeds)
        same = all(a.tobytes() == b.tobytes() for a, b in zip(found, wanted, strict=True))
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_constant_is_a_result_and_is_read_as_well() -> None:
    text = """f (float[4] x) => (float[4] y, float[4] c) {
        c = Constant <value = float[4] {1, 2, 3, 4}> ()
        y = Add (x, c)
    }"""
    for session in (compiled(text), InferenceSession(parser.parse_model(HEAD + text))):
        results = [session.run(None, {"x": np.ones(4, np.float32)}) for _ in range(3)]
        assert [[a.tolist() for a in found] for found in results] == [
            [[2, 3, 4, 5], [1, 2, 3, 4]]
        ] * 3


def test_constants_that_stay_in_the_model_are_read() -> None:
    text = """f (float[4] x) => (float[4] y) {
        c = Constant <value = float[4] {1, 2, 3, 4}> ()
        y = Add (x, c)
    }"""
    options = SessionOptions(graph_optimization_level=0)
    model = parser.parse_model(HEAD + text)
    session = InferenceSession(model, options, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.ones(4, np.float32)})[0].tolist() == [2, 3, 4, 5]


def test_weights_are_read_by_products_over_extents_that_are_not_known(
    rng: np.random.Generator,
) -> None:
    text = """f (float[N, M] x) => (float[N, 2] y) <float[3, 2] w = {1, 2, 3, 4, 5, 6}> {
        y = MatMul (x, w)
    }"""
    x = rng.normal(size=(4, 3)).astype(np.float32)
    (found,) = compiled(text).run(None, {"x": x})
    np.testing.assert_allclose(found, x @ np.arange(1, 7).reshape(3, 2), rtol=1e-5)


@pytest.mark.parametrize(("kept", "frames"), [(1 << 30, [1, 1, 1]), (0, [0, 0, 1])])
def test_memory_for_other_extents_is_given_up_where_there_is_much(
    kept: int, frames: list[int], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "KEPT_BYTES", kept)
    monkeypatch.setattr(quick, "QUICK_NANOSECONDS", 0)
    monkeypatch.setattr(generic, "is_available", lambda: False)
    session = compiled(LARGE)
    w = rng.normal(size=(256, 256)).astype(np.float32)
    for n in (5, 7, 6, 5, 7, 6):
        x = rng.normal(size=(n, 256)).astype(np.float32)
        found = session.run(None, {"x": x, "w": w})
        for one, other in zip(found, reference(LARGE).run(None, {"x": x, "w": w}), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    assert session._programs is not None
    (step,) = session._programs.general.steps
    assert isinstance(step, native.NativeStep)
    assert [len(bound.frames) for bound in step._bound.values()] == frames


@pytest.mark.parametrize(("rows", "pieces"), [(4, 1), (64, 3), (1000, 32)])
def test_pieces_of_a_kernel_are_worth_taking(
    rows: int, pieces: int, rng: np.random.Generator
) -> None:
    text = "f (float[N, 768] x) => (float[N, 768] y) { y = Neg (x) }"
    x = rng.normal(size=(rows, 768)).astype(np.float32)
    options = SessionOptions(intra_op_num_threads=2)
    model = parser.parse_model(HEAD + text)
    session = InferenceSession(model, options, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], -x)
    assert session._programs is not None
    (step,) = session._programs.general.steps
    assert isinstance(step, native.NativeStep)
    assert step.bound(Run({"N": rows}, (rows,))).pieces == (pieces,)


@pytest.mark.parametrize(("rows", "is_shared"), [(8, False), (50, True)])
def test_threads_share_what_is_made_for_a_kernel_that_they_share(
    rows: int, *, is_shared: bool, rng: np.random.Generator
) -> None:
    shapes = f"(float[8, {rows}, 64] a, float[8, {rows}, 64] b) => (float[8, {rows}, {rows}] y)"
    text = f"""f {shapes} {{
        t = Transpose <perm = [0, 2, 1]> (b)
        y = MatMul (a, t)
    }}"""
    a, b = rng.normal(size=(2, 8, rows, 64)).astype(np.float32)
    options = SessionOptions(intra_op_num_threads=2)
    model = parser.parse_model(HEAD + text)
    session = InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"a": a, "b": b})
    np.testing.assert_allclose(found, a @ b.transpose(0, 2, 1), rtol=1e-4, atol=1e-4)
    assert session._programs is not None
    (step,) = session._programs.general.steps
    assert isinstance(step, native.NativeStep)
    (bound,) = step.bounds.values()
    assert (bound.pieces > 1).tolist() == [is_shared] * len(bound.pieces)


@pytest.mark.parametrize(("handover", "is_shared"), [(0, True), (1 << 40, False)])
def test_threads_share_runs_that_take_longer_than_to_hand_kernels_over(
    handover: int, *, is_shared: bool, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "HANDOVER", handover)
    monkeypatch.setattr("time.perf_counter_ns", lambda: 0)
    text = "f (float[200, 768] x) => (float[200, 768] y) { y = Exp (x) }"
    options = SessionOptions(intra_op_num_threads=2)
    model = parser.parse_model(HEAD + text)
    session = InferenceSession(model, options, providers=["CPUExecutionProvider"])
    x = rng.normal(size=(200, 768)).astype(np.float32)
    (first,) = session.run(None, {"x": x})
    for _ in range(native.TRIALS + 2):
        x = -x
        (found,) = session.run(None, {"x": x})
        np.testing.assert_allclose(found, np.exp(x), rtol=1e-5)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], first)
    assert session._programs is not None
    (step,) = session._programs.general.steps
    assert isinstance(step, native.NativeStep)
    (bound,) = step.bounds.values()
    assert bound.trials == 0
    assert bound.may_be_shared is is_shared


def test_memory_of_extents_long_past_serves_new_ones(rng: np.random.Generator) -> None:
    session = compiled(LARGE)
    w = rng.normal(size=(256, 256)).astype(np.float32)
    for n in range(40, 60):
        x = rng.normal(size=(n, 256)).astype(np.float32)
        found = session.run(None, {"x": x, "w": w})
        for one, other in zip(found, reference(LARGE).run(None, {"x": x, "w": w}), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    assert session._programs is not None
    (step,) = session._programs.general.steps
    assert isinstance(step, native.NativeStep)
    frames = [len(bound.frames) for bound in step._bound.values()]
    assert frames[-native.MAX_IDLE - 1 :] == [1] * (native.MAX_IDLE + 1)
    assert sum(frames) == native.MAX_IDLE + 1


def test_new_extents_ask_only_nodes_that_depend_on_them(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """f (float[N, 8] x, int64[N] i, float[M, 8] y, int64[M] j)
        => (float[N] a, float[M] b) {
        a = NegativeLogLikelihoodLoss <reduction = "none"> (x, i)
        u = SoftmaxCrossEntropyLoss <reduction = "none"> (y, j)
        b = Sin (u)
    }"""
    asked: list[str] = []
    infer = Survey.infer
    monkeypatch.setenv("FORNIX_CACHE", "0")  # kept programs know whom they serve
    session = compiled(text)

    def noted(self: Survey, node: Node, extents: Mapping[str, int]) -> None:
        asked.append(node.op_type)
        infer(self, node, extents)

    monkeypatch.setattr(Survey, "infer", noted)
    # Of arithmetic it is asked once whether it holds for all extents.
    rows, others = "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"
    expected = [f"{rows}Sin{others}", rows, others, ""]
    for (n, m), names in zip([(3, 4), (5, 4), (5, 6), (3, 6)], expected, strict=True):
        asked.clear()
        x, y = (rng.normal(size=(k, 8)).astype(np.float32) for k in (n, m))
        i, j = (rng.integers(0, 8, k) for k in (n, m))
        a, b = session.run(None, {"x": x, "i": i, "y": y, "j": j})
        np.testing.assert_array_equal(a, -x[np.arange(n), i])
        losses = np.log(np.exp(y).sum(1)) - y[np.arange(m), j]
        np.testing.assert_allclose(b, np.sin(losses), rtol=1e-5, atol=1e-6)
        assert "".join(sorted(asked)) == names
