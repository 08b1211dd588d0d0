"""Cases that are wrong somewhere: a legal one with one of its parts changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tests.ops.differential.space import Case

PLACES = ("axis", "batch_dims", "group", "time_axis", "batch_axis", "k")
"""Integers that say where or how many; other 0s and 1s are flags, of which 2 is as good as 1."""

Mutation = Callable[[Case, np.random.Generator], Case | None]


def _pick(rng: np.random.Generator, options: list[Any]) -> Any:
    return options[int(rng.integers(len(options)))] if options else None


def _arrays(case: Case) -> list[int]:
    return [i for i, x in enumerate(case.inputs) if isinstance(x, np.ndarray)]


def _with_input(case: Case, index: int, value: Any) -> Case:
    inputs = list(case.inputs)
    inputs[index] = value
    return replace(case, inputs=tuple(inputs))


def another_rank(case: Case, rng: np.random.Generator) -> Case | None:
    index = _pick(rng, _arrays(case))
    if index is None:
        return None
    x = case.inputs[index]
    if x.ndim and x.shape[0] and rng.random() < 0.5:
        return _with_input(case, index, np.asarray(x[0], x.dtype))
    return _with_input(case, index, x[None] if rng.random() < 0.5 else x[..., None])


def another_extent(case: Case, rng: np.random.Generator) -> Case | None:
    index = _pick(rng, [i for i in _arrays(case) if case.inputs[i].ndim])
    if index is None:
        return None
    x = case.inputs[index]
    axis = int(rng.integers(x.ndim))
    extent = x.shape[axis]
    wanted = int(_pick(rng, [0, extent - 1, extent + 1, extent + 2]))
    places = np.arange(max(wanted, 0)) % max(extent, 1)
    if extent == 0 and wanted > 0:
        return None
    return _with_input(case, index, np.take(x, places, axis))


def another_number(case: Case, rng: np.random.Generator) -> Case | None:
    """An integer of an input that says where or how much, far from where it was."""
    index = _pick(
        rng, [i for i in _arrays(case) if case.inputs[i].dtype.kind in "iu" and case.inputs[i].size]
    )
    if index is None:
        return None
    x = case.inputs[index].copy()
    flat = x.reshape(-1)
    wanted = _pick(rng, [-100, -7, -1, 0, 3, 9, 100])
    if x.dtype.kind == "u":
        wanted = abs(wanted)
    flat[int(rng.integers(flat.size))] = wanted
    return _with_input(case, index, flat.reshape(x.shape))


def another_attribute(case: Case, rng: np.random.Generator) -> Case | None:
    name = _pick(rng, sorted(case.attributes))
    if name is None:
        return None
    value = case.attributes[name]
    changed: Any
    if isinstance(value, np.ndarray):
        return None
    if isinstance(value, int) and value in {0, 1} and name not in PLACES:
        return None
    if isinstance(value, int):
        changed = _pick(rng, [-100, -9, -1, 0, 2, 7, 100])
    elif isinstance(value, float):
        changed = _pick(rng, [float("nan"), float("inf"), -1.0, 0.0])
    elif isinstance(value, str):
        changed = _pick(rng, ["", "bogus", value.lower(), value + " "])
    elif isinstance(value, list):
        changed = _changed_list(list(value), rng)
    else:
        return None
    return replace(case, attributes={**case.attributes, name: changed})


def _changed_list(value: list[Any], rng: np.random.Generator) -> list[Any]:
    way = int(rng.integers(4))
    if way == 0 and value:
        return value[:-1]
    if way == 1:
        return [*value, value[-1] if value else 1]
    if value and isinstance(value[0], int):
        value[int(rng.integers(len(value)))] = _pick(rng, [-100, -3, -1, 0, 9, 100])
    return value


def without_attribute(case: Case, rng: np.random.Generator) -> Case | None:
    name = _pick(rng, sorted(case.attributes))
    kept = {n: v for n, v in case.attributes.items() if n != name}
    return None if name is None else replace(case, attributes=kept)


def without_input(case: Case, rng: np.random.Generator) -> Case | None:
    index = _pick(rng, _arrays(case))
    return None if index is None else _with_input(case, index, None)


MUTATIONS: tuple[Mutation, ...] = (
    another_rank,
    another_rank,
    another_extent,
    another_extent,
    another_number,
    another_attribute,
    another_attribute,
    without_attribute,
    without_input,
)


FOREIGN = (np.float32, np.float64, np.int8, np.int64, np.uint8, np.bool_, np.complex64, object)
FAR = (-(2**63), 2**63 - 1, 2**50, -(2**31), -1)
"""What no memory holds, or nothing: numbers between would only take long."""


def foreign_elements(case: Case, rng: np.random.Generator) -> Case | None:
    """An input of a type that the operator may not take."""
    index = _pick(rng, _arrays(case))
    if index is None:
        return None
    dtype = np.dtype(_pick(rng, list(FOREIGN)))
    shape = case.inputs[index].shape
    return _with_input(case, index, np.full(shape, "1" if dtype.kind == "O" else 1, dtype))


def flat_or_deep(case: Case, rng: np.random.Generator) -> Case | None:
    """An input without axes, or with four more, or without elements."""
    index = _pick(rng, _arrays(case))
    if index is None:
        return None
    x = case.inputs[index]
    shapes = [(1,) * 4 + x.shape, (0,) * max(x.ndim, 1)] + [()] * bool(x.size)
    return _with_input(case, index, np.resize(x, _pick(rng, shapes)).astype(x.dtype))


def far_number(case: Case, rng: np.random.Generator) -> Case | None:
    """An element of 64 bits that leads out of all bounds."""
    longs = [i for i in _arrays(case) if case.inputs[i].dtype == np.int64 and case.inputs[i].size]
    index = _pick(rng, longs)
    if index is None:
        return None
    x = case.inputs[index].copy()
    x.reshape(-1)[int(rng.integers(x.size))] = _pick(rng, list(FAR))
    return _with_input(case, index, x)


def far_attribute(case: Case, rng: np.random.Generator) -> Case | None:
    names = [n for n, v in case.attributes.items() if isinstance(v, int | list) and v]
    name = _pick(rng, names)
    value = None if name is None else case.attributes[name]
    if isinstance(value, list) and isinstance(value[0], int):
        far = list(value)
        far[int(rng.integers(len(far)))] = _pick(rng, list(FAR))
        return replace(case, attributes={**case.attributes, name: far})
    if isinstance(value, int):
        return replace(case, attributes={**case.attributes, name: _pick(rng, list(FAR))})
    return None


WILD: tuple[Mutation, ...] = (foreign_elements, flat_or_deep, far_number, far_attribute)


def estranged(case: Case, rng: np.random.Generator) -> Case:
    """``case`` changed as nobody would by mistake."""
    ways = [WILD[i] for i in rng.permutation(len(WILD))]
    return next((changed for way in ways if (changed := way(case, rng)) is not None), case)


def mutated(case: Case, rng: np.random.Generator) -> Case:
    """``case`` with one part changed; it may still be legal."""
    ways = [MUTATIONS[i] for i in rng.permutation(len(MUTATIONS))]
    changes = (way(case, rng) for way in ways)
    return next((changed for changed in changes if changed is not None), case)
