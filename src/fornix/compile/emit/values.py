"""Loop scalars to values: which instructions, expansion or reduction each kind of node is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fornix.compile.cost import outer_reductions
from fornix.compile.emit import indices, maths, tables
from fornix.compile.emit.builder import Value
from fornix.compile.emit.bytes import dot2i, dot4
from fornix.compile.emit.convert import convert, in_halves
from fornix.compile.emit.halves import half, halves, rounds_in_pairs
from fornix.compile.emit.instructions import Operands, binary, divide, unary
from fornix.compile.emit.memory import load
from fornix.compile.emit.raw import Raw
from fornix.compile.emit.types import literal
from fornix.compile.words import pair_of, word_of
from fornix.dtype import BFLOAT16, BOOL, FLOAT32, FLOAT64, INT32, INT64, UINT16, DType
from fornix.errors import NotSupported
from fornix.ir.dim import DimLike
from fornix.ir.loops import (
    Apply,
    Const,
    Index,
    Load,
    Reduce,
    Scalar,
    Variable,
    apply,
    bitcast,
    cast,
    const,
    select,
)
from fornix.ir.loops import load as loaded_from

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter

_UNARY = {"neg", "abs", "not", "sqrt", "floor", "ceil", "trunc", "rint"}
_DIVISIONS = {"div", "mod", "fmod"}
_ZERO = Value("0", False, 0)
_PAIRED: dict[str, Callable[[Emitter, Value, Value], Value]] = {
    "dot2i": lambda em, a, b: dot2i(em, a, b, _ZERO),
    "dot4": lambda em, a, b: dot4(em, a, b, _ZERO),
    "halves": halves,
}
FEW_VECTORS = 2
"""Vectors of 64-bit numbers that are compared as soon as numbers of lanes."""
LARGE_NUMBER = 1 << 62
"""From here on a number less an index may overflow."""
LOW_BYTES = 0x00FF00FF
"""The lower byte of each half of a word."""


def compute(em: Emitter, e: Scalar, unit: int) -> Value:
    """Write the code of ``e``; its operands are remembered by whoever asks for them."""
    match e:
        case Const():
            return Value(literal(e.value, e.dtype), False, 0)
        case Index():
            d = e.dims[0]
            return em.dims(d, unit) if em.depends(e) else em.dim(d)
        case Load():
            return load(em, e, unit)
        case Reduce():
            return em.reduce(e, unit)
        case Raw():
            return _raw(em, e, unit)
        case Apply():
            return _places_compared(em, e, unit) or _apply(em, e, unit)
    raise NotSupported(f"{type(e).__name__} has no code")


def _apply(em: Emitter, e: Apply, unit: int) -> Value:
    expanded = _expansion(em, e)
    if expanded is not None:
        if e.op == "pow" and e.dtype.kind == "int":
            em.value(e.args[0], unit)  # for itself, as it may be a power, too: all steps are nested
            good = em.value(_is_short_exponent(e.args[1]), unit)
            em.check(
                "power", "an integer is raised to a negative power, or a large one", good, unit
            )
        if e.op in maths.LIMITS and e.dtype.is_float:
            good = em.value(maths.LIMITS[e.op](*e.args), unit)
            em.check("range", f"{e.op} of numbers so large", good, unit)
        return em.value(expanded, unit)
    args = [em.value(a, unit) for a in e.args]
    if e.op == "select":
        return _select(em, e.dtype, args)
    if e.op == "after":
        check, x = args  # not remembered longer than the check: each loop has one of its own
        return Value(x.text, x.is_vector, max(check.depth, x.depth))
    if e.op == "bitcast":
        return _same_width(em, e.args[0].dtype, e.dtype, args[0])
    dtype = e.args[0].dtype
    if e.op in _PAIRED:
        return _PAIRED[e.op](em, *args)
    if e.op in _UNARY:
        return unary(em, e.op, dtype, *args)
    if e.op in _DIVISIONS and dtype.is_integer:
        return divide(em, e.op, dtype, args[0], args[1], unit)
    return binary(em, e.op, dtype, *args)


def _places_compared(em: Emitter, e: Apply, unit: int) -> Value | None:
    """Which lanes come before an end, or not: numbers of lanes are compared, not 64 bits of each.

    Or which one is there. None where that saves nothing, and for what is no such comparison.
    """
    if e.op not in {"lt", "le", "eq"} or e.args[0].dtype is not INT64:
        return None
    if 8 * em.lanes <= FEW_VECTORS * em.target.vector_bytes or not em.depends(e):
        return None
    one, other = (_place(em, x) for x in e.args)
    if one is None or other is None:
        return None
    further = other - one + (e.op == "le")
    step = indices.stride(em, further)
    if step not in {-1, 1}:
        return None
    if e.op == "eq":
        return em.lane_at(indices.scalar(em, further * -step), unit)
    if step == -1:
        return em.first_lanes(indices.scalar(em, further), unit)
    before = em.first_lanes(indices.scalar(em, 1 - further), unit)
    kind = em.type(BOOL, is_vector=True)
    text = em.put(before.depth, f"xor {kind} {before.text}, splat (i1 true)")
    return Value(text, True, before.depth)


def _place(em: Emitter, e: Scalar) -> DimLike | None:
    """The index that ``e`` is, or a number that lanes have in common.

    That is so small that no difference of two overflows: those beyond are as far from any index.
    """
    if isinstance(e, Index):
        return e.dims[0]
    if isinstance(e, Const):
        return int(e.value) if abs(e.value) < LARGE_NUMBER else None
    if em.depends(e):
        return None
    given, bounds = em.value(e), {"smin": LARGE_NUMBER, "smax": -LARGE_NUMBER}
    text = given.text
    for name, bound in bounds.items():
        text = em.call(given.depth, "i64", f"llvm.{name}.i64", ("i64", text), ("i64", str(bound)))
    number = Variable("end", LARGE_NUMBER)
    em.place(number, Value(text, False, given.depth))
    return number.dim


def _expansion(em: Emitter, e: Apply) -> Scalar | None:
    """What ``e`` is in simpler terms; None for what is simple."""
    found = em.expansions.get(e)
    if found is None:
        found = _expand(em, e)
        if found is not None:
            em.expansions[e] = found
    return found


def _expand(em: Emitter, e: Apply) -> Scalar | None:
    if e.op in {"cast", "halves"}:
        return _converted(em, e)
    if e.op == "or":
        return _word(em, e)
    if e.op in {"sub", "div"} and e.dtype.is_float:
        return maths.beside_one(e)
    if e.op == "add" and e.dtype is FLOAT32:
        return _fused(em, e)
    if e.op in maths.FUNCTIONS:
        return (tables.by_table(em, e) or maths.FUNCTIONS[e.op])(e.args[0])
    if e.op == "pow":
        return maths.power(*e.args) if e.dtype.is_float else _integer_power(e)
    if e.op in {"mod", "fmod"} and e.dtype.is_float:
        return maths.remainder(e.op, *e.args)
    return None


def _converted(em: Emitter, e: Apply) -> Scalar | None:
    if e.op == "cast":
        may_drop = em.drops_subnormal and rounds_in_pairs(em)
        if may_drop and e.dtype is BFLOAT16 and e.args[0].dtype is FLOAT32:
            return Raw("float_to_bfloat", e.args[0], BFLOAT16)
        return convert(e.args[0], e.dtype, em.target)
    return None if rounds_in_pairs(em) else in_halves(e.args[0], e.args[1], em.target)


def _fused(em: Emitter, e: Apply) -> Scalar | None:
    """A sum with a product by a sum of products, rounded once where that is one instruction."""
    if not em.target.fuses or em.target.is_strict:
        return None
    for product, other in (e.args, e.args[::-1]):
        factors = product.args if isinstance(product, Apply) and product.op == "mul" else ()
        if any(_is_sum(factor) for factor in factors):
            return apply("fma", *factors, other)
    return None


def _is_sum(e: Scalar) -> bool:
    """Whether ``e`` is a sum of products of integers as a float, perhaps of several sums."""
    if not isinstance(e, Apply) or e.op != "cast" or e.args[0].dtype is not INT32:
        return False
    return bool(outer_reductions(e.args[0]))


def _word(em: Emitter, e: Apply) -> Scalar | None:
    """The load of the bytes that ``e`` joins, if they lie side by side."""
    word = word_of(e)
    if word is not None:
        return loaded_from(em.words(word.buffer), word.place, word.guard, word.default)
    pair = pair_of(e)
    if pair is None:
        return None
    memory = em.words(pair.buffer, UINT16)
    both = cast(loaded_from(memory, pair.place, pair.guard, pair.default & 0xFFFF), INT32)
    return apply("and", apply("or", both, apply("shl", both, 8)), LOW_BYTES)


EXPONENT_BITS = 6
"""Bits of an exponent that a run tells: greater ones are for 0, 1 and −1, or what wraps around."""


def _is_short_exponent(exponent: Scalar) -> Scalar:
    """Whether `_integer_power` takes all its bits."""
    if isinstance(exponent, Const):
        return apply("le", 0, exponent)
    return apply("eq", apply("shr", exponent, EXPONENT_BITS), 0)


def _integer_power(e: Apply) -> Scalar:
    """By squaring."""
    base, exponent = e.args
    bits = EXPONENT_BITS
    if isinstance(exponent, Const) and exponent.value >= 0:
        bits = int(exponent.value).bit_length()
    result: Scalar = const(1, e.dtype)
    for k in range(bits):
        odd = apply("ne", apply("and", apply("shr", exponent, k), 1), 0)
        result = select(odd, result * base, result)
        base = base * base
    return result


def _select(em: Emitter, dtype: DType, args: list[Value]) -> Value:
    condition, a, b = args
    o = Operands(em, dtype, a, b)
    x, y = o.texts
    depth = max(o.depth, condition.depth)
    if condition.is_vector and not o.is_vector:
        x, y = em.splat(a, dtype), em.splat(b, dtype)
    is_vector = condition.is_vector or o.is_vector
    kind = em.type(dtype, is_vector=is_vector)
    bit = em.type(BOOL, is_vector=condition.is_vector)
    text = f"select {bit} {condition.text}, {kind} {x}, {kind} {y}"
    return Value(em.put(depth, text), is_vector, depth)


def _same_width(em: Emitter, source: DType, dtype: DType, x: Value) -> Value:
    a, b = (em.type(d, is_vector=x.is_vector) for d in (source, dtype))
    if a == b:
        return x
    if dtype is BOOL:  # a byte
        return binary(em, "ne", source, x, Value("0", False, 0))
    if source is BOOL:
        return Value(em.put(x.depth, f"zext {a} {x.text} to {b}"), x.is_vector, x.depth)
    return Value(em.put(x.depth, f"bitcast {a} {x.text} to {b}"), x.is_vector, x.depth)


def _raw(em: Emitter, e: Raw, unit: int) -> Value:
    if e.instruction == "choose":
        return tables.choose(em, e, unit)
    args = [em.value(a, unit) for a in e.args]
    x, source = args[0], e.args[0].dtype
    if e.instruction == "scale":
        return _scale(em, e, unit)
    if e.instruction == "same":
        return _same_width(em, source, e.dtype, x)
    if e.instruction == "float_to_bfloat":
        return half(em, x)
    a, b = (em.type(d, is_vector=x.is_vector) for d in (source, e.dtype))
    narrow = f"<{em.lanes} x half>" if x.is_vector else "half"
    if e.instruction == "half_to_float":
        bits = em.put(x.depth, f"bitcast {a} {x.text} to {narrow}")
        return Value(em.put(x.depth, f"fpext {narrow} {bits} to {b}"), x.is_vector, x.depth)
    if e.instruction == "float_to_half":
        bits = em.put(x.depth, f"fptrunc {a} {x.text} to {narrow}")
        return Value(em.put(x.depth, f"bitcast {narrow} {bits} to {b}"), x.is_vector, x.depth)
    text = em.put(x.depth, f"{e.instruction} {a} {x.text} to {b}")
    return Value(text, x.is_vector, x.depth)


# Instructions that scale by powers of two: vector bytes and element bits → name, mask, rounding.
_SCALEF = {
    (64, 32): "llvm.x86.avx512.mask.scalef.ps.512",
    (64, 64): "llvm.x86.avx512.mask.scalef.pd.512",
}
CURRENT_ROUNDING = 4


def _scale(em: Emitter, e: Raw, unit: int) -> Value:
    """``x·2ⁿ``, also where it is subnormal or overflows."""
    x, n = e.args
    a, b = em.value(x, unit), em.value(n, unit)
    o = Operands(em, e.dtype, a, b)
    name = _SCALEF.get((em.lanes * e.dtype.bits // 8, e.dtype.bits))
    if name is None or not o.is_vector or not em.target.has("avx512f"):
        return em.value(_scaled(x, n), unit)
    mask = f"i{em.lanes}"
    given = [(o.type, t) for t in (*o.texts, "zeroinitializer")]
    rounding = ("i32", str(CURRENT_ROUNDING))
    return o.value(em.call(o.depth, o.type, name, *given, (mask, "-1"), rounding))


def _scaled(x: Scalar, n: Scalar) -> Scalar:
    """``x·2ⁿ`` by two multiplications, each with a power that has an exponent."""
    whole = INT64 if x.dtype is FLOAT64 else INT32
    mantissa = {32: 23, 64: 52}[x.dtype.bits]
    bias = {32: 127, 64: 1023}[x.dtype.bits]
    safe = select(apply("eq", n, n), n, 0.0)
    power = Raw("fptosi", safe, whole)
    first = apply("shr", power, 1)
    for part in (first, power - first):
        x = x * bitcast(apply("shl", part + bias, mantissa), x.dtype)
    return x
