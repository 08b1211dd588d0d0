"""Iterations of a Loop or a Scan as one function of Python, as long as what is carried looks alike.

Those of a SequenceMap are, as long as elements are what the steps are made for. Decides what is
done once for each iteration: what the body reads of its number, of slices and of sequences, whether
it goes on, and how what it gives looks. Steps are those of a `Straight`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from fornix.ir.graph import Value
from fornix.ir.types import TensorType
from fornix.ops.scanning import truth
from fornix.runtime.shortcuts.shortcut import fit_test
from fornix.runtime.shortcuts.straight import Straight, StraightWay


class Turned(NamedTuple):
    """What the inputs of a body are, one after the other."""

    leading: int
    """Inputs ahead of what is carried: of a Loop the number of the iteration, and the condition."""
    carried: int
    slices: int
    elements: int = 0
    """Of sequences, which need not look alike."""


def turning(
    straight: Straight, inputs: Sequence[Value], outputs: Sequence[Value], form: Turned
) -> StraightWay:
    """The body of a Loop, a Scan or a SequenceMap on `Turns` and what it captures.

    It gives None if it did nothing; ``inputs`` are those of the body, and what it captures.
    """
    rest = iter(inputs)
    leading, carried, slices, elements = (list(islice(rest, count)) for count in form)
    captured, read, turn = [*rest], straight.read, [*straight.lines, "at += 1"]
    told = 1 if leading else 0
    new, rows = outputs[told : told + form.carried], outputs[told + form.carried :]
    ahead = [f"{read([v])} = sources[{n}][at, ...]" for n, v in enumerate(slices)]
    begin = []
    if elements:
        ahead += [f"{read([v])} = sources[{n}][at]" for n, v in enumerate(elements)]
        fits = fit_test(elements, captured, straight)
        ahead.append(f"if not ({fits}): break")
    if leading:
        number, holds = leading
        if re.search(rf"\b{read([number])}\b", " ".join([*turn, read(outputs)])):
            where = "[at]" if getattr(number.type, "shape", None) else "at"
            made = f"{straight.bind(np.array)}({where}, {straight.bind(np.int64)})"
            ahead.append(f"{read([number])} = {made}")
        if outputs[0] is not holds:
            turn.append(f"goes_on = {straight.bind(truth)}({read(outputs[:1])})")
        holding = np.ones(getattr(holds.type, "shape", None) or (), bool)
        begin.append(f"{read([holds])} = {straight.bind(holding)}")
    turn += [f"rows[{at}].append({read([value])})" for at, value in enumerate(rows)]
    pairs = zip(carried, new, strict=True)
    looks = [_alike(a, read([a]), read([b])) for a, b in pairs if a is not b]
    turn += [f"alike = {' and '.join(looks) or True}", f"[{read(carried)}] = [{read(new)}]"]
    return straight.made_of([
        f"[turns, {read(captured)}] = given",
        f"[{read(carried)}] = turns.carried",
        *begin,
        "at, limit, rows = turns.iteration, turns.limit, [[] for _ in turns.scanned]",
        "goes_on, alike, sources = True, True, turns.sources",
        *straight.once,
        "while goes_on and alike and at < limit:",
        *(f"    {line}" for line in [*ahead, *turn]),
        f"turns.carried, turns.iteration, turns.goes_on = [{read(carried)}], at, goes_on",
        "for before, row in zip(turns.scanned, rows): before += row",
        "return given",
    ])  # fmt: skip


def _alike(value: Value, before: str, after: str) -> str:
    """Whether what a variable is ``after`` an iteration looks as it did ``before``."""
    if isinstance(value.type, TensorType):
        return f"{before}.shape == {after}.shape and {before}.dtype == {after}.dtype"
    return f"type({before}) is type({after})"
