"""Programs of numbers, texts and maps are one native call where each of their nodes has code."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import pytest

from fornix.compile.text.calls import first_words
from fornix.errors import FornixError
from fornix.format.text import parse_model
from fornix.ir.load import from_message
from fornix.reference import ReferenceEvaluator
from fornix.runtime import InferenceSession, RunOptions
from fornix.runtime.native import NativeStep
from fornix.runtime.shortcuts.joint import JointCall
from fornix.runtime.shortcuts.quick import QUICK_NANOSECONDS

pytestmark = pytest.mark.skipif(not first_words(), reason="another Python lays texts out anew")

MODEL = """
<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 2]>
g (string[N] name, float[N] x, string[N] other)
    => (float[N] y, seq(map(string, float)) maps, string[N] label) {
  number = ai.onnx.ml.LabelEncoder <keys_strings = ["a", "b"], values_floats = [1.0, 2.0],
                                    default_float = -1.0> (name)
  second = ai.onnx.ml.LabelEncoder <keys_strings = ["é", "xyz"], values_floats = [0.5, 4.0],
                                    default_float = 0.0> (other)
  product = Mul (number, x)
  y = Add (product, second)
  axis = Constant <value = int64[1] {1}> ()
  one = Unsqueeze (y, axis)
  negative = Neg (one)
  two = Concat <axis = 1> (one, negative)
  maps = ai.onnx.ml.ZipMap <classlabels_strings = ["u", "v"]> (two)
  best = ArgMax <axis = 1, keepdims = 0> (two)
  names = Constant <value_strings = ["plus", "minus"]> ()
  label = Gather (names, best)
}
"""


def texts(*items: Any) -> Any:
    made = np.empty(len(items), object)
    made[:] = items
    return made


def feeds(*names: Any) -> dict[str, Any]:
    others = ["é", "xyz", "\u4e2d"]
    return {
        "name": texts(*names),
        "x": np.arange(1, len(names) + 1, dtype=np.float32),
        "other": texts(*[others[k % 3] for k in range(len(names))]),
    }


def opened(text: str, *given: dict[str, Any]) -> tuple[InferenceSession, JointCall]:
    session = InferenceSession(from_message(parse_model(text)))
    for one in given:
        session.run(None, one)
    call = session._short
    assert isinstance(call, JointCall)
    return session, call


def same(found: Any, wanted: Any) -> None:
    assert found is not None
    for one, other in zip(found, wanted, strict=True):
        if isinstance(other, np.ndarray):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other


@pytest.mark.parametrize("count", [1, 2, 7])
def test_it_gives_what_the_model_says(count: int) -> None:
    names = ["b", "", "a", "a" * 20, "\U0001f600", "b", "a"][:count]
    _, call = opened(MODEL, feeds(*names))
    given = feeds(*names[::-1])
    wanted = ReferenceEvaluator(from_message(parse_model(MODEL))).run(None, given)
    same(call.call(given), wanted)
    same(call.call(given), wanted)


def test_work_that_no_other_thread_is_woken_for_is_one_call() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 2]>
        g (float[32, 128] x, float[128, 100] w) => (string[32] label) {
            y = MatMul (x, w)
            best = ArgMax <axis = 1, keepdims = 0> (y)
            names = Constant <value_strings = ["first", "second"]> ()
            zero = Constant <value = int64 {0}> ()
            one = Constant <value = int64 {1}> ()
            number = Clip (best, zero, one)
            label = Gather (names, number)
        }"""
    x, w = np.ones((32, 128), np.float32), np.eye(128, 100, 1, np.float32)
    session, call = opened(text, {"x": x, "w": w})
    assert session._programs is not None
    native = [s for s in session._programs.general.steps if isinstance(s, NativeStep)]
    assert sum(b.nanoseconds for s in native for b in s._bound.values()) > QUICK_NANOSECONDS
    same(call.call({"x": x, "w": w}), [texts(*["second"] * 32)])


@pytest.mark.parametrize(
    "change",
    [
        {"x": np.ones(2, np.float32)},
        {"x": np.ones(3)},
        {"x": np.ones(6, np.float32)[::2]},
        {"x": [1.0, 2.0, 3.0]},
        {"name": texts("a", "b", 3)},
        {"name": texts("a", None, "b")},
        {"name": texts("a", "b", np.str_("a"))},
        {"name": texts("a", "b", b"a")},
        {"other": np.array(["a", "b", "c"])},
        {"more": np.ones(3)},
    ],
    ids=lambda change: str(next(iter(change.values()))),
)
def test_other_feeds_go_the_long_way(change: dict[str, object]) -> None:
    _, call = opened(MODEL, feeds("a", "b", "?"))
    assert call.call(feeds("a", "b", "?") | change) is None
    assert call.call(feeds("a", "b", "?")) is not None


def test_results_are_the_callers_own() -> None:
    session, _ = opened(MODEL, feeds("b", "?", "a"))
    first = session.run(None, feeds("b", "?", "a"))
    kept = [first[0].copy(), [dict(one) for one in first[1]], first[2].copy()]
    second = session.run(None, feeds("a", "a", "a"))
    same(first, kept)
    second[0][:], second[2][:] = 7, "changed"
    second[1].clear()
    same(session.run(None, feeds("b", "?", "a")), kept)


def test_runs_that_may_be_ended_are() -> None:
    session, _ = opened(MODEL, feeds("a", "b", "b"))
    options = RunOptions()
    options.terminate = True
    with pytest.raises(FornixError, match="ended"):
        session.run(None, feeds("a", "b", "b"), options)


def test_a_call_during_another_goes_the_long_way() -> None:
    session, call = opened(MODEL, feeds("a", "b"))
    wanted = session.run(None, feeds("b", "b"))
    entry = call._free.pop()  # as while garbage is collected
    assert call.call(feeds("b", "b")) is None
    same(session.run(None, feeds("b", "b")), wanted)
    call._free.append(entry)
    same(call.call(feeds("b", "b")), wanted)


def test_it_may_be_called_by_several_threads() -> None:
    session, _ = opened(MODEL, feeds("a", "b"))
    wanted = {name: session.run(None, feeds(name, name)) for name in "ab?"}
    wrong: list[object] = []

    def work(name: str) -> None:
        for _ in range(200):
            found = session.run(None, feeds(name, name))
            if found[0].tolist() != wanted[name][0].tolist() or found[1] != wanted[name][1]:
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab?"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_nobody_gains_or_loses_a_reference() -> None:
    _, call = opened(MODEL, feeds("a", "b"))
    given = feeds("some text".strip(), "b")
    others = given | {"x": np.ones(5, np.float32)}, given | {"name": texts("a", 1)}
    watched = [given, *given.values(), *given["name"], None]
    changes = []
    for _ in range(200):  # short ones, as other threads take and give None meanwhile
        before = [sys.getrefcount(x) for x in watched]
        for one in (given, *others) * 20:
            call.call(one)
        changes.append(np.subtract([sys.getrefcount(x) for x in watched], before))
    assert not np.median(changes, axis=0).any()


MAPS = """
<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 2]>
g (map(KEY, float) x, float[1, 3] z) => (float[1, 3] y) {
  row = ai.onnx.ml.DictVectorizer <WORDS> (x)
  y = Mul (row, z)
}
"""
WORDS = {"string": 'string_vocabulary = ["a", "é", "b"]', "int64": "int64_vocabulary = [5, 7, -9]"}
HUGE = 1e300
Z = np.array([[1, 2, 4]], np.float32)


def of_maps(key: str = "string", kind: str = "float") -> str:
    return MAPS.replace("KEY", key).replace("WORDS", WORDS[key]).replace("float", kind)


@pytest.mark.parametrize(
    ("key", "given", "wanted"),
    [
        ("string", {}, [0, 0, 0]),
        ("string", {"b": 0.5, "?": 9.0, "a": -1.0}, [-1, 0, 2]),
        ("string", {"é": np.float64(3.0), "b": np.float32(0.25)}, [0, 6, 1]),
        ("string", {"a": float("inf"), "b": HUGE}, [np.inf, 0, np.inf]),
        ("string", {f"{k}": 1.0 for k in range(99)}, [0, 0, 0]),
        ("int64", {-9: 1.5, 5: 1.0, 1 << 62: 3.0}, [1, 0, 6]),
    ],
)
@pytest.mark.parametrize("kind", ["float", "double"])
def test_maps_are_read(key: str, given: dict[Any, Any], wanted: list[float], kind: str) -> None:
    z = Z.astype("float32" if kind == "float" else kind)
    first = {"x": {"a": 1.0} if key == "string" else {5: 1.0}, "z": z}
    _, call = opened(of_maps(key, kind), first)
    if kind == "double":
        wanted = [
            4e300 if given.get("b", 0) is HUGE and k == 2 else x for k, x in enumerate(wanted)
        ]
    same(call.call({"x": given, "z": z}), [np.array([wanted], z.dtype)])


@pytest.mark.parametrize(
    "other",
    [{1: 2.0}, {"a": 1}, {"a": True}, {"a": "b"}, {"a": 1.0, 1: 1.0}, {np.str_("a"): 1.0},
     {"a": np.array(1.0)}, {"a": None}, [("a", 1.0)], None, np.zeros(3)],
    ids=str,
)  # fmt: skip
def test_other_maps_go_the_long_way(other: Any) -> None:
    session, call = opened(of_maps(), {"x": {"a": 2.0}, "z": Z})
    assert call.call({"x": other, "z": Z}) is None
    same(session.run(None, {"x": {"a": 3.0}, "z": Z}), [np.array([[3, 0, 0]], np.float32)])


def test_what_is_fed_is_held_while_garbage_may_be_collected() -> None:
    assert opened(of_maps(), {"x": {"a": 2.0}, "z": Z})[1]._copies
    assert not opened(MODEL, feeds("a", "b"))[1]._copies


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_the_type_are_infinite_without_a_warning() -> None:
    session, _ = opened(of_maps(), {"x": {"a": 2.0}, "z": Z})
    found = session.run(None, {"x": {"a": 1, "b": HUGE}, "z": Z})
    same(found, [np.array([[1, 0, np.inf]], np.float32)])
