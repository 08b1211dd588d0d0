from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from fornix.dtype import FLOAT32, INT64, DType
from fornix.errors import Fail
from fornix.ir.dim import DimLike, atoms, symbol
from fornix.ir.dim.expression import Floor
from fornix.ir.loops import (
    Load,
    Scalar,
    Tensor,
    Variable,
    compute,
    opaque,
    stored,
    tensor,
    walk,
)
from fornix.ops.gather import lower_taken
from tests.ir.interpreter import Array, Machine, interpret
from tests.ops.harness import lower_op, peer, run_op


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def argument(name: str, array: Array) -> Tensor:
    return tensor(name, array.shape, DType.of(array.dtype))


def test_one_function_is_kernel_and_lowering_to_the_bit() -> None:
    x = normal(64)
    for approximate in ("none", "tanh"):
        attributes = {"approximate": approximate}
        [found] = lower_op("Gelu", [x], attributes)
        np.testing.assert_array_equal(found, run_op("Gelu", [x], attributes)[0])


def test_gather_from_an_empty_axis_fails() -> None:
    with pytest.raises(Fail):
        lower_op("Gather", [normal(0, 2), np.array([0])])
    [found] = lower_op("Gather", [normal(0, 2), np.zeros(0, np.int64)])
    assert found.shape == (0, 2)


@pytest.mark.parametrize("wrong", [5, -6, 2**40])
def test_an_index_out_of_range_fails_with_index_and_range(wrong: int) -> None:
    with pytest.raises(Fail, match=rf"index {wrong} is out of range \[-5, 4\]"):
        lower_op("Gather", [normal(5, 2), np.array([0, wrong])])


def test_a_view_that_ignores_a_gathered_index_keeps_its_check() -> None:
    def read(ids: Array) -> Array:
        data = argument("data", normal(1))
        view = compute((4,), lambda _: data[0] * 1.0)
        return interpret(
            lower_taken(view, argument("ids", ids), 0), {"data": normal(1), "ids": ids}
        )

    assert read(np.array([3, 0])).shape == (2,)
    with pytest.raises(Fail, match="index 4 is out of range"):
        read(np.array([3, 4]))


@pytest.mark.parametrize("scales", [[1.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.5, 2.25]])
def test_an_index_times_a_fraction_reads_the_nearest_element(scales: list[float]) -> None:
    exact = [Fraction(scale).limit_denominator(1 << 20) for scale in scales]
    height, width = symbol("H"), symbol("W")
    x = tensor("x", (1, 2, height, width), DType.of("float32"))
    shape = [n * f.numerator // f.denominator for n, f in zip(x.shape, exact, strict=True)]

    def at(*i: DimLike) -> Scalar:
        return x[tuple(k * f.denominator // f.numerator for k, f in zip(i, exact, strict=True))]

    data = normal(1, 2, 4, 8)
    found = interpret(compute(shape, at), {"x": data}, {"H": 4, "W": 8})
    np.testing.assert_array_equal(found, peer("Upsample", [data], {"scales": scales}, opset=7)[0])


def test_an_opaque_kernel_runs_in_python() -> None:
    def top_k(x: Array, *, k: int) -> tuple[Array, Array]:
        order = np.argsort(-x, axis=-1, kind="stable")[:, :k]
        return np.take_along_axis(x, order, -1), order

    x = argument("x", normal(3, 7))
    doubled = compute(x.shape, lambda *i: x[i] + x[i])
    results = opaque(
        "TopK",
        [doubled],
        [((3, 2), x.dtype), ((3, 2), INT64)],
        reason="a selection is not a function of one element",
        k=2,
    )
    kernels: dict[str, Any] = {"TopK": top_k}
    found = [interpret(y, {"x": normal(3, 7)}, None, kernels) for y in results]
    wanted = peer("TopK", [normal(3, 7) * 2, np.array([2])], outputs=2)
    for y, z in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(y, z)


def test_the_interpreter_runs_what_is_stored_once() -> None:
    x = tensor("x", (4,), DType.of("float32"))
    once = stored(compute((4,), lambda i: x[i] * 2.0))
    twice = compute((4,), lambda i: once[i] + once[3 - i])
    machine = Machine({"x": np.arange(4, dtype=np.float32)}, {}, {})
    np.testing.assert_array_equal(machine.contents(stored(twice).buffer), [6, 6, 6, 6])
    assert sum(b.name.startswith("stored") for b in machine.memory) == 2


def test_what_lies_behind_a_guard_is_simplified_as_it_is_inside() -> None:
    data = np.arange(2 * 12, dtype=np.float32).reshape(2, 12)
    x = tensor("x", (2, 12), FLOAT32)
    image = compute((2, 3, 4), lambda n, i, j: x[n + (i * 4 + j) // 12, (i * 4 + j) % 12])
    padded = compute((2, 5, 6), lambda n, i, j: image.get((n, i - 1, j - 1), 0))
    wanted = np.pad(data.reshape(2, 3, 4), ((0, 0), (1, 1), (1, 1)))
    np.testing.assert_array_equal(interpret(padded, {"x": data}), wanted)
    value = padded[tuple(Variable("i", n).dim for n in padded.shape)]
    (read,) = [e for e in walk(value) if isinstance(e, Load)]
    assert not any(isinstance(a, Floor) for a in atoms(read.address))
