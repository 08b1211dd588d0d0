"""Powers with one exponent for all elements, which only a run tells.

Squares and cubes are what is asked for most, and take a multiplication or two where a power takes
some hundred operations; decided here is that each has loops of its own.
"""

from __future__ import annotations

from dataclasses import replace as replace_fields

from fornix.compile.nest import Nest, When
from fornix.compile.schedule.map import map_nest
from fornix.dtype import FLOAT32, FLOAT64, INT32, INT64
from fornix.ir.loops import TRUE, Apply, Load, Scalar, Store, apply, const, replace, walk

OFTEN = 2, 3
"""Exponents that have loops of their own."""


def powers_nest(store: Store, lanes: int) -> Nest | None:
    """The loops of ``store`` for each such exponent, and for any other; None if it has none."""
    exponent = _exponent(store)
    if exponent is None:
        return None
    whole = map_nest(store, lanes)
    body: list[When] = []
    others: Scalar = TRUE
    for number in OFTEN:
        one = const(number, exponent.dtype)
        nest = map_nest(replace_fields(store, value=replace(store.value, {exponent: one})), lanes)
        is_it = apply("eq", exponent, one)
        others = apply("and", others, apply("not", is_it))
        body.append(When(is_it, nest.body))
    return replace_fields(whole, body=(*body, When(others, whole.body)))


def _exponent(store: Store) -> Load | None:
    """What all powers in ``store`` have for their exponent, if it is one number in memory."""
    powers = [e for e in walk(store.value) if isinstance(e, Apply) and e.op == "pow"]
    found = {x for e in powers for x in walk(e.args[1]) if isinstance(x, Load)}
    if len(found) != 1:
        return None
    (load,) = found
    if load.variables or load.guard is not None or load.dtype not in _DTYPES:
        return None
    return load


_DTYPES = {FLOAT32, FLOAT64, INT32, INT64}

__all__ = ["powers_nest"]
