from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fornix import ops
from fornix.dtype import INT64, DType
from fornix.ir.dim import DimLike, ceildiv, is_nonnegative, less, maximum, minimum, symbol
from fornix.ir.loops import Tensor, Variable, tensor
from fornix.ir.types import TensorType
from fornix.ops.call import LowerNode, lower_node
from fornix.ops.fact import as_value
from fornix.ops.fact import tensor as constant_fact
from fornix.ops.move import lower_concat, lower_transpose
from fornix.ops.shape import reshaped as reshaped_tensor
from tests.ir.interpreter import Array, Frame, Machine, interpret

FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

N, P = symbol("N"), symbol("P", least=1)

# ── index expressions against integers ─────────────────────────────────────────────────────────

AXES = {
    "i": Variable("i", 6),
    "j": Variable("j", N),
    "k": Variable("k", 3 * P),
    "l": Variable("l", N * P),
    "m": Variable("m", 1),
    "n": Variable("n", N // 2),
}
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Pair:
    """An index expression and its meaning."""

    dim: DimLike
    value: Callable[[Values], Any]


def named(name: str, dim: DimLike) -> Pair:
    return Pair(dim, lambda v: v[name])


def constant(c: int) -> Pair:
    return Pair(c, lambda _: c)


LEAVES = st.one_of(
    st.integers(-7, 12).map(constant),
    st.sampled_from([named(name, axis.dim) for name, axis in AXES.items()]),
    st.sampled_from([named("N", N), named("P", P)]),
)

OPERATIONS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "+": (lambda a, b: a + b, lambda a, b: a + b),
    "-": (lambda a, b: a - b, lambda a, b: a - b),
    "*": (lambda a, b: a * b, lambda a, b: a * b),
    "//": (lambda a, b: a // b, np.floor_divide),
    "%": (lambda a, b: a % b, np.mod),
    "min": (minimum, np.minimum),
    "max": (maximum, np.maximum),
    "ceildiv": (ceildiv, lambda a, b: -(-a // b)),
}


def combine(operation: str, a: Pair, b: Pair) -> Pair:
    on_dims, on_arrays = OPERATIONS[operation]
    if operation in {"//", "%", "ceildiv"} and b.dim == 0:
        return a
    return Pair(on_dims(a.dim, b.dim), lambda v: on_arrays(a.value(v), b.value(v)))


PAIRS = st.recursive(
    LEAVES,
    lambda inner: st.builds(combine, st.sampled_from(sorted(OPERATIONS)), inner, inner),
    max_leaves=10,
)
SYMBOLS = st.fixed_dictionaries({"N": st.integers(0, 6), "P": st.integers(1, 3)})


def points(symbols: dict[str, int]) -> tuple[Machine, Frame, Values]:
    """Every iteration of the loops: a machine, the variables' values, and the same by name."""
    machine, frame = Machine({}, symbols, {}), Frame()
    frame.bind(AXES.values(), [machine.whole(a.extent) for a in AXES.values()])
    return machine, frame, {**symbols, **{name: frame.values[a] for name, a in AXES.items()}}


def meaning(pair: Pair, values: Values) -> Array | None:
    """The values at every point; None where some point divides by zero."""
    try:
        with np.errstate(divide="raise"):
            return np.asarray(pair.value(values), np.int64)
    except (ZeroDivisionError, FloatingPointError):
        return None


@FUZZ
@given(PAIRS, SYMBOLS)
def test_simplified_indices_have_the_value_of_the_originals(
    pair: Pair, symbols: dict[str, int]
) -> None:
    machine, frame, values = points(symbols)
    expected = meaning(pair, values)
    if expected is not None:
        box = np.broadcast_shapes(*(x.shape for x in frame.values.values()))
        found = np.broadcast_to(machine.dim(pair.dim, frame), box)
        np.testing.assert_array_equal(found, np.broadcast_to(expected, box), str(pair.dim))


@FUZZ
@given(PAIRS, PAIRS, SYMBOLS)
def test_bounds_proofs_hold_at_every_iteration(a: Pair, b: Pair, symbols: dict[str, int]) -> None:
    _, frame, values = points(symbols)
    x, y = meaning(a, values), meaning(b, values)
    if (
        x is None
        or y is None
        or 0 in np.broadcast_shapes(*(v.shape for v in frame.values.values()))
    ):
        return
    claim = less(a.dim, b.dim)
    assert claim is None or ((x < y) == claim).all(), (a.dim, b.dim, claim)
    sign = is_nonnegative(a.dim)
    assert sign is None or ((x >= 0) == sign).all(), (a.dim, sign)


@FUZZ
@given(
    st.lists(st.tuples(st.integers(-4, 4), st.integers(1, 4)), min_size=1, max_size=3),
    st.integers(-12, 12),
)
def test_sums_of_variables_with_constant_extents_are_decided(
    parts: list[tuple[int, int]], constant: int
) -> None:
    d: DimLike = constant
    values = {constant}
    for c, extent in parts:
        d = d + c * Variable("v", extent).dim
        values = {value + c * k for value in values for k in range(extent)}
    holds = {value >= 0 for value in values}
    assert is_nonnegative(d) is (holds.pop() if len(holds) == 1 else None)


@pytest.mark.parametrize("blocks", [(), (8,)], ids=str)
def test_elements_of_images_of_divided_extents_lie_in_their_buffer(blocks: tuple[int, ...]) -> None:
    sides = (symbol("H") // 32, symbol("W") // 32)
    address: DimLike = 0
    elements: DimLike = 1
    for extent in (N, 16, *sides, *blocks, *sides):
        address = address * extent + Variable("v", extent).dim
        elements = elements * extent
    assert is_nonnegative(address) is True
    assert is_nonnegative(elements - 1 - address) is True
    assert is_nonnegative(elements - 2 - address) is None


@pytest.mark.parametrize("extent", [N // 12, minimum(N, P), N // 3 * P], ids=str)
def test_axes_cut_by_extents_that_are_there_come_apart(extent: DimLike) -> None:
    outer, inner = Variable("o", 12).dim, Variable("i", extent).dim
    assert (outer * extent + inner) // extent == outer
    assert (outer * extent + inner) % extent == inner
    assert is_nonnegative(extent - 1) is None  # elsewhere there may be none


def test_what_lowerings_ask_is_proved() -> None:
    i, j, k, l = (AXES[name].dim for name in "ijkl")
    assert less(j, N) is True
    assert less(i * N + j, 6 * N) is True
    assert (i * N + j) // N == i
    assert (i * N + j) % N == j
    assert (k // 3) * 3 + k % 3 == k
    assert less(k // 3, P) is True
    assert less(l // P, N) is True
    assert less(l % P, P) is True
    assert less(i - 6, 0) is True
    assert is_nonnegative(N - 1 - j) is True
    assert less(j // 2, ceildiv(N, 2)) is True
    assert less(2 * (j // 2), N) is True
    assert less(i * 2 + 1, 12) is True
    assert less(minimum(j + 1, N - 1), N) is True


# ── chains of views against NumPy ──────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class View:
    """A tensor that reads ``x`` of shape (N, 4, 6), and the same array."""

    tensor: Tensor
    array: Array


def reshaped(view: View, shape: tuple[DimLike, ...], plain: tuple[int, ...]) -> View:
    return View(reshaped_tensor(view.tensor, shape), view.array.reshape(plain))


@st.composite
def views(draw: st.DrawFn) -> tuple[View, Array]:
    n = draw(st.integers(0, 3))
    x = np.arange(n * 24).reshape(n, 4, 6)
    view = View(tensor("x", (N, 4, 6), DType.of(np.int64)), x)
    for _ in range(draw(st.integers(1, 4))):
        view = draw(st.sampled_from([turned, merged, split, cut, joined]))(view, draw)
    return view, x


def turned(view: View, draw: st.DrawFn) -> View:
    perm = draw(st.permutations(range(view.array.ndim)))
    return View(lower_transpose(view.tensor, perm=perm), view.array.transpose(perm))


def merged(view: View, draw: st.DrawFn) -> View:
    if view.array.ndim < 2:
        return view
    at = draw(st.integers(0, view.array.ndim - 2))
    dims, plain = view.tensor.shape, view.array.shape
    return reshaped(
        view,
        (*dims[:at], dims[at] * dims[at + 1], *dims[at + 2 :]),
        (*plain[:at], plain[at] * plain[at + 1], *plain[at + 2 :]),
    )


def split(view: View, draw: st.DrawFn) -> View:
    for at, n in enumerate(view.tensor.shape):
        if isinstance(n, int) and n > 2 and n % 2 == 0:
            plain = view.array.shape
            factor = draw(st.sampled_from([2, n // 2]))
            pair = (factor, n // factor)
            return reshaped(
                view,
                (*view.tensor.shape[:at], *pair, *view.tensor.shape[at + 1 :]),
                (*plain[:at], *pair, *plain[at + 1 :]),
            )
    return view


def cut(view: View, draw: st.DrawFn) -> View:
    if not view.array.ndim:
        return view
    axis = draw(st.integers(0, view.array.ndim - 1))
    start, end = draw(st.integers(-9, 9)), draw(st.integers(-9, 9))
    step = draw(st.sampled_from([1, 2, 3, -1, -2]))
    array = view.array[
        (slice(None),) * axis + (numpy_slice(view.array.shape[axis], start, end, step),)
    ]
    return View(sliced(view.tensor, start, end, axis, step), array)


def sliced(x: Tensor, start: int, end: int, axis: int, step: int) -> Tensor:
    operator = ops.find("", "Slice")
    assert operator is not None
    facts = [constant_fact(INT64, (1,), as_value([v])) for v in (start, end, axis, step)]
    node = LowerNode(
        operator=operator,
        schema=operator.schema(13),
        opset=13,
        wanted=(True,),
        output_types=(TensorType(x.dtype, (None,) * x.rank),),
        facts=(None, *facts),
    )
    given = [tensor(name, (1,), INT64) for name in ("starts", "ends", "axes", "steps")]
    [result] = lower_node([x, *given], {}, node)
    assert result is not None
    return result


def numpy_slice(n: int, start: int, end: int, step: int) -> slice:
    """Slice of ONNX, which clamps, as NumPy's."""
    low, high = (0, n) if step > 0 else (-1, n - 1)
    first, last = (min(max(v + n if v < 0 else v, low), high) for v in (start, end))
    return slice(first, None if last < 0 else last, step) if first >= 0 else slice(0, 0)


def joined(view: View, draw: st.DrawFn) -> View:
    if not view.array.ndim or view.array.size > 200:
        return view
    axis = draw(st.integers(0, view.array.ndim - 1))
    return View(
        lower_concat(view.tensor, view.tensor, axis=axis),
        np.concatenate([view.array, view.array], axis),
    )


@FUZZ
@given(views())
def test_chains_of_views_equal_numpy(case: tuple[View, Array]) -> None:
    view, x = case
    found = interpret(view.tensor, {"x": x}, {"N": len(x)})
    np.testing.assert_array_equal(found, view.array)
