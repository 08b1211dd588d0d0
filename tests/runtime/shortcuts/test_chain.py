"""Small programs of machine code and NumPy kernels have a short way."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import pytest

import fornix
from fornix.compile.entry import is_available
from fornix.errors import FornixError, LimitError
from fornix.format.text import parse_model
from fornix.ir.load import from_message
from fornix.ops.registered import temporary
from fornix.reference import ReferenceEvaluator
from fornix.runtime import InferenceSession, RunOptions, SessionOptions, memory
from fornix.runtime.shortcuts.chain import ChainCall
from fornix.runtime.shortcuts.straight import compiled_lines

pytestmark = pytest.mark.skipif(not is_available(), reason="another Python lays objects out anew")

MODEL = """
<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 2]>
g (string[N] name, float[N] x) => (float[N] y, seq(map(string, float)) maps, string[N] same) {
  number = ai.onnx.ml.LabelEncoder <keys_strings = ["a", "b"], values_floats = [1.0, 2.0],
                                    default_float = -1.0> (name)
  y = Mul (number, x)
  axis = Constant <value = int64[1] {1}> ()
  one = Unsqueeze (y, axis)
  two = Concat <axis = 1> (one, one)
  maps = ai.onnx.ml.ZipMap <classlabels_strings = ["v", "u"]> (two)
  same = Identity (name)
}
"""


def feeds(*names: str) -> dict[str, Any]:
    return {
        "name": np.array(names, object),
        "x": np.arange(1, len(names) + 1, dtype=np.float32),
    }


def opened() -> InferenceSession:
    session = InferenceSession(from_message(parse_model(MODEL)))
    session.run(None, feeds("a", "b", "?"))
    return session


def chained(session: InferenceSession) -> ChainCall:
    call = session._short
    assert isinstance(call, ChainCall)
    return call


def test_it_gives_what_the_model_says() -> None:
    session, given = opened(), feeds("b", "?", "a")
    found = chained(session).call(given)
    wanted = ReferenceEvaluator(from_message(parse_model(MODEL))).run(None, given)
    assert found is not None
    np.testing.assert_array_equal(found[0], wanted[0])
    assert found[1] == wanted[1]
    np.testing.assert_array_equal(found[2], given["name"])


def test_a_kernel_may_give_more_than_a_node_asks_for() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (int64[N, 2] x) => (int64[M, 2] y, int64[M] first) { y, first = Unique <axis = 0> (x) }"""
    session, x = (
        InferenceSession(from_message(parse_model(text))),
        np.array([[2, 1], [0, 3], [2, 1]]),
    )
    session.run(None, {"x": x})
    found = chained(session).call({"x": x})
    assert found is not None
    assert [result.tolist() for result in found] == [[[0, 3], [2, 1]], [1, 0]]


def test_machine_code_may_write_nothing_that_others_read() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[N, P] past, float[N, S] x) => (float[N, T] grown, int64[N, M] numbers)
    <float s = {0.5}, uint8 o = {3}, int64[2] end = {-1, 1}, int64[1] two = {2}, int64 zero = {0},
     int64 one = {1}> {
        rows = Shape <start: int = 0, end: int = 1> (x)
        bytes = QuantizeLinear (past, s, o)
        old = DequantizeLinear (bytes, s, o)
        grown = Concat <axis: int = 1> (old, x)
        count = Squeeze (rows)
        range = Range (zero, count, one)
        column = Reshape (range, end)
        shape = Concat <axis: int = 0> (rows, two)
        numbers = Expand (column, shape)
    }"""
    session = InferenceSession(from_message(parse_model(text)))
    x = np.ones((2, 3), np.float32)
    for _ in range(2):  # of no columns, quantised by a kernel: extents are numbers by then
        found = session.run(None, {"past": np.zeros((2, 0), np.float32), "x": x})
        assert found[0].tolist() == x.tolist()
        assert found[1].tolist() == [[0, 0], [1, 1]]


def test_results_are_the_callers_own() -> None:
    session, given = opened(), feeds("b", "?", "a")
    first = session.run(None, given)
    first[0][:], first[2][:] = 7, "changed"
    first[1].clear()
    assert given["name"].tolist() == ["b", "?", "a"]
    second = session.run(None, given)
    assert second[0].tolist() == [2, -2, 3]
    assert len(second[1]) == 3


def test_what_a_kernel_has_made_for_the_caller_is_not_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (int64[N, 2] x) => (int64[M, 2] y, int64[M] first) { y, first = Unique <axis = 0> (x) }"""
    session = InferenceSession(from_message(parse_model(text)))
    x = np.array([[2, 1], [0, 3], [2, 1]])
    session.run(None, {"x": x})
    monkeypatch.setattr(memory, "owned", None)
    kept = [session.run(None, {"x": x + k}) for k in range(3)]
    assert [y.tolist() for y, _ in kept] == [[[k, k + 3], [k + 2, k + 1]] for k in range(3)]


@pytest.mark.parametrize("way", ["kept", "remembered", "fed", "view", "columns", "stored"])
def test_what_somebody_else_refers_to_is_copied(way: str) -> None:
    kept = np.array([[5, 6], [7, 8]])
    cache: WeakValueDictionary[bytes, Any] = WeakValueDictionary()
    makers = {
        "remembered": lambda x: cache.setdefault(x.tobytes(), x + 5),
        "kept": lambda _: kept,
        "fed": lambda x: x,
        "view": lambda _: kept[:],
        "columns": lambda x: np.asfortranarray(x + 5),
        "stored": lambda _: np.broadcast_to(kept[:1, :1], (2, 2)),
    }
    text = """<ir_version: 8, opset_import: ["" : 17, "my.domain" : 1]>
    g (int64[N, 2] x) => (int64[N, 2] y, int64[N, 2] z) {
        y = my.domain.Same (x)
        z = Identity (y)
    }"""
    x = np.array([[0, 1], [2, 3]])
    with temporary():
        fornix.op("my.domain::Same (x: T[...]) => (y: T[...])", T="int64")(makers[way])
        session = InferenceSession(from_message(parse_model(text)))
        for _ in range(4):
            results = session.run(None, {"x": x})
            wanted = results[0].copy()
            for result in results:
                assert result.flags.carray
                np.testing.assert_array_equal(result, wanted)
                result[:] = -1
    assert kept.tolist() == [[5, 6], [7, 8]]
    assert x.tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    "change",
    [
        {"x": np.ones(2, np.float32)},
        {"x": np.ones(3)},
        {"x": np.ones(6, np.float32)[::2]},
        {"x": [1.0, 2.0, 3.0]},
        {"name": np.array(["a", "b", 3], object)},
        {"name": np.array(["a", "b", "c"])},
        {"other": np.ones(3)},
    ],
    ids=lambda change: str(next(iter(change.values()))),
)
def test_other_feeds_go_the_long_way(change: dict[str, object]) -> None:
    assert chained(opened()).call(feeds("a", "b", "?") | change) is None


def test_runs_that_may_be_ended_go_the_long_way() -> None:
    session, options = opened(), RunOptions()
    assert session.run(None, feeds("a", "b", "b"), options)[0].tolist() == [1, 4, 6]
    options.terminate = True
    with pytest.raises(FornixError, match="ended"):
        session.run(None, feeds("a", "b", "b"), options)


def test_it_may_be_called_by_several_threads() -> None:
    session = opened()
    wrong: list[object] = []

    def work(name: str, value: float) -> None:
        for _ in range(200):
            found = session.run(None, feeds(name, name, name))[0].tolist()
            if found != [value, 2 * value, 3 * value]:
                wrong.append(found)

    threads = [threading.Thread(target=work, args=pair) for pair in (("a", 1.0), ("b", 2.0))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.slow
def test_another_process_that_recalls_the_program_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORNIX_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "model.onnx"
    path.write_bytes(parse_model(MODEL).SerializeToString())
    script = (
        "import sys, numpy as np, fornix\n"
        "s = fornix.InferenceSession(sys.argv[1])\n"
        "f = {'name': np.array(['b', 'x'], object), 'x': np.ones(2, np.float32)}\n"
        "s.run(None, f)\n"
        "print(s._programs.is_recalled, type(s._short).__name__, s.run(None, f)[0].tolist())\n"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
        ).stdout.strip()
        for _ in range(2)
    ]
    assert told == ["False ChainCall [2.0, -1.0]", "True ChainCall [2.0, -1.0]"]


def test_a_limit_of_memory_counts_in_all_runs() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (string[1] x, int64[1] n, float[3] z) => (string[M] many, float[3] y) {
      many = Tile (x, n)
      y = Neg (z)
    }"""
    options = SessionOptions(memory_limit=1 << 20)
    session = InferenceSession(from_message(parse_model(text)), options)
    given = {"x": np.array(["a"], object), "z": np.zeros(3, np.float32)}
    for count in (4, 5):
        found, _ = session.run(None, {**given, "n": np.array([count])})
        assert found.tolist() == ["a"] * count
    with pytest.raises(LimitError, match="memory_limit"):
        session.run(None, {**given, "n": np.array([1 << 20])})


def test_names_of_values_are_no_code() -> None:
    text = """<ir_version: 10, opset_import: ["" : 22]>
    g (float[2] x, string[2] w) => (float[2] y, string[2] v) {
      y = Neg (x)
      v = StringConcat (w, w)
    }"""
    model = from_message(parse_model(text))
    name = "a'\"\\}]); raise SystemExit #\n{0}"
    model.graph.inputs[0].name = name
    session = InferenceSession(model)
    given = {name: np.array([1, -2], np.float32), "w": np.array(["a", "é"], object)}
    session.run(None, given)
    found = chained(session).call(given)
    assert found is not None
    assert [result.tolist() for result in found] == [[-1, 2], ["aa", "éé"]]


def test_what_numpy_warns_of_in_bodies_is_no_concern_of_callers() -> None:
    text = """<ir_version: 10, opset_import: ["" : 22, "my.domain" : 1]>
    g (string[1] x, int64[2] z, int64 n) => (string[1] y, int64[2] v) {
      c = Constant <value = bool {1}> ()
      y, v = Loop (n, c, x, z) <
        body = b (int64 i, bool k, string[1] h, int64[2] u) => (bool k, string[1] o, int64[2] w) {
          o = StringConcat (h, x)
          w = my.domain.Parts (u)
        }>
    }"""
    with temporary():
        fornix.op("my.domain::Parts (x: T[...]) => (y: T[...])", T="int64")(lambda x: 6 // x)
        session = InferenceSession(from_message(parse_model(text)))
        given = {"x": np.array(["a"], object), "z": np.array([2, 0]), "n": np.array(2)}
        for _ in range(6):
            joined, parts = session.run(None, given)
    assert joined.tolist() == ["aaa"]
    assert parts.tolist() == [2, 0]


def test_what_numpy_warns_of_is_no_concern_of_callers() -> None:
    text = """<ir_version: 10, opset_import: ["" : 22, "my.domain" : 1]>
    g (int64[2] x, float[2] z) => (int64[2] y, bool[2] w, float[2] v) {
      y = my.domain.Parts (x)
      w = my.domain.IsOne (z)
      v = Neg (z)
    }"""
    with temporary():
        fornix.op("my.domain::Parts (x: T[...]) => (y: T[...])", T="int64")(lambda x: 6 // x)
        fornix.op("my.domain::IsOne (x: T[...]) => (y: tensor(bool)[...])", T="float")(
            lambda x: x / x == 1
        )
        session = InferenceSession(from_message(parse_model(text)))
        session.run(None, {"x": np.array([1, 2]), "z": np.ones(2, np.float32)})
        zeros = {"x": np.array([0, 3]), "z": np.array([0, 1], np.float32)}
        found = chained(session).call(zeros)
    assert found is not None
    assert [result.tolist() for result in found[:2]] == [[0, 2], [False, True]]


MAPS = """
<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 2]>
g (map(string, float) x) => (float[1, 3] y) {
  row = ai.onnx.ml.DictVectorizer <string_vocabulary = ["a", "b", "c"]> (x)
  y = Mul (row, row)
}
"""


@pytest.mark.parametrize(
    ("kind", "given", "wanted"),
    [
        ("double", {}, [0, 0, 0]),
        ("int64", {}, [0, 0, 0]),
        ("double", {"a": 1e300, "b": True, "c": 3}, [2e300, 2, 6]),
        ("float", {"a": 1, "b": np.float64(0.5)}, [2, 1, 0]),
        ("int64", {"a": True, "c": np.int32(4)}, [2, 0, 8]),
    ],
)
def test_numbers_of_maps_have_the_type_that_is_declared(
    kind: str, given: dict[str, float], wanted: list[float]
) -> None:
    text = MAPS.replace("float", kind).replace("Mul", "Add")
    session = InferenceSession(from_message(parse_model(text)))
    for _ in range(3):
        found = session.run(None, {"x": given})[0]
        assert found.dtype == np.dtype(kind if kind != "float" else "float32")
        np.testing.assert_array_equal(found, [wanted])


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        ("int64", 1.5, r"but the feed has 1\.5 for 'a'"),
        ("double", None, "but the feed has None for 'a'"),
        ("float", "1", "but the feed has '1' for 'a'"),
        ("int64", np.uint64(1 << 63), "is map.string, int64.*, but Python int too large"),
        ("float", np.zeros(2), "is map.string, float.*, but only 0-dimensional arrays"),
    ],
)
def test_what_is_no_number_of_a_map_is_refused(kind: str, value: object, found: str) -> None:
    session = InferenceSession(from_message(parse_model(MAPS.replace("float", kind))))
    with pytest.raises(FornixError, match=found):
        session.run(None, {"x": {"a": value}})


def test_maps_like_those_before_are_fed() -> None:
    session = InferenceSession(from_message(parse_model(MAPS.replace("float", "int64"))))
    session.run(None, {"x": {"a": 2}})
    call = chained(session)
    for given, wanted in (({"c": 3, "?": 1}, [0, 0, 9]), ({"b": -1, "a": 5}, [25, 1, 0])):
        found = call.call({"x": given})
        assert found is not None
        np.testing.assert_array_equal(found[0], [wanted])
    for other in ({}, {1: 2}, {"a": 1.0}, {"a": "b"}, {"a": 1, 1: 1}, [("a", 1)]):
        assert call.call({"x": other}) is None
    with pytest.raises(FornixError, match="but the feed has the key 1 of type int"):
        session.run(None, {"x": {1: 2}})


DRIVEN = """
<ir_version: 8, opset_import: ["" : 19]>
g (float[N] x, string[K] names, int64 n, int64 at) => (string y, float[N] s, string[K] low) {
  stays = Constant <value = bool {1}> ()
  none = Constant <value_int = 0> ()
  two = Constant <value_int = 2> ()
  low = StringNormalizer <case_change_action = "LOWER"> (names)
  s, count = Loop (n, stays, x, none) <body = step (int64 i, bool k, float[N] h, int64 c)
      => (bool k2, float[N] o, int64 more) {
    k2 = Identity (k)
    one = Gather (x, at)
    shifted = Add (h, one)
    o = Sin (shifted)
    unit = Constant <value_int = 1> ()
    more = Add (c, unit)
  }>
  place = Mod (count, two)
  y = Gather (low, place)
}
"""


def driven_feeds(n: int = 3, at: int = 0) -> dict[str, Any]:
    x = np.linspace(0, 1, 4, dtype=np.float32)
    names = np.array(["A", "b"], object)
    return {"x": x, "names": names, "n": np.array(n), "at": np.array(at)}


def driven() -> InferenceSession:
    session = InferenceSession(from_message(parse_model(DRIVEN)))
    for _ in range(4):
        session.run(None, driven_feeds())
    return session


def test_control_flow_stands_among_kernels() -> None:
    session = driven()
    call = chained(session).call
    for n in (3, 1, 2, 0, 3, 900):
        given = driven_feeds(n=n)
        found = call(given)
        wanted = ReferenceEvaluator(from_message(parse_model(DRIVEN))).run(None, given)
        assert found is not None
        assert (found[0].tolist(), found[2].tolist()) == ("ab"[n % 2], ["a", "b"])
        np.testing.assert_allclose(found[1], wanted[1], rtol=1e-5)
        assert not any(np.shares_memory(found[1], other) for other in (given["x"], wanted[1]))


def test_what_goes_wrong_in_control_flow_among_kernels_is_told_as_ever() -> None:
    session = driven()
    assert chained(session).call(driven_feeds(at=4)) is None
    with pytest.raises(FornixError, match=r"Gather, opset 19.*found 4"):
        session.run(None, driven_feeds(at=4))
    assert chained(session).call(driven_feeds()) is not None


def test_a_loop_among_kernels_may_be_ended() -> None:
    session, options = driven(), RunOptions()
    run = chained(session).until(options)
    assert run(driven_feeds()) is not None
    options.terminate = True
    assert run(driven_feeds()) is None
    with pytest.raises(FornixError, match="has been ended"):
        session.run(None, driven_feeds(), options)
    endless = driven_feeds(n=2**62)
    options.terminate = False
    timer = threading.Timer(0.02, lambda: setattr(options, "terminate", True))
    timer.start()
    with pytest.raises(FornixError, match="has been ended"):
        session.run(None, endless, options)
    timer.join()


def test_lines_of_python_are_compiled_once_for_all_extents() -> None:
    session = opened()
    before = compiled_lines.cache_info().misses
    for count in range(4, 9):
        y, _, _ = session.run(None, feeds(*"a" * count))
        np.testing.assert_array_equal(y, np.arange(1, count + 1))
        chained(session)
    assert compiled_lines.cache_info().misses <= before + 1


LISTED = """
<ir_version: 10, opset_import: ["" : 20]>
g (seq(string[]) words, float[M] f) => (string[N] twice, int64[1] count) {
  zero = Constant <value = int64 {0}> ()
  word = SequenceAt (words, zero)
  twice = StringConcat (word, word)
  count = Shape (f)
}
"""


def listed(runs: int) -> InferenceSession:
    """A session that has run so often; in one of the next it gets its way through steps."""
    session = InferenceSession(from_message(parse_model(LISTED)))
    for _ in range(runs):
        session.run(None, {"words": [np.array(["a"], object)], "f": np.zeros(2, "f")})
    return session


@pytest.mark.parametrize("runs", range(5))
def test_extents_may_change_in_the_run_in_which_lists_get_a_short_way(runs: int) -> None:
    session = listed(runs)
    for count in (3, 3, 2):
        feed = {"words": [np.array(["b"], object)], "f": np.zeros(count, "f")}
        twice, found = session.run(None, feed)
        assert (twice.tolist(), found.tolist()) == (["bb"], [count])


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"others": [], "f": np.zeros(2, "f")}, "found none for words"),
    ({"words": 5, "f": np.zeros(2, "f")}, "the feed is a int"),
    ({"words": [np.array(["a"], object)], "f": np.zeros(2)}, "the feed is float64"),
]


@pytest.mark.parametrize("runs", range(4))
@pytest.mark.parametrize(("feed", "message"), WRONG)
def test_the_run_in_which_lists_get_a_short_way_may_be_wrong(
    runs: int, feed: dict[str, Any], message: str
) -> None:
    session = listed(runs)
    for _ in range(3):
        with pytest.raises(FornixError, match=message):
            session.run(None, feed)


def test_a_list_of_texts_is_no_single_text() -> None:
    text = LISTED.replace("seq(string[])", "seq(string)").replace("string[N]", "string")
    session, odd = InferenceSession(from_message(parse_model(text))), np.empty((), object)
    odd[()] = ["a", "b"]
    for word in [np.array("a", object)] * 4 + [odd]:
        twice, _ = session.run(None, {"words": [word], "f": np.zeros(2, "f")})
        assert twice.item() == str(word.item()) * 2


CHOSEN = """
<ir_version: 8, opset_import: ["" : 19]>
g (string[N] x, string[1] wanted, float[N, 3] v) => (float[M, 3] y, int64[K] where) {
  e = Equal (x, wanted)
  rows = Compress <axis = 0> (v, e)
  y = Neg (rows)
  found = NonZero (e)
  axis = Constant <value = int64[1] {0}> ()
  where = Squeeze (found, axis)
}
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_as_many_rows_as_texts_choose_take_a_short_way(threads: int) -> None:
    """Also where there are none, and where there are more than the first run had room for."""
    options = SessionOptions(intra_op_num_threads=threads)
    session = InferenceSession(from_message(parse_model(CHOSEN)), options)
    for count in (4, 300, 1):
        v = np.arange(3 * count, dtype="f").reshape(-1, 3)
        for names in ("a", "bbbaa", "ab", "b", "aé", "a"):
            x = np.resize(np.array(list(names), object), count)
            y, where = session.run(None, {"x": x, "wanted": np.array(["a"], object), "v": v})
            assert where.tolist() == np.flatnonzero(x == "a").tolist()
            np.testing.assert_array_equal(y, -v[x == "a"])
            assert y.flags.owndata
        call = chained(session)
        assert call.call({"x": x, "wanted": np.array(["a"], object), "v": v}) is not None
        assert call.call({"x": x, "wanted": np.array([b"a"], object), "v": v}) is None


def test_results_of_rows_that_texts_choose_are_the_callers_own() -> None:
    session = InferenceSession(from_message(parse_model(CHOSEN)))
    x, wanted = np.array(["a", "b"], object), np.array(["a"], object)
    before: list[np.ndarray[Any, Any]] = []
    for number in range(6):
        v = np.full((2, 3), number, "f")
        before.append(session.run(None, {"x": x, "wanted": wanted, "v": v})[0])
    assert [float(-y[0, 0]) for y in before] == list(range(6))
