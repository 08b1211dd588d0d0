"""Iterations on single texts, whole numbers and truths: the same as of their NumPy kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.compile.entry import is_available
from fornix.errors import FornixError
from fornix.runtime import InferenceSession
from fornix.runtime.control import singles
from tests.runtime.control.flows import sessions, texts

pytestmark = pytest.mark.skipif(not is_available(), reason="another Python lays objects out anew")

COLLECTED = """f (seq(string[1]) x, string[1] k) => (string[1] y) {
    n = SequenceLength (x) c = Constant <value = bool {1}> ()
    z = Constant <value_strings = [""]> ()
    y = Loop (n, c, z) <body = b (int64 i, bool h, string[1] a) => (bool g, string[1] o) {
        g = Identity (h) w = SequenceAt (x, i) e0 = Equal (w, k) e = Squeeze (e0)
        o = If (e) <then_branch = t () => (string[1] u) { u = Identity (a) },
                    else_branch = s () => (string[1] v) { v = StringConcat (a, w) }> }> }"""
ROWS = """f (string[N] x, int64 n) => (string y, string[M] w, int64[M] j, int64[M,1] k) {
    c = Constant <value = bool {1}> () e = Constant <value_string = ""> ()
    y, w, j, k = Loop (n, c, e) <
        body = b (int64 i, bool h, string a) => (bool g, string o, string r, int64 s, int64[1] t) {
            last = Constant <value_string = "end"> () first = Constant <value_ints = [0]> ()
            r = Gather (x, i) m = Equal (r, last) g = Not (m)
            o = StringConcat (a, r) s = Mul (i, i) t = Unsqueeze (i, first) }> }"""
SWEPT = """f (string s, string[N] x) => (string y, string[N] z) {
    y, z = Scan (s, x) <num_scan_inputs = 1, scan_input_directions = [1],
        scan_output_directions = [1], body = b (string a, string r) => (string o, string q) {
            p = Constant <value_string = "-"> () d = StringConcat (a, p) o = StringConcat (d, r)
            q = StringConcat (r, a) }> }"""
COUNTED = """f (string[N] x, string k, int64 z) => (string t, int64 y, int64 last) {
    n0 = Size (x) c = Constant <value = bool {1}> ()
    t, y, last = Loop (n0, c, k, z, z) <
        body = b (int64 i, bool h, string s, int64 a, int64 l)
            => (bool g, string r, int64 o, int64 p) {
            g = Identity (h) w = Gather (x, i) e = Equal (w, k) q = Less (a, i) d = Or (e, q)
            two = Constant <value = int64 {2}> () m = Mul (a, two) o = Where (d, m, a)
            p = Identity (i) r = StringConcat (s, w) }> }"""


def pair(text: str) -> tuple[InferenceSession, InferenceSession]:
    return sessions(text, opset=21)


def check(compiled: InferenceSession, reference: InferenceSession, *runs: dict[str, Any]) -> None:
    """Several runs, in turn and again, give what the reference does."""
    for feeds in [run for run in runs for _ in range(6)] + [*runs]:
        for one, other in zip(compiled.run(None, feeds), reference.run(None, feeds), strict=True):
            assert one.dtype == other.dtype
            assert one.shape == other.shape
            assert one.tolist() == other.tolist()


def test_words_of_a_sequence_are_joined_but_one(made: list[Any]) -> None:
    compiled, reference = pair(COLLECTED)
    words = [texts(word) for word in ("the", "fox", "é", "", "fox")]
    check(
        compiled, reference,
        {"x": words, "k": texts("fox")}, {"x": words[:2], "k": texts("no")},
        {"x": words[:1], "k": texts("the")},
    )  # fmt: skip
    assert any(made)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_rows_are_kept_until_a_word_comes(made: list[Any], count: int) -> None:
    compiled, reference = pair(ROWS)
    words = texts("a", "b", "end", "c", "d")
    check(
        compiled, reference,
        {"x": words, "n": np.array(count)}, {"x": words[[0, 1, 3, 4, 0]], "n": np.array(count)},
    )  # fmt: skip
    assert any(made) == (count > 0)


def test_a_scan_goes_backwards(made: list[Any]) -> None:
    compiled, reference = pair(SWEPT)
    for words in (texts("a", "b", "c"), texts("d", "e"), texts("f")):
        check(compiled, reference, {"s": np.array("", object), "x": words})
    assert any(made)


def test_numbers_that_64_bits_do_not_hold_are_those_of_the_kernels(made: list[Any]) -> None:
    compiled, reference = pair(COUNTED)
    words, word = texts("a", "b", "a", "c"), np.array("a", object)
    check(
        compiled, reference,
        {"x": words, "k": word, "z": np.array(3)}, {"x": words, "k": word, "z": np.array(2**61)},
        {"x": words, "k": word, "z": np.array(2**62)},
        {"x": words, "k": word, "z": np.array(-(2**63))},
    )  # fmt: skip
    assert any(made)


def test_a_place_that_is_not_there_is_an_error_as_ever(made: list[Any]) -> None:
    compiled, reference = pair(ROWS)
    good = {"x": texts("a", "b", "c"), "n": np.array(3)}
    check(compiled, reference, good)
    assert any(made)
    for session in (compiled, reference):
        with pytest.raises(FornixError, match="indices must be in"):
            session.run(None, {**good, "n": np.array(4)})
    check(compiled, reference, good)


SOME = """f (seq(string) x, string[N] y, int64[M] z, int64 n, string s) => (string r) {
    c = Constant <value = bool {1}> ()
    r = Loop (n, c, s) <body = b (int64 i, bool h, string a) => (bool g, string o) {
        g = Identity (h) j = Gather (z, i) u = SequenceAt (x, j) v = Gather (y, j)
        w = StringConcat (u, v) o = StringConcat (a, w) }> }"""


def test_few_iterations_read_few_of_many_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    original = singles._text

    def observed(found: object) -> str:
        read.append(found)
        return original(found)

    monkeypatch.setattr(singles, "_text", observed)
    compiled, reference = pair(SOME)
    words = texts(*(f"{number} " for number in range(300)))
    feeds = {
        "x": [word.reshape(()) for word in np.split(words, 300)], "y": words, "n": np.array(3),
        "z": np.array([7, -1, 299, 300]), "s": np.array(":", object),
    }  # fmt: skip
    check(compiled, reference, feeds)
    read.clear()
    assert compiled.run(None, feeds)[0] == ":7 7 299 299 299 299 "
    assert read == [":", "7 ", "7 ", "299 ", "299 ", "299 ", "299 "]
    with pytest.raises(FornixError, match="must be in"):
        compiled.run(None, {**feeds, "n": np.array(4)})


def test_elements_of_other_ranks_are_left_to_kernels() -> None:
    compiled, reference = pair(COLLECTED.replace("seq(string[1])", "seq(string)"))
    plain, other = [texts("the"), texts("a"), texts("fox")], [texts("the"), np.array("a", object)]
    key = texts("fox")
    check(compiled, reference, {"x": plain, "k": key}, {"x": other, "k": key})


@pytest.mark.parametrize("kind", [np.str_, type("Word", (str,), {})])
def test_texts_of_derived_classes_are_texts(kind: type[str]) -> None:
    compiled, reference = pair(SWEPT)
    words = texts(*map(kind, ("a", "b", "c")))
    check(compiled, reference, {"s": texts(kind("s")).reshape(()), "x": words})


UNLIKE = """f (string[N] x) => (seq(string) y, int64 m) {
    n = Size (x) c = Constant <value = bool {1}> () p0 = Constant <value_string = ""> ()
    e = SequenceEmpty <dtype = 8> ()
    q, y = Loop (n, c, p0, e) <
        body = b (int64 i, bool h, string p, seq(string) a) => (bool g, string o, seq(string) r) {
            g = Identity (h) o = Gather (x, i) k = Equal (o, p)
            r = If (k) <then_branch = t () => (seq(string) u) { u = Identity (a) },
                        else_branch = s () => (seq(string) v) { v = SequenceInsert (a, o) }> }>
    m = SequenceLength (y) }"""
TURNED = """f (seq(string[1]) x, int64 n, int64 k) => (seq(string[1]) y, int64[M] z) {
    c = Constant <value = bool {1}> () s = Constant <value_strings = ["!"]> ()
    y, z = Loop (n, c, x) <
        body = b (int64 i, bool h, seq(string[1]) a) => (bool g, seq(string[1]) o, int64 l) {
            g = Identity (h) w = SequenceAt (a, k) v = StringConcat (w, s)
            d = SequenceErase (a, k) o = SequenceInsert (d, v, i) l = SequenceLength (o) }> }"""
MATCHED = """f (string[N] x) => (int64 y, string z) {
    n = Size (x) c = Constant <value = bool {1}> () zero = Constant <value = int64 {0}> ()
    e = Constant <value_string = ""> ()
    y, z = Loop (n, c, zero, e) <
        body = b (int64 i, bool h, int64 a, string p) => (bool g, int64 o, string q) {
            g = Identity (h) w = Gather (x, i) m = RegexFullMatch <pattern = "[a-z]*o."> (w)
            d = Cast <to = 7> (m) o = Add (a, d) t = Cast <to = 8> (o) q = StringConcat (p, t)
        }> }"""


def listed(found: list[np.ndarray[Any, Any]]) -> list[tuple[Any, ...]]:
    return [(element.dtype, element.shape, element.tolist()) for element in found]


def check_lists(
    compiled: InferenceSession, reference: InferenceSession, *runs: dict[str, Any]
) -> None:
    """As `check`, of a sequence and a tensor."""
    for feeds in [run for run in runs for _ in range(6)] + [*runs]:
        (one, least), (other, most) = (s.run(None, feeds) for s in (compiled, reference))
        assert listed(one) == listed(other)
        assert least.tolist() == most.tolist()


def test_a_sequence_grows_by_texts_unlike_the_one_before(made: list[Any]) -> None:
    compiled, reference = pair(UNLIKE)
    words = texts("a", "a", "b", "é", "é", "a")
    check_lists(compiled, reference, {"x": words}, {"x": words[:2]}, {"x": texts()})
    assert any(made)
    first, _ = compiled.run(None, {"x": words})
    first.clear()
    assert [word.item() for word in compiled.run(None, {"x": words})[0]] == ["a", "b", "é", "a"]


@pytest.mark.parametrize("place", [0, -1, 1])
def test_elements_of_a_sequence_are_moved(made: list[Any], place: int) -> None:
    compiled, reference = pair(TURNED)
    words = [texts(word) for word in ("a", "b", "c", "d")]
    feeds = {"x": words, "n": np.array(3), "k": np.array(place)}
    check_lists(compiled, reference, feeds, {**feeds, "x": words[:3]})
    assert any(made)
    assert [word.item() for word in words] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(("count", "place"), [(5, 0), (2, 4), (2, -5)])
def test_places_that_sequences_do_not_have_are_errors_as_ever(count: int, place: int) -> None:
    compiled, reference = pair(TURNED)
    words = [texts(word) for word in ("a", "b", "c", "d")]
    good: dict[str, Any] = {"x": words, "n": np.array(3), "k": np.array(0)}
    check_lists(compiled, reference, good)
    for session in (compiled, reference):
        with pytest.raises(FornixError, match="position must be in"):
            session.run(None, {**good, "n": np.array(count), "k": np.array(place)})


def test_words_that_match_are_counted(made: list[Any]) -> None:
    compiled, reference = pair(MATCHED)
    words = texts("fox", "brown", "of", "ö", "oé")
    check(compiled, reference, {"x": words}, {"x": words[1:3]})
    assert any(made)
    assert compiled.run(None, {"x": words})[0] == 3  # fox, of, oé
