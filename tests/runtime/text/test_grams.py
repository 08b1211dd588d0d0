"""Machine code counts n-grams of words as the kernel does, and leaves what it cannot."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from fornix.compile.text.calls import Crowded, Keys, Numbers, first_words
from fornix.compile.text.routines import FACTOR
from fornix.format.text import parse_model
from fornix.ir.load import from_message
from fornix.reference import ReferenceEvaluator
from fornix.runtime import InferenceSession
from fornix.runtime.providers import Run
from fornix.runtime.text.grams import gram_way

pytestmark = pytest.mark.skipif(not first_words(), reason="another Python lays texts out anew")

Array = np.ndarray[Any, np.dtype[Any]]
TEXTS = ("a", "b", "the", "größe", "中文", "😀", "a_word_of_16_char", "x" * 40, "")


def model(read: str, mode: str, pool: list[Any], starts: list[int], **more: Any) -> Any:
    """TfIdfVectorizer of a pool, in which ``starts`` are where each length begins."""
    ends = [*starts[1:], len(pool)]
    count = sum((b - a) // n for n, (a, b) in enumerate(zip(starts, ends, strict=True), 1))
    given: dict[str, Any] = {
        "mode": f'"{mode}"',
        "min_gram_length": 1,
        "max_gram_length": len(starts),
        "max_skip_count": 0,
        "ngram_counts": starts,
        "ngram_indexes": [*range(count)][::-1],
        "weights": [round(0.5 - place / 7, 3) for place in range(count)],
    }
    kind = "strings" if isinstance(pool[0], str) else "int64s"
    given[f"pool_{kind}"] = str(pool).replace("'", '"')
    flags = ", ".join(f"{name} = {value}" for name, value in (given | more).items())
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g ({read} x) => (float y) {{ y = TfIdfVectorizer <{flags}> (x) }}"""
    return from_message(parse_model(text))


def agree(made: Any, x: Array) -> None:
    session = InferenceSession(made)
    [expected] = ReferenceEvaluator(made).run(None, {"x": x})
    for _ in range(2):
        [found] = session.run(None, {"x": x})
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert found.tolist() == expected.tolist()


def drawn(kind: str, shape: tuple[int, ...], seed: int) -> Array:
    source = random.Random(seed)
    words = [*TEXTS, "none"] if kind == "string" else [-(2**63), -1, 0, 3, 7, 2**63 - 1, 5]
    x = np.array(source.choices(words, k=int(np.prod(shape))), object)
    return (x if kind == "string" else x.astype(kind)).reshape(shape)


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize("shape", [(7,), (5, 9), (0, 3), (3, 0), (0,), (1, 1)])
@pytest.mark.parametrize("skip", [0, 2])
@pytest.mark.parametrize("kind", ["string", "int64"])
def test_counts_are_those_of_the_kernel(
    mode: str, shape: tuple[int, ...], skip: int, kind: str
) -> None:
    if kind == "string":
        pool: list[Any] = [*TEXTS, "a", "b", "b", "the", "a", "a", "b", "a", "中文"]
    else:
        pool = [-(2**63), -1, 0, 3, 7, 2**63 - 1, 3, 3, 0, 7, 7, 0, 3, 3, 3]
    ones = len(TEXTS) if kind == "string" else 6
    made = model(f"{kind}{['[C]', '[N, C]'][len(shape) - 1]}", mode, pool, [0, ones, ones + 6],
                 max_skip_count=skip)  # fmt: skip
    agree(made, drawn(kind, shape, seed=sum(shape) + skip))


def test_numbers_of_32_bits_are_counted() -> None:
    made = model("int32[N, C]", "TF", [3, 7, 3, 7], [0, 2])
    agree(made, np.array([[3, 7, 3], [0, 0, 7]], np.int32))


def test_lengths_that_are_not_asked_for_do_not_count() -> None:
    made = model("string[C]", "TF", ["a", "b", "a", "b"], [0, 2], min_gram_length=2)
    agree(made, np.array(["a", "b", "a"], object))


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
def test_a_coordinate_may_be_shared(mode: str) -> None:
    made = model("string[C]", mode, ["a", "b", "a", "b"], [0, 2], ngram_indexes=[1, 1, 0])
    agree(made, np.array(["a", "b", "b"], object))


@pytest.mark.parametrize("mode", ["IDF", "TFIDF"])
def test_what_does_not_occur_is_zero_whatever_its_weight(mode: str) -> None:
    made = model("string[C]", mode, ["a", "b"], [0], weights=[-3.4e38, 1.0])
    [y] = InferenceSession(made).run(None, {"x": np.array(["b"], object)})
    assert y.tolist() == [1.0, 0.0]
    assert not np.signbit(y[1])


def test_many_steps_are_hashed() -> None:
    words = [f"w{number}" for number in range(400)]
    pairs = [word for number in range(300) for word in (words[number], words[number * 7 % 400])]
    made = model("string[N, C]", "TF", [*words, *pairs], [0, 400])
    x = np.array(random.Random(1).choices(words, k=300), object).reshape(3, 100)
    agree(made, x)


def test_machine_code_does_it() -> None:
    session = InferenceSession(model("string[C]", "TF", ["a"], [0]))
    assert session._programs is not None
    (step,) = session._programs.general.steps
    assert step.way is not None
    assert type(step.way).__module__ == gram_way.__module__
    assert step.way([np.array(["a"], object)], Run({}, ())) is not None


def unmixed(places: range) -> Array:
    """Numbers of which the table of keys makes those of ``places``, times 2³²: all of one place.

    What it makes is x·f, and what is in the higher half of that added to the lower one, bit by bit.
    """
    inverse = pow(FACTOR, -1, 2**64)
    products = [(place << 32) | place for place in places]
    found = [product * inverse % 2**64 for product in products]
    return np.array(found, np.uint64).view(np.int64)


def test_numbers_that_were_chosen_to_meet_are_left_to_the_kernel() -> None:
    keys = unmixed(range(1, 1500))
    with pytest.raises(Crowded):
        Numbers(keys.tolist())
    made = model("int64[N, C]", "TF", keys.tolist(), [0])
    agree(made, np.stack([keys[:40], keys[-40:]]))
    session = InferenceSession(made)
    assert session._programs is not None
    (step,) = session._programs.general.steps
    assert step.way is None


def test_texts_that_were_chosen_to_meet_are_left_to_the_kernel() -> None:
    lengths = 8 << 2  # of eight bytes, of a kind that is none, one or two
    first = unmixed(range(1, 3000)).view(np.uint64)
    texts = list[str]()
    inverse = pow(FACTOR, -1, 2**64)
    for number in first.tolist():
        high = number >> 32
        if high >> 31:
            continue  # no product of which the higher half is added so
        part = ((high << 32) | ((number & 0xFFFFFFFF) ^ high)) * inverse % 2**64
        text = (part ^ (lengths + 1)).to_bytes(8, "little").decode("latin-1")
        if not text.isascii():
            texts.append(text)
    with pytest.raises(Crowded):
        Keys(texts)


@pytest.mark.parametrize("step", [1, 2**20, 2**40, -(2**32), 1_000_003])
def test_numbers_in_steps_do_not_meet(step: int) -> None:
    keys = np.arange(20_000) * step
    assert Numbers(keys.tolist()).count == len(keys)
