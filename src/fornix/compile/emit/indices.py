"""Index expressions to code: sums of products of loop variables, symbols, divisions, loaded data.

Partial sums live at the level of their terms, so that an address costs one addition per loop that
it depends on. Data that serve as indices are checked here, and made harmless where they are wrong.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from fornix.compile.emit.builder import Value
from fornix.compile.emit.types import lane_numbers
from fornix.errors import NotSupported
from fornix.ir.dim import Dim, DimLike, bounds, is_nonnegative
from fornix.ir.dim.expression import Atom, Extreme, Floor, Symbol, Terms, collect
from fornix.ir.loops import Loaded

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter

MANY_TERMS = 8
"""Terms of one level that LLVM sees as one value: it takes sums in loops apart, and compares all
terms of one with those of all others. Ten sums of up to 90 take 0.1 s instead of 2.5."""


def scalar(em: Emitter, d: DimLike) -> Value:
    """The value of ``d`` as an i64."""
    if isinstance(d, int):
        return Value(str(d), False, 0)
    known = em.find(("dim", d))
    if known is not None:
        return known
    by_depth: dict[int, list[tuple[tuple[Atom, ...], int, list[str]]]] = {}
    for monomial, c in d.terms.items():
        factors = [_atom(em, a) for a in monomial]
        depth = max((f.depth for f in factors), default=0)
        by_depth.setdefault(depth, []).append((monomial, c, [f.text for f in factors]))
    total = Value("0", False, 0)
    done: Terms = {}
    for depth in sorted(by_depth):
        for count, (monomial, c, names) in enumerate(by_depth[depth], 1):
            done = {**done, monomial: c}
            key = ("dim", Dim(done))
            total = em.find(key) or em.remember(
                key, _add(em, total, _product(em, depth, c, names), depth, count)
            )
    return total


def _product(em: Emitter, depth: int, c: int, names: list[str]) -> str:
    """``c`` times the factors."""
    if not names:
        return str(c)
    text = names[0]
    for name in names[1:]:
        text = em.put(depth, f"mul nsw i64 {text}, {name}")
    return text if c == 1 else em.put(depth, f"mul nsw i64 {text}, {c}")


def _add(em: Emitter, total: Value, term: str, depth: int, count: int) -> Value:
    """The sum at the deeper of the two levels, of which the term is number ``count``."""
    depth = max(total.depth, depth)
    if total.text == "0":
        return Value(term, False, depth)
    text = em.put(depth, f"add nsw i64 {total.text}, {term}")
    if count % MANY_TERMS == 0:
        text = em.put(depth, f"freeze i64 {text}")
    return Value(text, False, depth)


def _atom(em: Emitter, atom: Atom) -> Value:
    if isinstance(atom, Symbol):
        return em.symbols[atom.name]
    if atom in em.places:
        return em.places[atom]
    found = em.find(("atom", atom))
    return found or em.remember(("atom", atom), _compound(em, atom))


def _compound(em: Emitter, atom: Atom) -> Value:
    match atom:
        case Floor():
            return _floor(em, atom, scalar(em, atom.num), scalar(em, atom.den))
        case Extreme():
            result, *more = [scalar(em, c) for c in atom.choices]
            for other in more:
                result = _extreme(em, atom.kind, result, other)
            return result
        case Loaded():
            return _loaded(em, atom, em.value(atom.expr), 0)
    raise NotSupported(f"the dim {atom} has no value before the run")


def _kind(em: Emitter, *operands: Value) -> tuple[str, list[str], bool, int]:
    """Type and texts of integer operands, as vectors if one is, and where the result lives."""
    is_vector = any(v.is_vector for v in operands)
    texts = [em.splat_index(v) if is_vector else v.text for v in operands]
    kind = f"<{em.lanes} x i64>" if is_vector else "i64"
    return kind, texts, is_vector, max(v.depth for v in operands)


def _extreme(em: Emitter, kind: str, a: Value, b: Value) -> Value:
    type_, (x, y), is_vector, depth = _kind(em, a, b)
    name = f"llvm.s{kind}.{f'v{em.lanes}i64' if is_vector else 'i64'}"
    return Value(em.call(depth, type_, name, (type_, x), (type_, y)), is_vector, depth)


def _floor(em: Emitter, atom: Floor, num: Value, den: Value) -> Value:
    """``floor(num / den)``; anything where ``den`` is 0, but no trap."""
    kind, (x, y), is_vector, depth = _kind(em, num, den)
    is_positive = is_nonnegative(atom.den - 1) is True
    if is_positive and is_nonnegative(atom.num) is True:
        return Value(_unsigned(em, atom, (kind, x, y), depth), is_vector, depth)
    bit = kind.replace("i64", "i1")
    one, zero = (f"splat (i64 {n})" if is_vector else str(n) for n in (1, 0))
    if not is_positive:
        empty = em.put(depth, f"icmp eq {kind} {y}, {zero}")
        y = em.put(depth, f"select {bit} {empty}, {kind} {one}, {kind} {y}")
    if is_vector and not isinstance(atom.den, int):
        return Value(_lanes_divided(em, kind, x, y, depth), True, depth)
    quotient = em.put(depth, f"sdiv {kind} {x}, {y}")
    rest = em.put(depth, f"srem {kind} {x}, {y}")
    inexact = em.put(depth, f"icmp ne {kind} {rest}, {zero}")
    signs = em.put(depth, f"xor {kind} {rest}, {y}")
    differ = em.put(depth, f"icmp slt {kind} {signs}, {zero}")
    lower = em.put(depth, f"and {bit} {inexact}, {differ}")
    step = em.put(depth, f"sext {bit} {lower} to {kind}")
    return Value(em.put(depth, f"add {kind} {quotient}, {step}"), is_vector, depth)


def _lanes_divided(em: Emitter, kind: str, x: str, y: str, depth: int) -> str:
    """The quotients of lanes, rounded down, in float64: processors divide integers one by one.

    They are exact: an index is below 2⁵³, and a quotient that is no integer is farther from one
    than it is rounded.
    """
    wide = kind.replace("i64", "double")
    a, b = (em.put(depth, f"sitofp {kind} {operand} to {wide}") for operand in (x, y))
    quotient = em.put(depth, f"fdiv {wide} {a}, {b}")
    whole = em.put(depth, f"fptosi {wide} {quotient} to {kind}")
    again = em.put(depth, f"sitofp {kind} {whole} to {wide}")
    is_above = em.put(depth, f"fcmp ogt {wide} {again}, {quotient}")
    step = em.put(depth, f"sext {kind.replace('i64', 'i1')} {is_above} to {kind}")
    return em.put(depth, f"add {kind} {whole}, {step}")


MAX_I32 = 2**31 - 1


def _unsigned(em: Emitter, atom: Floor, operands: tuple[str, str, str], depth: int) -> str:
    """The quotient of what is not negative; in 32 bits where they suffice, for vectors' sake."""
    kind, x, y = operands
    is_vector = kind.startswith("<")
    high = max((bounds(d)[1] or MAX_I32 + 1) for d in (atom.num, atom.den))
    if is_vector and high > MAX_I32 and not isinstance(atom.den, int):
        return _lanes_divided(em, kind, x, y, depth)
    if not is_vector or high > MAX_I32:
        return em.put(depth, f"udiv {kind} {x}, {y}")
    small = kind.replace("i64", "i32")
    a = em.put(depth, f"trunc {kind} {x} to {small}")
    b = f"splat (i32 {atom.den})"
    if not isinstance(atom.den, int):
        b = em.put(depth, f"trunc {kind} {y} to {small}")
    return em.put(depth, f"zext {small} {em.put(depth, f'udiv {small} {a}, {b}')} to {kind}")


def _loaded(em: Emitter, atom: Loaded, given: Value, unit: int) -> Value:
    """The loaded integer; if it is not in its range the run fails, and it is taken for 0."""
    extent = scalar(em, atom.extent)
    if is_nonnegative(atom.extent - 1) is not True:
        extent = _extreme(em, "max", extent, Value("1", False, 0))
    if atom.wraps:
        kind, (x, n), is_vector, depth = _kind(em, given, extent)
        zero = "zeroinitializer" if is_vector else "0"
        negative = em.put(depth, f"icmp slt {kind} {x}, {zero}")
        shifted = em.put(depth, f"add {kind} {x}, {n}")
        bit = kind.replace("i64", "i1")
        text = em.put(depth, f"select {bit} {negative}, {kind} {shifted}, {kind} {x}")
        given = Value(text, is_vector, depth)
    kind, (x, n), is_vector, depth = _kind(em, given, extent)
    good = Value(em.put(depth, f"icmp ult {kind} {x}, {n}"), is_vector, depth)
    em.check("index", f"{atom}", good, unit)
    zero = "zeroinitializer" if is_vector else "0"
    bit = kind.replace("i64", "i1")
    text = em.put(depth, f"select {bit} {good.text}, {kind} {x}, {kind} {zero}")
    return Value(text, is_vector, depth)


def lanes_of(em: Emitter, d: DimLike, unit: int) -> Value:
    """The values of ``d`` in the lanes of vector ``unit``, each an i64."""
    if isinstance(d, int) or not em.depends(d):
        v = scalar(em, d)
        return Value(em.splat_index(v), True, v.depth)
    found = em.find(("lanes", d, unit))
    return found or em.remember(("lanes", d, unit), _lanes(em, d, unit))


def stride(em: Emitter, d: DimLike) -> int | None:
    """How far ``d`` moves from lane to lane; None if that is not a constant."""
    if em.vector is None or isinstance(d, int) or not em.depends(d):
        return 0
    step = 0
    for monomial, c in d.terms.items():
        if monomial == (em.vector,):
            step = c
        elif any(em.vector in atom.variables for atom in monomial):
            return None
    return step


def _lanes(em: Emitter, d: Dim, unit: int) -> Value:
    """As `lanes_of`: what all lanes have in common is added up as one number, and spread once."""
    step = stride(em, d)
    kind = f"<{em.lanes} x i64>"
    if step is not None:
        first = scalar(em, d)
        numbers = lane_numbers(step * unit * em.lanes, step, em.lanes)
        if first.text == "0":
            return Value(numbers, True, first.depth)
        text = em.put(first.depth, f"add {kind} {em.splat_index(first)}, {numbers}")
        return Value(text, True, first.depth)
    even: Terms = {}
    varying: dict[tuple[Atom, ...], Terms] = {}
    for monomial, c in d.terms.items():
        along = tuple(a for a in monomial if em.depends(a))
        if not along or monomial == (em.vector,):
            even[monomial] = c
        else:
            others = tuple(a for a in monomial if not em.depends(a))
            varying.setdefault(along, {})[others] = c
    terms = [lanes_of(em, collect(even), unit)] if even else []
    terms += [_multiple(em, along, collect(c), unit) for along, c in varying.items()]
    first, *more = sorted(terms, key=lambda v: v.depth)
    return functools.reduce(functools.partial(_combine, em, "add"), more, first)


def _multiple(em: Emitter, along: tuple[Atom, ...], c: DimLike, unit: int) -> Value:
    """``c``, which all lanes have in common, times the product of what varies ``along`` them."""
    factors = [_atom_lanes(em, atom, unit) for atom in along]
    product = functools.reduce(functools.partial(_combine, em, "mul"), factors)
    return product if c == 1 else _combine(em, "mul", product, scalar(em, c))


def _combine(em: Emitter, op: str, a: Value, b: Value) -> Value:
    kind, (x, y), is_vector, depth = _kind(em, a, b)
    return Value(em.put(depth, f"{op} {kind} {x}, {y}"), is_vector, depth)


def _atom_lanes(em: Emitter, atom: Atom, unit: int) -> Value:
    found = em.find(("lanes", atom, unit))
    return found or em.remember(("lanes", atom, unit), _compound_lanes(em, atom, unit))


def _compound_lanes(em: Emitter, atom: Atom, unit: int) -> Value:
    if atom is em.vector:
        return _lanes(em, Dim({(atom,): 1}), unit)
    inner = [lanes_of(em, i, unit) if em.depends(i) else scalar(em, i) for i in atom.inner]
    match atom:
        case Floor():
            return _floor(em, atom, *inner)
        case Extreme():
            result, *more = inner
            for other in more:
                result = _extreme(em, atom.kind, result, other)
            return result
        case Loaded():
            return _loaded(em, atom, em.value(atom.expr, unit), unit)
    raise NotSupported(f"the dim {atom} has no value before the run")
