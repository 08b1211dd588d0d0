from __future__ import annotations

import copy
import pickle
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fornix.errors import ShapeError
from fornix.ir.dim import (
    Dim,
    DimLike,
    bounds,
    ceildiv,
    equal,
    exact_quotient,
    expression,
    is_nonnegative,
    known,
    less,
    maximum,
    minimum,
    named,
    parse,
    symbol,
    unknown,
)

N, M, K = symbol("N"), symbol("M"), symbol("K")
P = symbol("P", least=1)

# ── an expression next to what Python's integers make of it ───────────────────────────────────


@dataclass(frozen=True)
class Pair:
    """A dim and its meaning: a function of the symbols' values."""

    dim: DimLike
    value: Callable[[dict[str, int]], int]


def leaf_of(name: str, least: int) -> Pair:
    return Pair(symbol(name, least), lambda v: v[name])


def constant(c: int) -> Pair:
    return Pair(c, lambda _: c)


LEAVES = st.one_of(
    st.integers(-9, 9).map(constant),
    st.sampled_from([leaf_of("N", 0), leaf_of("M", 0), leaf_of("P", 1), leaf_of("Q", 1)]),
)

OPERATIONS: dict[str, Callable[[DimLike, DimLike], DimLike]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "min": minimum,
    "max": maximum,
    "ceildiv": ceildiv,
}

PLAIN: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "min": min,
    "max": max,
    "ceildiv": lambda a, b: -(-a // b),
}


def combine(operation: str, a: Pair, b: Pair) -> Pair:
    if operation in {"//", "%", "ceildiv"} and b.dim == 0:
        return a
    return Pair(
        OPERATIONS[operation](a.dim, b.dim),
        lambda v: PLAIN[operation](a.value(v), b.value(v)),
    )


PAIRS = st.recursive(
    LEAVES,
    lambda inner: st.builds(combine, st.sampled_from(sorted(OPERATIONS)), inner, inner),
    max_leaves=12,
)

VALUES = st.fixed_dictionaries(
    {
        "N": st.integers(0, 40),
        "M": st.integers(0, 40),
        "P": st.integers(1, 40),
        "Q": st.integers(1, 40),
    }
)

FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def meaning(pair: Pair, values: dict[str, int]) -> int | None:
    """What the expression is worth; None where it divides by zero."""
    try:
        return pair.value(values)
    except ZeroDivisionError:
        return None


def bind(d: DimLike, values: Mapping[str, DimLike]) -> DimLike:
    return d.bind(values) if isinstance(d, Dim) else d


@FUZZ
@given(PAIRS, VALUES)
def test_simplification_keeps_the_value(pair: Pair, values: dict[str, int]) -> None:
    expected = meaning(pair, values)
    if expected is not None:
        assert bind(pair.dim, values) == expected


@FUZZ
@given(PAIRS, PAIRS, VALUES)
def test_substitution_keeps_the_value(pair: Pair, part: Pair, values: dict[str, int]) -> None:
    replacement = meaning(part, values)
    if replacement is None or replacement < 0:
        return
    expected = meaning(pair, {**values, "N": replacement})
    if expected is not None and isinstance(pair.dim, Dim):
        assert bind(pair.dim.bind({"N": part.dim}), values) == expected


@FUZZ
@given(PAIRS, PAIRS, VALUES)
def test_a_proof_is_never_wrong(a: Pair, b: Pair, values: dict[str, int]) -> None:
    x, y = meaning(a, values), meaning(b, values)
    if x is None or y is None:
        return
    claim = less(a.dim, b.dim)
    assert claim is None or claim == (x < y), (a.dim, b.dim)
    same = equal(a.dim, b.dim)
    assert same is None or same == (x == y), (a.dim, b.dim)
    sign = is_nonnegative(a.dim)
    assert sign is None or sign == (x >= 0), a.dim


@FUZZ
@given(PAIRS, VALUES)
def test_bounds_enclose_the_value(pair: Pair, values: dict[str, int]) -> None:
    x = meaning(pair, values)
    if x is not None:
        low, high = bounds(pair.dim)
        assert low is None or low <= x, (pair.dim, low)
        assert high is None or x <= high, (pair.dim, high)


@FUZZ
@given(PAIRS)
def test_printing_parses_back(pair: Pair) -> None:
    # Parsing makes symbols that are at least 0: compare with the same symbols.
    assert parse(str(pair.dim)) == bind(pair.dim, {"P": symbol("P"), "Q": symbol("Q")})


@FUZZ
@given(PAIRS, PAIRS)
def test_exact_quotient_multiplies_back(a: Pair, b: Pair) -> None:
    quotient = exact_quotient(a.dim, b.dim)
    if quotient is not None:
        assert quotient * b.dim == a.dim
    if isinstance(a.dim, Dim) and isinstance(b.dim, Dim):
        product = a.dim * b.dim
        if not (isinstance(product, Dim) and product.unknowns):
            assert exact_quotient(product, b.dim) == a.dim


# ── the normal form ────────────────────────────────────────────────────────────────────────────


def test_equality_is_equality_of_normal_forms() -> None:
    assert (N + 1) * 2 - 2 == 2 * N
    assert (N + M) * (N - M) == N * N - M * M
    assert hash((N + 1) * 2 - 2) == hash(2 * N)
    assert N + 1 != N
    assert symbol("N", least=1) != N


def test_constants_are_plain_ints() -> None:
    for constant in (N - N, N * 0, (N + 5) - N, minimum(N, 0), (6 * N + 3) // 3 - 2 * N):
        assert type(constant) is int
    assert known(3) == 3
    assert known(N) is None
    assert known(None) is None


def test_division_takes_out_what_divides() -> None:
    assert (6 * N + 4) // 2 == 3 * N + 2
    assert (3 * N + 5) // 2 == N + 2 + (N + 1) // 2
    assert (P * M + P - 1) // P == M
    assert ((N + 1) * P) // P == N + 1
    assert (N * P + N + P + 1) // (P + 1) == N + 1


def test_division_cancels_common_factors_and_nests() -> None:
    assert (2 * N + 3) // 4 == (N + 1) // 2
    assert (N // 2) // 3 == N // 6
    assert ((N // 2) + 1) // 3 == (N + 2) // 6
    assert (4 * P * N + 2 * P) // (6 * P) == (2 * N + 1) // 3


def test_remainders_lie_below_their_divisor() -> None:
    assert (N % P) // P == 0
    assert (N % 5) % 5 == N % 5
    assert ((N % 4) + 4 * M) // 4 == M


def test_division_by_what_may_be_zero_stays() -> None:
    assert str((N * M) // N) == "(M*N)//N"
    assert exact_quotient(N * M, N) == M
    assert exact_quotient(N * M + 1, N) is None
    assert exact_quotient(N, 0) is None


def test_division_by_zero_is_a_shape_error() -> None:
    with pytest.raises(ShapeError, match="N is divided by zero"):
        N // 0
    quotient = M // N
    assert isinstance(quotient, Dim)
    with pytest.raises(ShapeError, match="3 is divided by zero"):
        quotient.bind({"M": 3, "N": 0})


def test_sizes_after_five_strided_convolutions_are_one_division() -> None:
    size: DimLike = symbol("H")
    for _ in range(5):
        size = (size + 2 - 3) // 2 + 1
    assert size == (symbol("H") + 31) // 32
    assert less(size, symbol("H") + 1)


def test_minimum_and_maximum_drop_what_cannot_win() -> None:
    assert minimum(N, N + 1) == N
    assert maximum(N, -M) == N
    assert minimum(maximum(N, 3), 3) == 3
    assert maximum(N, M) + 1 == maximum(N + 1, M + 1)
    assert maximum(N, M, N) == maximum(M, N)
    assert minimum(4, 2, 7) == 2
    assert str(maximum(0, N - 3)) == "max(0, N - 3)"


def test_ceildiv_rounds_up() -> None:
    assert ceildiv(N, 2) == (N + 1) // 2
    assert ceildiv(7, 2) == 4
    assert ceildiv(-7, 2) == -3


# ── proofs ─────────────────────────────────────────────────────────────────────────────────────


def test_proofs_decide_what_shapes_ask() -> None:
    assert is_nonnegative(N) is True
    assert is_nonnegative(N - 1) is None
    assert is_nonnegative(P - 1) is True
    assert is_nonnegative(-N - 1) is False
    assert less(N % 7, 7) is True
    assert less(N // 2, N + 1) is True
    assert less(N, N) is False
    assert less(minimum(N, M), N + 1) is True
    assert less(maximum(N, M), N) is False
    assert is_nonnegative(N - N // 2 - N // 3 * 0) is True
    assert equal(N, M) is None
    assert equal(N, N + 1) is False
    assert equal(2 * N, N + N) is True


def test_an_unknown_may_be_declared_negative() -> None:
    assert is_nonnegative(unknown("a shape")) is True
    assert is_nonnegative(unknown("any integer", least=None)) is None


def test_bounds_are_constants() -> None:
    assert bounds(N) == (0, None)
    assert bounds(3 - P) == (None, 2)
    assert bounds(minimum(N, 5)) == (0, 5)
    assert bounds((minimum(N, 9) + 1) // 2) == (0, 5)
    assert bounds(P * P + 1) == (2, None)
    assert bounds(5) == (5, 5)


# ── symbols and unknowns ───────────────────────────────────────────────────────────────────────


def test_a_dim_knows_its_symbols() -> None:
    assert isinstance(N + M // (K + 1), Dim)
    assert symbols_of(N + M // (K + 1)) == {"N", "M", "K"}
    assert N.name == "N"
    assert symbol("any text; even this").name == "any text; even this"
    assert name_of(N + 1) is None


def symbols_of(d: DimLike) -> frozenset[str]:
    assert isinstance(d, Dim)
    return d.symbols


def name_of(d: DimLike) -> str | None:
    assert isinstance(d, Dim)
    return d.name


def test_an_unknown_equals_only_itself_and_says_why() -> None:
    u, v = unknown("NonZero counts at run time"), unknown("NonZero counts at run time")
    assert u != v
    assert u - u == 0
    assert u.unknowns == ("NonZero counts at run time",)
    assert copy.deepcopy(u) == u
    assert pickle.loads(pickle.dumps(u)) == u
    assert str(u) == "?"


def test_binding_gives_values() -> None:
    d = N * M + N // (M + 1)
    assert isinstance(d, Dim)
    assert d.bind({"N": 6, "M": 2}) == 14
    assert d.bind({"M": 2}) == 2 * N + N // 3
    assert N.bind({"other": 1}) == N


def test_a_symbol_may_have_a_greatest_value() -> None:
    n = symbol("N", least=1, most=300)
    assert is_nonnegative(300 - n) is True
    assert is_nonnegative(299 - n) is None
    assert minimum(n, 300) == n
    assert symbol("N", least=1) != n
    with pytest.raises(ShapeError, match="dim N is at most 300, got 301"):
        n.bind({"N": 301})


def test_binding_below_the_least_value_is_a_shape_error() -> None:
    with pytest.raises(ShapeError, match="dim P is at least 1, got 0"):
        P.bind({"P": 0})


def test_dims_survive_pickle_and_copy() -> None:
    d = minimum(N // 3, M) * 2 - 1
    assert pickle.loads(pickle.dumps(d)) == d
    assert copy.deepcopy(d) == d


def test_of_atoms_with_one_key_there_is_one() -> None:
    half = (N + M) // 2
    assert isinstance(half, Dim)
    assert half.atom is not None
    again = (symbol("N") + symbol("M")) // 2
    for d in (half, unknown("nobody knows")):
        assert pickle.loads(pickle.dumps(d)).atom is d.atom
    assert isinstance(again, Dim)
    assert again.atom is half.atom
    assert symbol("N", 1).atom is not symbol("N").atom


def test_whoever_is_interrupted_while_atoms_are_kept_may_make_others() -> None:
    found: list[object] = []

    def interrupted() -> None:
        with expression._LOCK:  # as a finaliser that opens a session finds it
            found.append(symbol("INTERRUPTED"))

    thread = threading.Thread(target=interrupted, daemon=True)
    thread.start()
    thread.join(10)
    assert found == [symbol("INTERRUPTED")]


def test_threads_that_make_one_atom_get_the_same() -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda k: [symbol(f"t{i}") for i in range(k % 2, 200)], range(8)))
    assert len({d.atom for row in made for d in row}) == 200


def test_a_dim_has_no_truth_value() -> None:
    with pytest.raises(TypeError, match="the dim N has no truth value"):
        bool(N)


def test_numpy_integers_and_object_arrays_mix_with_dims() -> None:
    two: Any = np.int64(2)
    assert two * N == 2 * N
    assert N + two == N + 2
    assert list(np.array([N, 2], dtype=object) * 2) == [2 * N, 4]
    assert type((N + two) - N) is int


def test_floats_do_not_mix_with_dims() -> None:
    n: Any = N
    for operation in (lambda: n + 0.5, lambda: n * 2.0, lambda: n // 1.5, lambda: 1.5 // n):
        with pytest.raises(TypeError):
            operation()


# ── bounded size ───────────────────────────────────────────────────────────────────────────────


def test_what_grows_too_large_becomes_unknown_with_the_reason() -> None:
    many = sum((symbol(f"s{k}") for k in range(20)), start=0)
    for growth, reason in (
        (many * many * many, "more than 256 terms"),
        (power_of(N, 40), "a degree above 32"),
        (N * (1 << 130), "a coefficient of more than 128 bits"),
        (maximum(*(symbol(f"s{k}") for k in range(17))), "17 choices"),
    ):
        assert isinstance(growth, Dim)
        assert len(growth.unknowns) == 1
        assert reason in growth.unknowns[0]


def power_of(d: DimLike, exponent: int) -> DimLike:
    result: DimLike = 1
    for _ in range(exponent):
        result = result * d
    return result


def test_a_division_that_makes_many_terms_out_of_few_is_given_up() -> None:
    start = time.perf_counter()
    parsed = parse("(a**16 * a**16) // (a + b + c + d + e + f + g + h + 1)")
    assert isinstance(parsed, Dim)
    assert parsed.bind(dict.fromkeys("abcdefgh", 1)) == 0
    assert parsed.bind({**dict.fromkeys("bcdefgh", 0), "a": 3}) == 3**32 // 4
    assert time.perf_counter() - start < 1


def test_what_grows_too_large_within_a_proof_proves_nothing() -> None:
    product: DimLike = 1
    for k in range(10):
        product = product * symbol(f"p{k}", least=1)
    assert is_nonnegative(product - 5) is None
    assert is_nonnegative(5 - product) is None
    assert is_nonnegative(product) is True


def test_nesting_is_bounded() -> None:
    d: DimLike = N
    for k in range(100):
        d = maximum(d // (M + k + 2), K * k) * 3 + symbol(f"s{k}")
    assert isinstance(d, Dim)
    assert "nested" in d.unknowns[0] or "parts" in d.unknowns[0]
    assert len(str(d)) < 100_000


# ── text ───────────────────────────────────────────────────────────────────────────────────────

x, s0 = symbol("x"), symbol("s0")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("batch", symbol("batch")),
        ("past_sequence_length + 1", symbol("past_sequence_length") + 1),
        ("2*s0", 2 * s0),
        ("floor(x/2)", x // 2),
        ("Max(1, s0)", maximum(1, s0)),
        ("(a + b)//2", (symbol("a") + symbol("b")) // 2),
        ("((s0 - 1)//2) + 1", (s0 + 1) // 2),
        ("floor(s0/2 + 1/2)", (s0 + 1) // 2),
        ("ceiling(x/2) - 1", ceildiv(x, 2) - 1),
        ("CeilToInt(IntTrueDiv(x, 2))", ceildiv(x, 2)),
        ("FloorDiv(x, 3)", x // 3),
        ("CleanDiv(x, 3)", x // 3),
        ("CeilDiv(x, 3)", ceildiv(x, 3)),
        ("Mod(s0, 4)", s0 % 4),
        ("PythonMod(s0, 4)", s0 % 4),
        ("s0 % 4", s0 % 4),
        ("s0**2", s0 * s0),
        ("Pow(s0, 2)", s0 * s0),
        ("trunc(x/2)", x // 2),
        ("Identity(x)", x),
        ("6*x/3", 2 * x),
        ("-x + 3", 3 - x),
        ("seq-len", symbol("seq-len")),
        ("unk__12", symbol("unk__12")),
        ("input.1_dim_0", symbol("input.1_dim_0")),
        ("'it''s' * 2", 2 * symbol("it's")),
        ("12", 12),
        ("2**3", 8),
    ],
)
def test_dim_params_are_read(text: str, expected: DimLike) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a b",
        "a/b",
        "x//0",
        "1e5",
        "a +",
        "(a",
        "a)",
        "f(x)",
        "min()",
        "f(x, 1)",
        "a[0]",
        "x**99",
        "x**y",
        "__import__('os')",
        "(" * 100,
        "-" * 5000,
        "2**" * 500,
        "trunc(-x/2)",
        "1_0",
    ],
)
def test_other_texts_are_no_dims_but_names(text: str) -> None:
    assert parse(text) is None
    assert named(text).name == text


def test_a_parsed_dim_prints_as_it_was_written() -> None:
    text = "floor(x/2)  +  Max(1,s0)"
    parsed = parse(text)
    assert str(parsed) == text
    assert named(text) == parsed
    assert str(named("batch size")) == "batch size"
    assert named("12").name == "12"


def test_a_question_mark_is_an_unknown() -> None:
    parsed = parse("? + 1")
    assert isinstance(parsed, Dim)
    assert parsed.unknowns == ("written as ?",)


@FUZZ
@given(st.text(alphabet="aN1 +-*/%()',?^.minx", max_size=30))
def test_no_text_makes_the_parser_fail(text: str) -> None:
    named(text)


# ── speed ──────────────────────────────────────────────────────────────────────────────────────


def test_a_convolution_of_dims_costs_less_than_100_microseconds() -> None:
    size = symbol("size")

    def work() -> None:
        for tap in range(100):
            _ = (size + 2 * tap - 3) // 2 + 1

    work()
    best = min(timed(work, time.perf_counter) for _ in range(5))
    assert best / 100 < 100e-6


def timed(work: Callable[[], None], clock: Callable[[], float]) -> float:
    start = clock()
    work()
    return clock() - start
