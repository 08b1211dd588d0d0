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


def mutated(case: Case, rng: np.random.Generator) -> Case:
    """``case`` with one part changed; it may still be legal."""
    ways = [MUTATIONS[i] for i in rng.permutation(len(MUTATIONS))]
    changes = (way(case, rng) for way in ways)
    return next((changed for changed in changes if changed is not None), case)
