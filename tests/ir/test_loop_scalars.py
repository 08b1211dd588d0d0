from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fornix import dtype as types
from fornix.dtype import (
    BFLOAT16,
    BOOL,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    INT4,
    INT8,
    INT32,
    INT64,
    UINT8,
    DType,
)
from fornix.errors import DTypeError, Fail, LimitError, ShapeError
from fornix.ir.dim import symbol
from fornix.ir.loops import (
    FALSE,
    OPERATIONS,
    REDUCTIONS,
    TRUE,
    Apply,
    Buffer,
    Index,
    Load,
    Loaded,
    Scalar,
    Tensor,
    Variable,
    apply,
    bitcast,
    cast,
    compute,
    const,
    constant,
    gathered,
    identity,
    index,
    reduce,
    replace,
    scan,
    scatter,
    select,
    stored,
    substitute_scalar,
    tensor,
    walk,
)
from tests.ir.interpreter import interpret

N = symbol("N")
x = tensor("x", (4, N), FLOAT32)
one: Any = np.float32(1)
ids = tensor("ids", (N,), INT64)
a, b = x[0, 0], x[1, 1]


# ── sharing ────────────────────────────────────────────────────────────────────────────────────


def test_what_is_written_alike_is_one_object() -> None:
    assert a + b is a + b
    assert a + b is not b + a
    assert x[1, 1] is b
    assert const(0.0, FLOAT32) is not const(-0.0, FLOAT32)
    assert const(math.nan, FLOAT32) is const(math.nan, FLOAT32)
    assert const(1, FLOAT32) is const(1.0, FLOAT32)


def test_reading_an_element_twice_shares_its_reduction() -> None:
    total = compute((4,), lambda i: reduce("sum", N, lambda k: x[i, k]))
    i = Variable("i", 4)
    assert total[i.dim] is total[i.dim]


def test_unused_expressions_are_freed() -> None:
    import gc
    import weakref

    e = a * 12345.0
    gone = weakref.ref(e)
    del e
    gc.collect()
    assert gone() is None


# ── what is refused ────────────────────────────────────────────────────────────────────────────


def test_a_loop_scalar_has_no_truth_value() -> None:
    with pytest.raises(TypeError, match="has no truth value; use where"):
        bool(a < b)


def test_equality_with_a_number_is_refused() -> None:
    with pytest.raises(TypeError, match=r"use equal\(a, b\)"):
        _ = a == 0
    assert a == a  # noqa: PLR0124 -- identity
    assert a != b


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: a + cast(b, FLOAT64), "one dtype, found float32 and float64; write a cast"),
        (lambda: a + one, "a float32 stands in an expression of float32"),
        (lambda: np.float64(2) * a, "a float64 stands in an expression of float32"),
        (lambda: index(N) + 0.5, "a float stands in an expression of int64"),
        (lambda: cast(a, UINT8) + 256, "256 does not fit uint8"),
        (lambda: cast(a, UINT8) - (-1), "-1 does not fit uint8"),
        (lambda: cast(a, INT8) + 128, "128 does not fit int8"),
        (lambda: select(a, a, b), "a condition is a bool, found float32"),
        (lambda: select(True, a, b), "a condition is a bool, found bool"),
        (lambda: select(a < b, 1, 2), "needs a dtype, found two Python numbers"),
        (lambda: apply("exp", index(N)), "exp is not defined for int64"),
        (lambda: index(N) / 2, r"/ is not defined for int64; write div\(a, b\)"),
        (lambda: cast(a, FLOAT16) * 2.0, "mul does not compute in float16, which is for storage"),
        (lambda: cast(a, INT4) + 1, "add does not compute in int4, which is for storage"),
        (lambda: ~a, "not is not defined for float32"),
        (lambda: bitcast(a, FLOAT64), "bitcast keeps the width, found float32 and float64"),
        (lambda: cast(a, types.STRING), "loops do not hold string"),
        (lambda: tensor("s", (2,), types.COMPLEX64), "loops do not hold complex64"),
        (lambda: reduce("and", 3, lambda _: a), "and is not defined for float32"),
        (lambda: x[a, 0], "an index is an integer, found float32"),
        (lambda: compute((2,), lambda _: 1), "compute needs a dtype for the number 1"),
    ],
)
def test_mixed_dtypes_are_errors(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(DTypeError, match=message):
        wrong()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: reduce("mean", 3, lambda _: a), "a reduction is one of sum, prod, max"),
        (lambda: apply("add", a), "add takes 2 operands, found 1"),
        (lambda: scatter(x, (1,), lambda _: (0, 0), lambda _: a, "xor"), "sum, prod, max or min"),
        (lambda: Tensor((1,), FLOAT32)[0], "a tensor has a function or a buffer"),
        (
            lambda: compute((4,), lambda i: reduce("sum", i + 1, lambda k: x[i, k])),
            r"the extent i0 \+ 1 of a reduction depends on a loop around it",
        ),
        (
            lambda: compute((4,), lambda i: stored(compute((2,), lambda j: x[i, j]))[0]),
            "what is stored may not depend on a loop around it, found i0",
        ),
    ],
)
def test_misuse_is_a_type_error(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        wrong()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: x[0], "a tensor of rank 2 is read with 1 indices"),
        (lambda: x[4, 0], r"index 4 is out of range \[0, 3\]"),
        (lambda: x[-1, 0], r"index -1 is out of range \[0, 3\]"),
        (lambda: scan(2, [x], lambda _t, _s: ids), "a step keeps the types of its states"),
    ],
)
def test_misfitting_shapes_are_shape_errors(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        wrong()


def test_an_index_that_grows_too_large_is_an_error_not_an_unknown() -> None:
    i = Variable("i", N).dim
    with pytest.raises(LimitError, match="index expression: a degree above 32"):
        math.prod([i] * 40)


# ── decided at once ────────────────────────────────────────────────────────────────────────────


def test_comparisons_of_indices_are_decided_by_proof() -> None:
    j = Variable("j", N).dim
    assert (index(j) < index(N)) is TRUE
    assert (index(j) >= 0) is TRUE
    assert (index(N) <= index(j)) is FALSE
    assert (index(j) < 3) is (index(j) + 1 <= 3)
    assert isinstance(index(j) < 3, Apply)
    assert index(j) + 1 is index(j + 1)
    assert index(j) * index(N) is index(j * N)


def test_choices_and_logic_are_simplified() -> None:
    c = a < b
    assert select(TRUE, a, b) is a
    assert select(FALSE, a, b) is b
    assert select(c, a, a) is a
    assert c & TRUE is c
    assert (c & FALSE) is FALSE
    assert (c | TRUE) is TRUE
    assert c | c is c
    assert cast(a, FLOAT32) is a


def test_narrow_numbers_are_widened_where_they_stand() -> None:
    assert cast(const(3.0, BFLOAT16), FLOAT32) is const(3.0, FLOAT32)
    assert cast(const(0.1, FLOAT16), FLOAT64) is const(float(np.float16(0.1)), FLOAT64)
    assert cast(const(1e5, FLOAT16), FLOAT32) is const(math.inf, FLOAT32)
    assert cast(const(-0.0, BFLOAT16), FLOAT32) is const(-0.0, FLOAT32)
    assert cast(const(math.nan, FLOAT16), FLOAT32) is const(math.nan, FLOAT32)


def test_a_proved_guard_disappears_and_a_failing_read_is_its_default() -> None:
    i = Variable("i", 4).dim
    assert x.get((i, 0), 0.0) is not x[i, 0]  # N may be 0
    j = Variable("j", N).dim
    assert x.get((i, j), 0.0) is x[i, j]
    assert x.get((i + 4, j), 7.0) is const(7.0, FLOAT32)
    shifted = x.get((i - 1, j), 0.0)
    assert isinstance(shifted, Load)
    assert shifted.guard is (index(i) >= 1)


# ── rewriting ──────────────────────────────────────────────────────────────────────────────────


def test_substitution_reaches_addresses_guards_and_loaded_indices() -> None:
    i, j = Variable("i", 4), Variable("j", N)
    e = x.get((i.dim - 1, ids[j.dim]), 0.0) * 2.0
    assert e.variables == {i, j}
    placed = substitute_scalar(e, {i: 2})
    assert placed.variables == {j}
    assert placed is x.get((1, ids[j.dim]), 0.0) * 2.0
    assert substitute_scalar(placed, {i: 3}) is placed


def test_substitution_decides_guards() -> None:
    i, j = Variable("i", 4), Variable("j", N)
    e = x.get((i.dim - 1, j.dim), 0.0)
    assert substitute_scalar(e, {i: 0}) is const(0.0, FLOAT32)
    assert substitute_scalar(e, {i: 1}) is x[0, j.dim]


def test_a_bound_variable_is_not_free() -> None:
    total = reduce("sum", N, lambda k: x[0, k])
    assert not total.variables


def test_walk_visits_everything_once_operands_first() -> None:
    j = Variable("j", N)
    e = x[0, ids[j.dim]] + x[0, ids[j.dim]]
    seen = list(walk(e))
    assert len(seen) == len(set(seen)) == 3
    assert seen[-1] is e
    assert [n.buffer.name for n in seen if isinstance(n, Load)] == ["ids", "x"]


def test_replace_swaps_whole_scalars() -> None:
    assert replace((a + b) * a, {a: b}) is (b + b) * b


def test_depth_does_not_exhaust_the_stack() -> None:
    i = Variable("i", 4)
    e: Scalar = x[i.dim, 0]
    for k in range(3000):
        e = e * 0.5 + float(k % 7)
    assert sum(1 for _ in walk(e)) > 3000
    assert not substitute_scalar(e, {i: 1}).variables
    assert len(repr(e)) < 1000


# ── meaning ────────────────────────────────────────────────────────────────────────────────────


def run(e: Callable[..., Scalar], *arrays: np.ndarray, symbols: Any = None) -> np.ndarray:
    n = len(arrays[0])
    feeds = {f"a{k}": array for k, array in enumerate(arrays)}
    tensors = [tensor(name, (n,), DType.of(v.dtype)) for name, v in feeds.items()]
    return interpret(compute((n,), lambda i: e(*(t[i] for t in tensors))), feeds, symbols)


FLOATS = np.array([0.0, -0.0, 1.5, -2.5, 3.25, np.inf, -np.inf, np.nan], np.float32)
INTS = np.array([0, 1, -1, 7, -7, 127, -128, 5], np.int8)


@pytest.mark.parametrize(
    ("python", "numpy"),
    [
        (operator.add, np.add),
        (operator.sub, np.subtract),
        (operator.mul, np.multiply),
        (operator.and_, np.bitwise_and),
        (operator.or_, np.bitwise_or),
        (operator.xor, np.bitwise_xor),
        (operator.lt, np.less),
        (operator.le, np.less_equal),
        (operator.gt, np.greater),
        (operator.ge, np.greater_equal),
    ],
)
def test_operators_mean_numpy_s_on_integers(python: Any, numpy: Any) -> None:
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(run(python, INTS, INTS[::-1].copy()), numpy(INTS, INTS[::-1]))
        np.testing.assert_array_equal(run(lambda v: python(v, 3), INTS), numpy(INTS, np.int8(3)))


def test_reflected_operators_keep_the_order() -> None:
    v = np.array([2.0, 4.0], np.float32)
    np.testing.assert_array_equal(run(lambda e: 1.0 - e, v), [-1, -3])
    np.testing.assert_array_equal(run(lambda e: 1.0 / e, v), [0.5, 0.25])
    np.testing.assert_array_equal(run(lambda e: 10 % e, v.astype(np.int32)), [0, 2])
    np.testing.assert_array_equal(run(lambda e: abs(-e), v), v)
    np.testing.assert_array_equal(run(lambda e: ~(3 & e | 8 ^ e), np.array([1, 2])), [-10, -11])
    np.testing.assert_array_equal(run(lambda e: (e << 3) >> 1, np.array([1, -2])), [4, -8])


def test_maximum_and_minimum_give_nan() -> None:
    ones = np.ones_like(FLOATS)
    np.testing.assert_array_equal(
        run(lambda p, q: apply("max", p, q), FLOATS, ones), np.maximum(FLOATS, ones)
    )
    whole = constant(FLOATS)
    for op, numpy in (("max", np.max), ("min", np.min)):
        found = interpret(compute((), lambda op=op: reduce(op, 8, lambda k: whole[k])))
        np.testing.assert_array_equal(found, numpy(FLOATS))


def test_integer_division_by_zero_fails_the_run() -> None:
    for op in ("div", "mod", "fmod"):
        with pytest.raises(Fail, match="an integer is divided by zero"):
            run(lambda v, op=op: apply(op, v, v), INTS)


def test_a_guard_keeps_division_and_checks_from_failing() -> None:
    v = tensor("v", (3,), INT32)
    quotient = compute((3,), lambda i: apply("div", 6, v[i]))
    padded = compute((5,), lambda i: quotient.get(i - 1, -1))
    np.testing.assert_array_equal(
        interpret(padded, {"v": np.array([1, 2, 3], np.int32)}), [-1, 6, 3, 2, -1]
    )
    rows = compute((3,), lambda i: v[v[i]])
    padded = compute((4,), lambda i: rows.get(i, 9))
    np.testing.assert_array_equal(
        interpret(padded, {"v": np.array([2, 2, 1], np.int32)}), [1, 1, 2, 9]
    )


def test_get_with_an_index_from_data_reads_the_default_outside() -> None:
    v = tensor("v", (3,), INT32)
    chosen = compute((4,), lambda i: v.get(ids[i], -5))
    feeds = {"v": np.array([1, 2, 3], np.int32), "ids": np.array([0, -1, 3, 2])}
    np.testing.assert_array_equal(interpret(chosen, feeds, {"N": 4}), [1, -5, -5, 3])


@pytest.mark.parametrize("op", sorted(REDUCTIONS))
@pytest.mark.parametrize("dtype", [BOOL, INT8, UINT8, FLOAT32, FLOAT64])
def test_a_reduction_over_nothing_is_its_identity(op: str, dtype: DType) -> None:
    if dtype.kind not in REDUCTIONS[op]:
        return
    v = tensor("v", (0,), dtype)
    result = interpret(
        compute((), lambda: reduce(op, 0, lambda k: v[k])), {"v": np.zeros(0, dtype.numpy)}
    )
    assert result == np.asarray(identity(op, dtype), dtype.numpy)
    combined = np.array([0, 1], dtype.numpy)
    binary = {"sum": "add", "prod": "mul"}.get(op, op)
    for element in combined:
        found = run(lambda e: apply(binary, e, identity(op, dtype)), np.array([element]))
        np.testing.assert_array_equal(found, [element])


def test_narrow_floats_are_stored_selected_and_cast() -> None:
    import ml_dtypes

    v = np.array([1.5, -2.0, np.nan], ml_dtypes.bfloat16)
    doubled = run(lambda e: cast(cast(e, FLOAT32) * 2.0, BFLOAT16), v)
    np.testing.assert_array_equal(doubled.astype(np.float32), [3, -4, np.nan])
    np.testing.assert_array_equal(
        run(lambda e: select(cast(e, FLOAT32) < 0.0, 0.0, e), v).astype(np.float32),
        [1.5, 0, np.nan],
    )


def test_bitcast_reads_the_bits() -> None:
    np.testing.assert_array_equal(run(lambda e: bitcast(e, INT32), FLOATS), FLOATS.view(np.int32))


def test_fma_rounds_once() -> None:
    v = np.array([1 + 2**-30], np.float64)
    w = np.array([-1 - 2**-29], np.float64)
    np.testing.assert_array_equal(run(lambda p, q: apply("fma", p, p, q), v, w), [2.0**-60])


def test_every_operation_runs_in_the_interpreter() -> None:
    for op, operation in OPERATIONS.items():
        integers = "float" not in operation.kinds
        v = np.array([1, 2] if integers else [0.5, 0.25], np.int32 if integers else np.float32)
        with np.errstate(all="ignore"):
            found = run(lambda *e, op=op: apply(op, *e), *[v] * operation.arity)
        kind = {"dot2": np.float32, "halves": np.int32}.get(op, v.dtype)
        assert found.dtype == (bool if operation.gives_bool else kind)


def test_halves_of_words_are_multiplied_as_bfloat16() -> None:
    halves = np.array([[1.5, -2.0], [0.25, 3.0]], np.float32).view(np.int32) >> 16
    words = (halves[:, 0] & 0xFFFF) | (halves[:, 1] << 16)  # the first number in the lower half
    v = words.astype(np.int32)
    np.testing.assert_array_equal(run(lambda p, q: apply("dot2", p, q), v, v), [6.25, 9.0625])


def test_floats_become_the_halves_of_a_word() -> None:
    v = np.array([1.5, 1 + 2**-9, np.nan], np.float32)
    w = np.array([-2.0, 1 + 3 * 2**-8, -np.inf], np.float32)
    words = run(lambda p, q: apply("halves", p, q), v, w)
    np.testing.assert_array_equal((words << 16).view(np.float32), [1.5, 1, np.nan])
    np.testing.assert_array_equal((words & -65536).view(np.float32), [-2, 1 + 2**-6, -np.inf])


# ── constructs ─────────────────────────────────────────────────────────────────────────────────


def test_an_address_map_places_elements() -> None:
    blocked = Buffer(
        "blocked",
        (3, 8),
        FLOAT32,
        address=lambda i: (i[1] // 4) * 12 + i[0] * 4 + i[1] % 4,
    )
    v = Tensor((3, 8), FLOAT32, buffer=blocked)
    array = np.arange(24, dtype=np.float32).reshape(3, 8)
    turned = compute((8, 3), lambda i, j: v[j, i])
    np.testing.assert_array_equal(interpret(turned, {"blocked": array}), array.T)
    assert not blocked.is_row_major


def test_a_scan_carries_several_states_at_once() -> None:
    fibonacci = scan(
        10,
        [constant(np.array([0])), constant(np.array([1]))],
        lambda _t, p, q: (q, compute((1,), lambda i: p[i] + q[i])),
    )
    np.testing.assert_array_equal(
        interpret(fibonacci[0])[:, 0], [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55]
    )


def test_a_scan_over_nothing_ends_where_it_begins() -> None:
    (history,) = scan(N, [constant(np.array([5.0]))], lambda _t, p: p)
    assert interpret(history, symbols={"N": 0}).tolist() == [[5.0]]


def test_scatter_applies_updates_in_order() -> None:
    base = constant(np.zeros(3, np.float32))
    at = constant(np.array([1, 2, 1]))
    last = scatter(base, (3,), lambda u: (at[u],), lambda u: cast(index(u), FLOAT32) + 1.0)
    np.testing.assert_array_equal(interpret(last), [0, 3, 2])


def test_a_gathered_constant_index_is_no_load() -> None:
    j = Variable("j", N)
    assert gathered(index(j), N) == j.dim
    assert isinstance(index(gathered(ids[j.dim], N)), Index)
    found = gathered(ids[j.dim], N, wraps=True)
    assert not isinstance(found, int)
    assert isinstance(found.atom, Loaded)
    assert found.atom.wraps


def test_a_gathered_index_that_may_lie_outside_is_checked() -> None:
    j = Variable("j", N)
    assert gathered(const(2, INT64), 3) == 2
    for wrong in (const(3, INT64), const(-1, INT64), index(j.dim), index(j.dim - 1)):
        found = gathered(wrong, 3)
        assert not isinstance(found, int)
        assert isinstance(found.atom, Loaded)


def test_symbols_give_one_kernel_for_all_sizes() -> None:
    double = compute((N, 4), lambda i, j: x[j, i] * 2.0)
    for n in (0, 1, 3, 8):
        array = np.arange(4 * n, dtype=np.float32).reshape(4, n)
        np.testing.assert_array_equal(interpret(double, {"x": array}, {"N": n}), array.T * 2)


def test_integers_that_a_float_holds_are_cast_at_once() -> None:
    for dtype, bits in ((FLOAT32, 24), (FLOAT64, 53)):
        most = 1 << bits
        for value in (0, 3, -most, most):
            assert cast(const(value, INT64), dtype) is const(float(value), dtype)
        assert isinstance(cast(const(most + 1, INT64), dtype), Apply)
