"""Texts that machine code tells apart are those of the kernel, in its order."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from fornix.compile.text import routines as words
from fornix.compile.text.calls import first_words
from fornix.format.text import parse_model
from fornix.ir.load import from_message
from fornix.reference import ReferenceEvaluator
from fornix.runtime import InferenceSession
from fornix.runtime.text.distinct import Distinct

pytestmark = pytest.mark.skipif(not first_words(), reason="another Python lays texts out anew")

WORDS = (
    "",
    "a",
    "b",
    "ab",
    "é",
    "eight_by",
    "nine_byte",
    "größe",
    "中文",
    "日本語テキスト",
    "😀",
    "\u0100",
)


def model(attributes: str, outputs: str, shape: str = "N") -> Any:
    kinds = {"y": "string", "i": "int64", "g": "int64", "c": "int64"}
    made = ", ".join(f"{kinds[name]} {name}" for name in outputs.split(", ") if name != '""')
    text = f"""<ir_version: 8, opset_import: ["" : 11]>
    g (string[{shape}] x) => ({made}) {{ {outputs} = Unique <{attributes}> (x) }}"""
    return from_message(parse_model(text))


def agree(x: Any, attributes: str, outputs: str = "y, i, g, c", shape: str = "N") -> list[Any]:
    """What a session gives, which is what the kernels give."""
    made = model(attributes, outputs, shape)
    session = InferenceSession(made)
    found = [session.run(None, {"x": x}) for _ in range(2)][-1]
    expected = ReferenceEvaluator(made).run(None, {"x": x})
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tolist() == other.tolist()
    return found


def drawn(count: int, kinds: int) -> Any:
    random = np.random.default_rng(count)
    made = np.empty(count, object)
    made[:] = [f"{WORDS[k % len(WORDS)]}{k}"[:9] for k in random.integers(0, kinds, count)]
    return made


@pytest.mark.parametrize("attributes", ["sorted = 0", "sorted = 1"])
@pytest.mark.parametrize("kinds", [1, 30, 5000])
@pytest.mark.parametrize("count", [0, 1, 2, 300, 6000])
def test_distinct_texts_are_the_kernels(count: int, kinds: int, attributes: str) -> None:
    agree(drawn(count, kinds), attributes)


@pytest.mark.parametrize("count", [2047, 2048, 2049, 4096])
def test_texts_that_all_differ_fill_a_table(count: int) -> None:
    x = np.array([f"text {k}" for k in range(count)], object)
    y, _, _, counts = agree(x, "sorted = 0")
    assert y.tolist() == x.tolist()
    assert counts.tolist() == [1] * count


def test_texts_are_sorted_by_their_characters_and_counted() -> None:
    x = np.array(WORDS * 3, object)
    y, _, _, counts = agree(x, "sorted = 1")
    assert y.tolist() == sorted(WORDS)
    assert dict(zip(y.tolist(), counts.tolist(), strict=True)) == Counter(x.tolist())


@pytest.mark.parametrize("outputs", ["y", "y, i", "y, i, g", 'y, "", g', 'y, "", "", c'])
def test_only_what_is_asked_for_is_given(outputs: str) -> None:
    agree(drawn(50, 9), "sorted = 1", outputs)


def test_texts_in_rows_are_taken_one_by_one_unless_rows_are_compared() -> None:
    x = drawn(24, 5).reshape(8, 3)
    agree(x, "sorted = 1", shape="N, 3")
    agree(np.concatenate([x, x]), "sorted = 1, axis = 0", shape="N, 3")
    agree(x[:, 0], "sorted = 1, axis = -1")


def test_what_is_no_text_becomes_one_in_every_run() -> None:
    session = InferenceSession(model("sorted = 1", "y, i, g, c"))
    for _ in range(3):
        session.run(None, {"x": drawn(5, 3)})
        y, *_ = session.run(None, {"x": np.array(["a", 5, "5", None], object)})
        assert y.tolist() == ["5", "None", "a"]


def colliding(count: int) -> list[str]:
    """Texts of 16 characters whose second half makes the hashes of all of them equal."""
    made: list[str] = []
    number = 0
    while len(made) < count:
        first = b"%08x" % number
        seed = np.array([16 * 4], np.int64) ^ np.frombuffer(first, np.int64)
        product = seed * np.int64(words.FACTOR)
        second = (product ^ (product >> words.HALF)).tobytes()
        if max(second) < words.BEYOND:
            made.append((first + second).decode())
        number += 1
    return made


def test_texts_that_are_made_to_share_an_entry_are_left_to_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[bool] = []
    tell = Distinct.__call__

    def noted(self: Distinct, given: list[Any], run: Any) -> Any:
        found = tell(self, given, run)
        told.append(found is not None)
        return found

    monkeypatch.setattr(Distinct, "__call__", noted)
    agree(np.array(colliding(12), object), "sorted = 0")
    assert all(told)
    told.clear()
    agree(np.array(colliding(400), object), "sorted = 1")
    assert told
    assert not any(told)
