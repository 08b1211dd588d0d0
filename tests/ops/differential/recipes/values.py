"""Recipes of casts, generators, random numbers, sequences, optionals and strings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fornix.dtype import DType
from tests.ops.differential.draw import Arguments, Draw, limits
from tests.ops.differential.recipes.places import int64

Recipe = Callable[[Draw], Arguments]

NUMBERS = ("0", "1", "-7", "2.5", "-0.25", "1e3", "1e-3", "3.0")


def castable(draw: Draw, source: DType, target: DType, shape: tuple[int, ...]) -> Any:
    """Contents whose conversion is defined: numbers that fit, and strings that are numbers."""
    if source.kind == "string":
        count = len(NUMBERS) if target.is_float else 2 if target.kind in {"uint", "bool"} else 3
        return draw.rng.choice(np.array(NUMBERS[:count], object), shape)
    x = draw.array("T1", shape)
    if source.is_float and target.kind in {"int", "uint"}:
        least, most = limits(target)
        least, most = max(least, -100), min(most, 100)
        wide = draw.rng.uniform(least, most, shape)
        x = np.asarray(wide).astype(source.numpy)
        x = np.where((x >= least) & (x <= most), x, np.zeros((), source.numpy))
    return x


def cast(draw: Draw) -> Arguments:
    source, target = draw.dtype("T1"), draw.dtype("T2")
    x = castable(draw, source, target, draw.shape())
    to = target.text.upper() if draw.schema.since_version == 1 else target.code
    given: dict[str, Any] = {"to": to}
    if target.text.startswith("float8"):
        given["saturate"] = draw.pick((None, 0, 1))
    if target.text == "float8e8m0":  # which has no negative numbers
        given["round_mode"] = draw.pick((None, "up", "nearest"))
        if source.kind == "string":
            x = draw.rng.choice(np.array(["1", "2.5", "1e3"], object), x.shape)
        elif source.is_float or source.kind == "int":
            x = np.asarray(np.abs(x), x.dtype)
    return Arguments([x], given)


def cast_like(draw: Draw) -> Arguments:
    arguments = cast(draw)
    given = {name: value for name, value in arguments.attributes.items() if name != "to"}
    return Arguments([*arguments.inputs, draw.weights("T2", draw.shape())], given)


def bit_cast(draw: Draw) -> Arguments:
    source, target = draw.dtype("T1"), draw.dtype("T2")
    if source.bits != target.bits:
        target = source
    return Arguments([draw.array("T1", draw.shape())], {"to": target.code})


def constant(draw: Draw) -> Arguments:
    dtype = draw.dtype("T")
    forms: list[dict[str, Any]] = [{"value": draw.array("T", draw.shape())}]
    if draw.has("value_int") and dtype.kind != "string":
        forms += [{"value_int": draw.whole(-9, 9)}, {"value_float": draw.real()}]
        forms += [{"value_ints": [draw.whole(-9, 9)] * draw.whole(1, 3)}]
        forms += [{"value_floats": [draw.real() for _ in range(draw.whole(1, 3))]}]
        forms += [{"value_string": "né"}, {"value_strings": ["a", "Straße"]}]
    return Arguments([], draw.pick(forms))


def constant_of_shape(draw: Draw) -> Arguments:
    shape = draw.shape()
    value = draw.maybe(lambda: draw.array("T2", (1,)))
    return Arguments([int64(shape)], {"value": value})


def range_(draw: Draw) -> Arguments:
    dtype = draw.dtype("T")
    start, limit = draw.whole(-8, 8), draw.whole(-8, 8)
    delta: float = draw.pick((1, 2, 3, -1, -2))
    if dtype.is_float:
        delta = draw.pick((1.0, 0.5, -0.25, 0.75))
    return Arguments([np.asarray(v, dtype.numpy) for v in (start, limit, delta)])


def window(draw: Draw) -> Arguments:
    size = np.asarray(draw.whole(1, 9), draw.dtype("T1").numpy)
    datatype = draw.pick((None, 1, 11, 10))
    return Arguments([size], {"periodic": draw.pick((None, 0, 1)), "output_datatype": datatype})


def dropout(draw: Draw) -> Arguments:
    """As in inference: what training keeps is random."""
    x = draw.array("T", draw.shape())
    given: dict[str, Any] = {"ratio": draw.maybe(lambda: draw.real(0, 0.9)), "is_test": 1}
    if draw.opset < 12:
        return Arguments([x], given, 1)
    ratio = draw.maybe(lambda: np.asarray(0.25, draw.dtype("T1").numpy))
    training = draw.maybe(lambda: np.asarray(False))
    return Arguments([x, ratio, training], {}, draw.whole(1, 2))


def sequence(draw: Draw, variable: str, count: int, *, same: bool = False) -> list[Any]:
    """A sequence of tensors, of one shape or of several."""
    shape = draw.shape(0, 3)
    shapes = [shape if same else draw.shape(0, 3) for _ in range(count)]
    return [draw.array(variable, s) for s in shapes]


def position(draw: Draw, count: int, *, end: bool) -> Any:
    dtype = draw.dtype("I").numpy
    return np.asarray(draw.whole(-count, count if end else count - 1), dtype)


def sequence_at(draw: Draw) -> Arguments:
    count = draw.whole(1, 4)
    return Arguments([sequence(draw, "T", count), position(draw, count, end=False)])


def sequence_erase(draw: Draw) -> Arguments:
    count = draw.whole(2, 4)
    dtype = draw.dtype("I").numpy
    place = draw.maybe(lambda: np.asarray(draw.whole(-count, count - 1), dtype))
    return Arguments([_elements(draw, count), place])


def _elements(draw: Draw, count: int) -> list[Any]:
    """A sequence for operators that have no type variable for its elements."""
    spelling = draw.pick(sorted(draw.schema.allowed(draw.schema.inputs[0])))
    dtype = DType.of(spelling.removeprefix("seq(tensor(").removesuffix("))"))
    inner = Draw(draw.rng, draw.schema, draw.opset, {"E": dtype})
    return [inner.array("E", inner.shape(0, 3)) for _ in range(count)]


def sequence_insert(draw: Draw) -> Arguments:
    count = draw.whole(1, 3)
    values = sequence(draw, "T", count)
    place = draw.maybe(lambda: position(draw, count, end=True))
    return Arguments([values, draw.array("T", draw.shape(0, 3)), place])


def sequence_length(draw: Draw) -> Arguments:
    return Arguments([_elements(draw, draw.whole(1, 4))])


def sequence_construct(draw: Draw) -> Arguments:
    return Arguments(sequence(draw, "T", draw.whole(1, 4)))


def split_to_sequence(draw: Draw) -> Arguments:
    shape = list(draw.shape(1, zero=False))
    axis = draw.axis(len(shape))
    given = {"axis": axis, "keepdims": draw.pick((None, 0, 1))}
    x: Any = None
    if draw.chance(0.3):
        x = draw.array("T", shape)
        return Arguments([x, None], given)
    index = draw.dtype("I").numpy
    if draw.chance():
        size = draw.whole(1, 3)
        return Arguments([draw.array("T", shape), np.asarray(size, index)], given)
    parts = [draw.whole(0, 3) for _ in range(draw.whole(1, 3))]
    shape[axis] = sum(parts)
    return Arguments([draw.array("T", shape), np.asarray(parts, index)], given)


def concat_from_sequence(draw: Draw) -> Arguments:
    shape = list(draw.shape(1, 3))
    new_axis = draw.pick((None, 0, 1))
    count = draw.whole(1, 3)
    rank = len(shape) + (1 if new_axis else 0)
    axis = draw.axis(rank)
    inner = _elements(draw, 1)[0].dtype
    spelled = Draw(draw.rng, draw.schema, draw.opset, {"E": DType.of(inner)})
    values = []
    for _ in range(count):
        if not new_axis:
            shape[axis] = draw.whole(0, 3)
        values.append(spelled.array("E", shape))
    return Arguments([values], {"axis": axis, "new_axis": new_axis})


def optional(draw: Draw) -> Arguments:
    return Arguments([draw.array("E", draw.shape())])


def regex(draw: Draw) -> Arguments:
    pattern = draw.pick((r"a.*", r"[0-9.-]+", r"", r"(a|b)+", r"\w+", r"né?"))
    return Arguments([draw.array("T1", draw.shape())], {"pattern": pattern})


SENTENCES = ("a b c", " a  b ", "", "x", "a,b,,c", ",", "né,Straße", "a b,c d", "  ", "aa")


def string_split(draw: Draw) -> Arguments:
    words = draw.rng.choice(np.array(SENTENCES, object), draw.shape(0, 3))
    given = {
        "delimiter": draw.pick((None, ",", "", "b", "a,")),
        "maxsplit": draw.pick((None, 1, 2)),
    }
    return Arguments([words], given, 2)


def string_normalizer(draw: Draw) -> Arguments:
    count = draw.whole(1, 5)
    words = ["monday", "Tuesday", "Straße", "ÉCOLE", "", "wednesday", "MONDAY"]
    shape = draw.pick(((count,), (1, count)))
    given = {
        "case_change_action": draw.pick((None, "NONE", "LOWER", "UPPER")),
        "is_case_sensitive": draw.pick((None, 0, 1)),
        "stopwords": draw.pick((None, ["monday"], ["MONDAY", "straße"])),
        "locale": draw.pick((None, None, "C")),
    }
    return Arguments([draw.rng.choice(np.array(words, object), shape)], given)


def tfidf(draw: Draw) -> Arguments:
    """Words are numbers: pools of strings are the same with other names."""
    is_string = draw.dtype("T").kind == "string"
    unigrams, bigrams = [2, 3, 5], [5, 4, 5, 6, 7, 8]
    longest = draw.whole(1, 2)
    given: dict[str, Any] = {
        "max_gram_length": longest,
        "min_gram_length": draw.whole(1, longest),
        "max_skip_count": draw.whole(0, 3),
        "mode": draw.pick(("TF", "IDF", "TFIDF")),
        "ngram_counts": [0, len(unigrams)],
        "ngram_indexes": list(range(6)),
        "weights": draw.maybe(lambda: [draw.real(0.5, 2) for _ in range(6)]),
    }
    pool = unigrams + bigrams
    given["pool_strings" if is_string else "pool_int64s"] = (
        [str(n) for n in pool] if is_string else pool
    )
    shape = draw.pick(((draw.whole(1, 9),), (draw.whole(1, 3), draw.whole(1, 9))))
    numbers = draw.rng.integers(2, 9, shape)
    words = numbers.astype(str).astype(object) if is_string else numbers
    return Arguments([words.astype(draw.dtype("T").numpy)], given)


RECIPES: dict[str, Recipe] = {
    "BitCast": bit_cast,
    "BlackmanWindow": window,
    "Cast": cast,
    "CastLike": cast_like,
    "ConcatFromSequence": concat_from_sequence,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "Dropout": dropout,
    "HammingWindow": window,
    "HannWindow": window,
    "Range": range_,
    "RegexFullMatch": regex,
    "SequenceAt": sequence_at,
    "SequenceConstruct": sequence_construct,
    "SequenceErase": sequence_erase,
    "SequenceInsert": sequence_insert,
    "SequenceLength": sequence_length,
    "SplitToSequence": split_to_sequence,
    "StringNormalizer": string_normalizer,
    "StringSplit": string_split,
    "TfIdfVectorizer": tfidf,
}
