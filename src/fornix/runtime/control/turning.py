"""Iterations of a Loop as one function of Python, as long as its carried values look alike.

Decides what is done once for each iteration: what the body reads of its number, whether it goes on,
and how what it gives looks. Steps are those of a `Straight`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from fornix.ir.graph import Value
from fornix.ir.types import TensorType
from fornix.ops.control import truth
from fornix.runtime.shortcuts.straight import Straight, StraightWay


def turning(
    straight: Straight, inputs: Sequence[Value], outputs: Sequence[Value], count: int
) -> StraightWay:
    """The body of a Loop that carries ``count`` values, on `Turns` and what it captures.

    It gives None if it did nothing; ``inputs`` are those of the body, and what it captures.
    """
    (number, holds), carried, captured = inputs[:2], inputs[2 : 2 + count], inputs[2 + count :]
    condition, new, rows = outputs[0], outputs[1 : 1 + count], outputs[1 + count :]
    read, turn = straight.read, [*straight.lines, "at += 1"]
    if re.search(rf"\b{read([number])}\b", " ".join([*turn, read(outputs)])):
        told = "[at]" if getattr(number.type, "shape", None) else "at"
        turn.insert(
            0, f"{read([number])} = {straight.bind(np.array)}({told}, {straight.bind(np.int64)})"
        )
    if condition is not holds:
        turn.append(f"goes_on = {straight.bind(truth)}({read([condition])})")
    turn += [f"rows[{at}].append({read([value])})" for at, value in enumerate(rows)]
    pairs = zip(carried, new, strict=True)
    looks = [_alike(a, read([a]), read([b])) for a, b in pairs if a is not b]
    turn += [f"alike = {' and '.join(looks) or True}", f"[{read(carried)}] = [{read(new)}]"]
    holding = np.ones(getattr(holds.type, "shape", None) or (), bool)
    return straight.made_of([
        f"[turns, {read(captured)}] = given",
        f"[{read(carried)}] = turns.carried",
        f"{read([holds])} = {straight.bind(holding)}",
        "at, limit, rows = turns.iteration, turns.limit, [[] for _ in turns.scanned]",
        "goes_on = alike = True",
        "while goes_on and alike and at < limit:",
        *(f"    {line}" for line in turn),
        f"turns.carried, turns.iteration, turns.goes_on = [{read(carried)}], at, goes_on",
        "for before, row in zip(turns.scanned, rows): before += row",
        "return given",
    ])  # fmt: skip


def _alike(value: Value, before: str, after: str) -> str:
    """Whether what a variable is ``after`` an iteration looks as it did ``before``."""
    if isinstance(value.type, TensorType):
        return f"{before}.shape == {after}.shape and {before}.dtype is {after}.dtype"
    return f"type({before}) is type({after})"
