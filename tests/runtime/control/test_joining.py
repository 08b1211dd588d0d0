"""Maps of bodies that compute each element by itself: the same as of their NumPy kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.compile.entry import is_available
from fornix.errors import FornixError
from fornix.runtime.control import driving, joining
from tests.runtime.control.flows import sessions, texts

pytestmark = pytest.mark.skipif(not is_available(), reason="another Python lays objects out anew")

NUMBERED = """ai.onnx.ml.LabelEncoder <keys_strings = ["a", "é"], values_int64s = [5, 7],
    default_int64 = -1>"""
LOOKED_UP = f"""f (seq(string[]) x, string[] k) => (seq(int64[]) y, seq(string[]) z) {{
    y, z = SequenceMap (x, k) <body = b (string[] a, string[] d) => (int64[] r, string[] t) {{
        t = StringConcat (a, d) p = {NUMBERED} (a) h = Constant <value_ints = [2]> ()
        r = Mul (p, h) }}> }}"""
CHOSEN = """f (seq(string[]) x, seq(string[]) w) => (seq(string[]) y) {
    y = SequenceMap (x, w) <body = b (string[] a, string[] c) => (string[] r) {
        q = Equal (a, c) e = Constant <value_string = "same"> () r = Where (q, e, a) }> }"""


@pytest.fixture
def joins(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A list that grows with each map that may join: whether it did."""
    made: list[bool] = []

    def observed(*given: Any) -> Any:
        results = joining.joined(*given)
        made.append(results is not None)
        return results

    monkeypatch.setattr(driving, "joined", observed)
    return made


def drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return rng.choice(texts("a", "é", "", "other"), shape)


def check(text: str, feeds: dict[str, Any], pair: Any = None) -> None:
    """Results are those of kernels; the caller's own, and none shares memory with others."""
    fast, slow = pair or sessions(text, opset=20)
    for found, wanted in zip(fast.run(None, feeds), slow.run(None, feeds), strict=True):
        for one, other in zip(found, wanted, strict=True):
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            assert one.tolist() == other.tolist()
            assert one.flags.owndata


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_tensors_of_drawn_extents_are_joined(threads: int, rank: int, joins: list[bool]) -> None:
    pair, rng = sessions(LOOKED_UP, threads, opset=20), np.random.default_rng(rank)
    for count in (4, 6, 5, 9, 4, 12):
        x = [drawn(rng, (*rng.integers(0, 4, rank),)) for _ in range(count)]
        check(LOOKED_UP, {"x": [drawn(rng, (2,) * rank), *x], "k": np.array("!", object)}, pair)
    assert joins
    assert all(joins)


def test_tensors_that_lie_in_another_order_are_joined(joins: list[bool]) -> None:
    pair, rng = sessions(LOOKED_UP, opset=20), np.random.default_rng(0)
    x = [drawn(rng, (3, 4)).T, drawn(rng, (6,))[::-1], drawn(rng, (2, 2, 2)).transpose(2, 0, 1)]
    for _ in range(4):
        check(LOOKED_UP, {"x": x * 2, "k": np.array(["!"], object)}, pair)
    assert any(joins)


def test_what_has_to_be_broadcast_is_mapped_one_by_one(joins: list[bool]) -> None:
    pair, rng = sessions(CHOSEN, opset=20), np.random.default_rng(0)
    for _ in range(4):
        x = [drawn(rng, (n,)) for n in (1, 2, 3, 1, 2)]
        check(CHOSEN, {"x": x, "w": [drawn(rng, one.shape) for one in x]}, pair)
        check(CHOSEN, {"x": x, "w": [drawn(rng, (1,)) for one in x]}, pair)
        check(CHOSEN, {"x": [np.array("a", object)] * 5, "w": x}, pair)
    assert True in joins
    assert False in joins


def test_many_texts_beside_a_sequence_are_not_joined_to_its_elements(joins: list[bool]) -> None:
    pair, rng = sessions(LOOKED_UP, opset=20), np.random.default_rng(0)
    for _ in range(4):
        check(LOOKED_UP, {"x": [drawn(rng, (2,))] * 5, "k": texts("+", "-")}, pair)
        check(LOOKED_UP, {"x": [drawn(rng, (2,))] * 5, "k": texts("+").reshape(1, 1)}, pair)
    assert joins
    assert not any(joins)


@pytest.mark.parametrize(
    ("node", "is_joined"),
    [
        ("Identity (a)", True),
        ('RegexFullMatch <pattern = "a+"> (a)', True),
        ("StringSplit (a)", False),
        ('StringNormalizer <stopwords = ["a"]> (a)', False),
        ("StringConcat (a, outer)", False),
    ],
)  # fmt: skip
def test_only_bodies_are_joined_that_compute_each_element_by_itself(
    node: str, is_joined: bool, joins: list[bool]
) -> None:
    others = ", m" if node.startswith("StringSplit") else ""
    kind = "bool" if node.startswith("Regex") else "string"
    text = f"""f (seq(string[N]) x, string[M] outer) => (seq({kind}[]) y) {{
        y = SequenceMap (x) <body = b (string[N] a) => ({kind}[] r) {{ r{others} = {node} }}> }}"""
    feeds = {"x": [texts("b", "c")] * 5, "outer": texts("+", "-")}
    pair = sessions(text, opset=20)
    for _ in range(4):
        check(text, feeds, pair)
    assert (True in joins) is is_joined


def test_elements_of_another_type_are_refused_by_those_that_are_joined() -> None:
    fast, _ = sessions(LOOKED_UP, opset=20)
    k = np.array("!", object)
    for _ in range(5):
        fast.run(None, {"x": [texts("a")] * 5, "k": k})
    with pytest.raises(FornixError):
        fast.run(None, {"x": [texts("a"), np.ones(1, "f")] * 3, "k": k})
