"""Machine code that looks through texts does what the kernels say, and leaves what it cannot."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np
import pytest

from fornix.compile.text.calls import first_words
from fornix.errors import Fail
from fornix.format.text import parse_model
from fornix.ir.load import from_message
from fornix.reference import ReferenceEvaluator
from fornix.runtime import InferenceSession
from fornix.runtime.providers import Run
from fornix.runtime.shortcuts.joint import JointCall
from fornix.runtime.text.finding import found_way

pytestmark = pytest.mark.skipif(not first_words(), reason="another Python lays texts out anew")

Array = np.ndarray[Any, np.dtype[Any]]
WORDS = (
    "a", "the", "ab", "A1", "eightlet", "a_word_of_16_char", "sixteen_letters_", "x" * 40, "é",
    "größe", "中文", "日本語テキスト", "😀", "a😀b", "12", "3.5", "e-mail", "Ǳ", "\u2028",
)  # fmt: skip
GAPS = (" ", "  ", ",", ", ", "\t", "\u3000", "\u00a0", "\x1f", "\x85", "", "; ", "\u200b", "\n")
TOKENIZER = 'com.microsoft.Tokenizer <mark = {}, mincharnum = {}, pad_value = "#", {}>'
RULES = (
    r'tokenexp = "\\w+"', 'tokenexp = "[a-z]+|[0-9]+|[^a-z0-9 ]"', r'tokenexp = "\\b\\w\\w+\\b"',
    'tokenexp = "(a|ab)(c|b)*"', 'separators = [" "]', 'separators = [", "]', 'separators = [""]',
    r'separators = ["\\s", ",", "[;.]+"]', r'tokenexp = "\\bthe"', 'tokenexp = "(?u)[a-z]+"',
)  # fmt: skip


def sampled(count: int, seed: int) -> Array:
    source = random.Random(seed)
    made = np.empty(count, object)
    for place in range(count):
        parts = [source.choice(WORDS) + source.choice(GAPS) for _ in range(source.randrange(9))]
        made[place] = source.choice(GAPS) + "".join(parts)
    return made


def model(node: str, read: str = "string[N]", made: str = "string", more: str = "") -> Any:
    text = f"""<ir_version: 8, opset_import: ["" : 20, "com.microsoft" : 1]>
    g ({read} x) => ({made} y{more}) {{ y{", z" if more else ""} = {node} (x) }}"""
    return from_message(parse_model(text))


def agree(
    node: str, x: Array, read: str = "string[N]", made: str = "string", more: str = ""
) -> list[Array]:
    """What a session gives, which is what the kernels give."""
    session = InferenceSession(model(node, read, made, more))
    found = [session.run(None, {"x": x}) for _ in range(2)][-1]
    expected = ReferenceEvaluator(model(node, read, made, more)).run(None, {"x": x})
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tolist() == other.tolist()
    return found


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("mark", "least"), [(0, 1), (1, 2), (1, 1)])
@pytest.mark.parametrize("count", [0, 1, 60])
def test_tokens_are_those_of_the_kernel(rule: str, mark: int, least: int, count: int) -> None:
    agree(TOKENIZER.format(mark, least, rule), sampled(count, seed=count), made="string[N, D]")


@pytest.mark.parametrize("rule", RULES[:2])
def test_rows_of_texts_have_tokens(rule: str) -> None:
    texts = sampled(12, seed=3).reshape(3, 4)
    agree(TOKENIZER.format(1, 1, rule), texts, "string[N, C]", "string[N, C, D]")


@pytest.mark.parametrize("flags", [
    "", '<delimiter = "">', '<delimiter = " ">', '<delimiter = ", ">', '<delimiter = "é">',
    '<delimiter = "the", maxsplit = 1>', "<maxsplit = 2>", "<maxsplit = 0>",
    '<delimiter = " ", maxsplit = 0>', '<delimiter = ".", maxsplit = 3>', "<maxsplit = 1>",
])  # fmt: skip
@pytest.mark.parametrize("count", [0, 1, 60])
def test_parts_are_those_of_the_kernel(flags: str, count: int) -> None:
    agree(f"StringSplit {flags}", sampled(count, count + 1), "string[N]", "string[N, D]",
          ", int64[N] z")  # fmt: skip


@pytest.mark.parametrize("most", ["", ", maxsplit = 0", ", maxsplit = 2"])
@pytest.mark.parametrize("letters", [",-+", ",a", ",\u00e9\u012c", ",\U0001f600\x00\x7f"])
def test_texts_are_cut_at_one_character(letters: str, most: str) -> None:
    source = random.Random(len(letters))
    texts = np.empty(400, object)
    texts[:] = ["".join(source.choices(letters, k=length % 41)) for length in range(400)]
    node = f'StringSplit <delimiter = ","{most}>'
    y, z = agree(node, texts, made="string[N, D]", more=", int64[N] z")
    for row, count, given in zip(y.tolist(), z.tolist(), texts, strict=True):
        parts = given.split(",", int(most[-1]) if most else -1)
        assert row[:count] == parts


def test_all_white_space_parts_texts() -> None:
    spaces = [chr(code) for code in range(0x3002) if chr(code).isspace()]
    texts = np.array([f"a{space}b" for space in spaces] + ["".join(spaces)], object)
    y, z = agree("StringSplit", texts, "string[N]", "string[N, D]", ", int64[N] z")
    assert z.tolist() == [2] * len(spaces) + [0]
    assert y[0].tolist() == ["a", "b"]


@pytest.mark.parametrize("pattern", [
    "[a-z]+", ".*", r"(the|a).*\\s", r"[\\w.]+@[\\w.]+\\.com", "", "(?i)THE.*", "^a.*$", "[^a]*",
])  # fmt: skip
@pytest.mark.parametrize("count", [0, 1, 90])
def test_whole_texts_match_as_in_the_kernel(pattern: str, count: int) -> None:
    texts = np.append(sampled(count, seed=7), ["the", "a.b@c.com", "", "a\n"][: count + 1])
    agree(f'RegexFullMatch <pattern = "{pattern}">', texts, made="bool[N]")


@pytest.mark.parametrize("case", ["NONE", "LOWER", "UPPER"])
@pytest.mark.parametrize("is_sensitive", [0, 1])
@pytest.mark.parametrize("shape", [(40,), (1, 40), (0,), (1,)])
def test_stop_words_are_left_out_as_in_the_kernel(
    case: str, is_sensitive: int, shape: tuple[int, ...]
) -> None:
    flags = f"""case_change_action = "{case}", is_case_sensitive = {is_sensitive},
        stopwords = ["The", "ǳ", "a", "GRÖSSE", "", "é"]"""
    words = np.array([*WORDS, "THE", "The", "Ǆ", "A", "Größe", ""] * 2, object)
    texts = words[: int(np.prod(shape))].reshape(shape)
    axes = ["string[C]", "string[1, C]"][len(shape) - 1]
    agree(f"StringNormalizer <{flags}>", texts, axes, axes.replace("C", "D"))


def test_one_empty_text_is_left_of_stop_words_alone() -> None:
    [y] = agree('StringNormalizer <stopwords = ["a"]>', np.array(["a"], object), made="string[D]")
    assert y.tolist() == [""]


@pytest.mark.parametrize("flags", ["", "<positive = 0, seed = 77>", "<seed = -1>"])
def test_hashes_are_those_of_the_kernel(flags: str) -> None:
    made = "int32[N]" if "positive" in flags else "uint32[N]"
    texts = np.append(sampled(40, seed=8), [x * k for x in "aé" for k in range(9)])
    agree(f"com.microsoft.MurmurHash3 {flags}", texts, made=made)


@pytest.mark.parametrize("texts", [
    ["0", "-0", "+7", "-12", "999999999999999999", "0012"], ["9223372036854775807", "1"],
    ["1.5", "2"], [" 12 ", "3"], ["1e3"], ["-9223372036854775808"], ["300", "-129", "70000"], [],
])  # fmt: skip
@pytest.mark.parametrize(
    ("number", "made"),
    [
        (7, "int64"),
        (6, "int32"),
        (2, "uint8"),
        (9, "bool"),
    ],
)
def test_texts_become_whole_numbers(texts: list[str], number: int, made: str) -> None:
    agree(f"Cast <to = {number}>", np.array(texts, object), made=f"{made}[N]")


@pytest.mark.parametrize("wrong", ["", "-", "1_000", "x", "\uff11"])
def test_what_spells_no_number_is_refused(wrong: str) -> None:
    session = InferenceSession(model("Cast <to = 7>", made="int64[N]"))
    with pytest.raises(Fail, match="a number is required to convert a string to int64, found"):
        session.run(None, {"x": np.array(["1", wrong], object)})


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "int16", "bool", "uint64"])
def test_whole_numbers_become_texts(dtype: str) -> None:
    source = np.random.default_rng(5)
    info = np.iinfo("uint8" if dtype == "bool" else dtype)
    numbers = source.integers(info.min, info.max, 300, info.dtype, endpoint=True)
    numbers[:4] = info.min, info.max, 0, 7
    numbers[4:99] %= 9
    agree("Cast <to = 8>", numbers.astype(dtype), f"{dtype}[N]", "string[N]")


def shortest(number: np.floating[Any]) -> str:
    """The fewest digits that tell a float from all others, without an exponent."""
    if np.isnan(number):
        return "NaN"
    if np.isinf(number):
        return "INF" if number > 0 else "-INF"
    return np.format_float_positional(number, trim="-")


def floats(dtype: str, seed: int) -> Array:
    """Floats of all exponents, whole ones, powers of two and ten and their neighbours."""
    source = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    bits = source.integers(0, 2 ** (8 * kind.itemsize) - 1, 400, f"u{kind.itemsize}", endpoint=True)
    info = np.finfo(kind)
    with np.errstate(over="ignore", under="ignore"):
        twos = np.ldexp(kind.type(1), np.arange(info.minexp - info.nmant, info.maxexp))
        tens = np.array([f"1e{k}" for k in range(-324, 309, 3)]).astype(np.float64).astype(kind)
        near = np.concatenate([np.nextafter(x, kind.type(way)) for x in (twos, tens)
                               for way in (-np.inf, np.inf)])  # fmt: skip
    whole = np.round(source.normal(size=100) * 1e4).astype(kind)
    some = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 0.1, 123456.7, 5e-324, 1.5], kind)
    plain = source.normal(size=100).astype(kind)
    return np.concatenate([bits.view(kind), twos, -tens, near, whole, some, plain])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(3))
def test_floats_become_the_shortest_texts(dtype: str, seed: int) -> None:
    numbers = floats(dtype, seed)
    name = {"float32": "float", "float64": "double"}[dtype]
    [y] = InferenceSession(model("Cast <to = 8>", f"{name}[N]")).run(None, {"x": numbers})
    assert y.tolist() == [shortest(number) for number in numbers]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(3))
def test_texts_become_the_nearest_floats(dtype: str, seed: int) -> None:
    numbers = floats("float64", seed)
    numbers = numbers[np.isfinite(numbers)]
    source = random.Random(seed)
    texts = [repr(x) for x in numbers.tolist()] + [f"{x:.{source.randrange(20)}e}" for x in numbers]
    texts += [shortest(x) for x in floats("float32", seed)[:600] if np.isfinite(x)]
    texts += [str(source.randrange(10**18)) + "e" + str(source.randrange(-40, 20))
              for _ in range(300)]  # fmt: skip
    texts += ["1.", ".5", "+3", "-0", "-.0e7", "0e999999", "1e400", "-1e-400", "007", "1E5", "nan",
              "9007199254740993", "16777217", "1.0000001788139343", "inf", " 2 ",
              "0.00012345678901234567", "0" * 30 + "12.5", "0." + "0" * 40 + "17", "-00.0",
              "1234567890123456789", "12345678901234567.25", "9" * 300, "." + "0" * 30,
              "3.4028235677973366e38", "-3.4028235677973362e38", "3.5e38", "-1e39"]  # fmt: skip
    made = {"float32": ("float", 1), "float64": ("double", 11)}[dtype]
    agree(f"Cast <to = {made[1]}>", np.array([t for t in texts if t != "nan"], object),
          made=f"{made[0]}[N]")  # fmt: skip
    found = agree_numbers(made, texts)
    wide = np.array([float(text) for text in texts])
    if dtype == "float64":
        np.testing.assert_array_equal(found, wide)


def agree_numbers(made: tuple[str, int], texts: list[str]) -> Array:
    session = InferenceSession(model(f"Cast <to = {made[1]}>", made=f"{made[0]}[N]"))
    found: Array = session.run(None, {"x": np.array(texts, object)})[0]
    return found


@pytest.mark.parametrize("wrong", ["", ".", "1e", "e5", "1e+", "--1", "1.2.3", "1_0", "0x1"])
def test_what_spells_no_float_is_refused(wrong: str) -> None:
    session = InferenceSession(model("Cast <to = 1>", made="float[N]"))
    needed = r"node for 'y' \(Cast, opset 20\): a number is required to convert a string to float32"
    for _ in range(2):
        session.run(None, {"x": np.array(["1", "2"], object)})
        with pytest.raises(Fail, match=needed):
            session.run(None, {"x": np.array(["1", wrong], object)})


def test_turned_numbers_become_texts() -> None:
    numbers = np.arange(12).reshape(3, 4).T
    agree("Cast <to = 8>", numbers, "int64[M, N]", "string[M, N]")


def test_long_texts_are_left_to_the_kernel() -> None:
    texts = np.array(["é" + "ab " * 9000, "b"], object)
    [y] = agree(TOKENIZER.format(0, 1, RULES[0]), texts, made="string[N, D]")
    assert y.shape == (2, 9000)


def test_texts_of_another_class_are_left_to_the_kernel() -> None:
    class Text(str):
        __slots__ = ()

    agree(TOKENIZER.format(0, 1, RULES[0]), np.array([Text("a b"), "c"], object))


@pytest.mark.usefixtures("uncollected")
def test_nobody_gains_or_loses_a_reference() -> None:
    nodes = [TOKENIZER.format(1, 1, RULES[0]), "Cast <to = 8>", TOKENIZER.format(0, 1, RULES[6])]
    kinds = [
        ("string[N]", "string[N, D]"),
        ("int64[N]", "string[N]"),
        ("string[N]", "string[N, D]"),
    ]
    texts = sampled(50, seed=9)
    for node, (read, made) in zip(nodes, kinds, strict=True):
        session = InferenceSession(model(node, read, made))
        x = np.arange(50) if read.startswith("int64") else texts
        for _ in range(3):
            session.run(None, {"x": x})
        tries = []
        for _ in range(3):  # as other threads take and give None meanwhile
            before = [sys.getrefcount(one) for one in (None, "", "#", "a", *texts)]
            for _ in range(40):
                session.run(None, {"x": x})
            after = [sys.getrefcount(one) for one in (None, "", "#", "a", *texts)]
            tries.append(np.abs(np.subtract(after, before)))
        assert np.min(tries, axis=0).max() < 20


def test_words_that_recur_are_one_object() -> None:
    texts = np.array(["ab cd", "cd ab"], object)
    [y] = agree(TOKENIZER.format(0, 1, RULES[0]), texts, made="string[N, D]")
    assert y[0, 0] is y[1, 1]


@pytest.mark.parametrize(("node", "made"), [
    ("RegexFullMatch", "bool[N]"), ("com.microsoft.MurmurHash3", "uint32[N]"),
    ("Cast <to = 7>", "int64[N]"),
])  # fmt: skip
def test_one_call_does_it_and_leaves_what_it_cannot(node: str, made: str) -> None:
    session = InferenceSession(model(node, made=made))
    expected = ReferenceEvaluator(model(node, made=made))
    texts = [["1", "22"], ["3", "4"], ["999999999999999999999"[:19], " 5"], ["6", "7"]]
    for given in texts:
        feeds = {"x": np.array(given, object)}
        [found], [wanted] = session.run(None, feeds), expected.run(None, feeds)
        assert found.tolist() == wanted.tolist()
    assert isinstance(session._short, JointCall)
    for wrong in (np.array(["1", 5], object), np.array(["1", None], object)):
        [found] = session.run(None, {"x": wrong}) if node != "Cast <to = 7>" else [None]
        assert found is None or found.shape == (2,)


@pytest.mark.parametrize(("node", "made"), [
    (TOKENIZER.format(0, 1, RULES[0]), "string[N, D]"), ("RegexFullMatch", "bool[N]"),
    ("com.microsoft.MurmurHash3", "uint32[N]"), ("Cast <to = 7>", "int64[N]"),
])  # fmt: skip
def test_machine_code_does_it(node: str, made: str) -> None:
    session = InferenceSession(model(node, made=made))
    assert session._programs is not None
    (step,) = session._programs.general.steps
    way = step.way
    assert way is not None
    assert type(way).__module__ == found_way.__module__
    assert way([np.array(["1", "22"], object)], Run({}, ())) is not None


def test_machine_code_makes_texts_that_nobody_declares() -> None:
    text = """<ir_version: 8, opset_import: ["" : 20]>
    g (int64[N] a, string[N] x) => (bool[N] y) { t = Cast <to = 8> (a) y = Equal (t, x) }"""
    session = InferenceSession(from_message(parse_model(text)))
    assert session._programs is not None
    casts = session._programs.general.steps[0]
    assert casts.way is not None
    for count in (0, 1, 3, 3):
        numbers = np.arange(count) - 1
        [found] = session.run(None, {"a": numbers, "x": np.array(["0", "0", "1"], object)[:count]})
        assert found.tolist() == [False, True, True][:count]


def test_white_space_that_is_no_ascii_is_not_remembered_as_such() -> None:
    texts = np.array(["a b\u00a0c", "x b c", "z b\u3000c", "y b c"], object)
    agree("StringSplit <maxsplit = 1>", texts, made="string[N, D]", more=", int64[N] z")


@pytest.mark.parametrize(
    "text", ["0." + "0" * 10_000 + "1e10001", "0." + "0" * 10_300 + "1e10300", "0" * 1200 + "7.5"]
)
def test_exponents_and_zeros_may_be_many(text: str) -> None:
    texts = np.array([text], object)
    agree("Cast <to = 11>", texts, made="double[N]")


def test_an_exponent_without_digits_is_none_however_long_the_number_is() -> None:
    session = InferenceSession(model("Cast <to = 11>", made="double[N]"))
    with pytest.raises(Fail, match="a number"):
        session.run(None, {"x": np.array(["0." + "0" * (1 << 20) + "1e"], object)})


def test_texts_may_be_others_while_their_words_are_noted() -> None:
    session = InferenceSession(model("StringSplit", made="string[N, D]", more=", int64[N] z"))
    texts = np.array(["a"], object)
    session.run(None, {"x": texts})
    assert session._programs is not None
    (step,) = session._programs.general.steps
    way: Any = step.way
    call, later = way.call, ["b " * 2000, "c " * 1000]
    texts[0] = "a " * 100

    def called(given: list[Any]) -> Any:
        made = call(given)
        if later:
            texts[0] = later.pop()
        return made

    way.call = called
    found, counts = way([texts], Run({}, ()))
    assert counts.tolist() == [2000]
    assert found.tolist() == [["b"] * 2000]
