"""Texts among the inputs that nothing reads: the rest has the short way that it has alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from onnx import parser

from fornix.compile.entry import is_available
from fornix.errors import InvalidArgument
from fornix.runtime import InferenceSession, RunOptions
from fornix.runtime.shortcuts.unread import UnreadCall

pytestmark = pytest.mark.skipif(not is_available(), reason="another Python lays objects out anew")

HEAD = '<ir_version: 10, opset_import: ["" : 21, "ai.onnx.ml" : 3]> f '
NUMBERS = "(string[N, 1] a, float[N, 3] x, string[M] b) => (float[N, 3] y) { y = Exp (x) }"
TEXTS = """(string[N, 1] a, string[N] b, float[N, 3] x) => (int64[N] y, float[N, 3] z) {
    y = ai.onnx.ml.LabelEncoder <keys_strings = ["p", "q"], values_int64s = [1, 2]> (b)
    z = Neg (x)
}"""
COUNTED = """(string[N] a, float[M] x) => (float[N] y, float[M] z) {
    s = Shape (a)
    y = ConstantOfShape (s)
    z = Exp (x)
}"""


def texts(*items: object) -> np.ndarray[Any, Any]:
    made = np.empty(len(items), object)
    made[:] = items
    return made


def feeds(rows: int) -> dict[str, Any]:
    x = np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)
    return {"a": texts(*"pqrst"[:rows]).reshape(rows, 1), "x": x, "b": texts(*"qpqpq"[:rows])}


def opened(text: str, given: Mapping[str, Any]) -> InferenceSession:
    """A session that has run, so that the short way is open."""
    session = InferenceSession(parser.parse_model(HEAD + text))
    for _ in range(4):
        session.run(None, dict(given))
    return session


def test_numbers_are_computed_beside_texts_that_nothing_reads() -> None:
    given = feeds(4)
    session = opened(NUMBERS, given)
    assert isinstance(session._short, UnreadCall)
    for factor in (1, -1):
        given["x"] = given["x"] * np.float32(factor)
        for options in (None, RunOptions()):
            [found] = session.run(None, given, options)
            np.testing.assert_allclose(found, np.exp(given["x"]), rtol=1e-6)
        [found] = session._short.call(given) or [None]
        np.testing.assert_allclose(found, np.exp(given["x"]), rtol=1e-6)


def test_texts_that_are_read_are_read_beside_others() -> None:
    given = feeds(5)
    session = opened(TEXTS, given)
    assert isinstance(session._short, UnreadCall)
    found = session._short.call(given)
    assert found is not None
    np.testing.assert_array_equal(found[0], [2, 1, 2, 1, 2])
    np.testing.assert_array_equal(found[1], -given["x"])


@pytest.mark.parametrize(
    "other",
    [
        {"a": texts("p", "q")},
        {"a": texts("p", "q", "r").reshape(3, 1)},
        {"a": np.zeros((2, 1), np.float32)},
        {"a": texts("p", b"q").reshape(2, 1)},
        {"a": ["p", "q"]},
        {"b": None},
    ],
)
def test_what_looks_otherwise_goes_the_long_way(other: dict[str, Any]) -> None:
    given = feeds(2)
    session = opened(NUMBERS, given)
    assert session._short is not None
    changed = {name: feed for name, feed in {**given, **other}.items() if feed is not None}
    assert session._short.call(changed) is None
    assert session._short.call({**given, "more": given["x"]}) is None
    assert session._short.call(given) is not None


def test_extents_that_disagree_are_refused_as_ever() -> None:
    session = opened(NUMBERS, feeds(2))
    with pytest.raises(InvalidArgument, match="N"):
        session.run(None, {**feeds(2), "a": feeds(3)["a"]})
    with pytest.raises(InvalidArgument, match="UTF-8"):
        session.run(None, {**feeds(2), "b": texts(b"\xff", "p")})


def test_extents_that_only_texts_tell_are_those_of_the_texts() -> None:
    given = {"a": texts("p", "q"), "x": np.zeros(3, np.float32)}
    session = opened(COUNTED, given)
    for count in (2, 4, 2):
        given["a"] = texts(*"pqrs"[:count])
        for _ in range(3):
            y, z = session.run(None, given)
            assert y.shape == (count,)
            np.testing.assert_array_equal(z, np.ones(3))
