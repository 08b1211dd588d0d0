"""Functions of one element that mean the same on arrays, on loop scalars and on dims.

An elementwise operator is one function written with these: on NumPy arrays it is the kernel, on
loop scalars (`ir.loops`) the lowering, on object arrays of ints and dims the propagation of shapes.
NumPy's own functions would not do: ``x * np.sqrt(0.5)`` widens a float32 array, integers promote to
floats. Here operands have one dtype, or DTypeError is raised; a Python number takes the dtype of
the other operand; the result has the operands' dtype, or is bool for comparisons. On dims, a
function that is not decided for all values of the symbols raises TypeError: nothing is propagated.

``+ - * -x abs() ~ & | ^ < <= > >=`` may be written as operators, ``/`` on floats; ``==`` may not.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fornix.cast import convert
from fornix.dtype import BOOL, DType
from fornix.errors import DTypeError, Fail
from fornix.ir import dim as dims
from fornix.ir import loops
from fornix.ir.dim import Dim, DimLike
from fornix.ir.loops import Number, Scalar
from fornix.ops import special

Operand: TypeAlias = Any
"""An array, a loop scalar, an object array of ints and dims, a dim, or a Python number."""

Array: TypeAlias = NDArray[Any]

INTEGER_DIVISION_BY_ZERO = "an integer is divided by zero"
NEGATIVE_POWER = "an integer is raised to a negative power"


# ── which of the three ─────────────────────────────────────────────────────────────────────────


def _dispatch(
    op: str, xs: tuple[Operand, ...], on_arrays: Callable[..., Array], on_dims: _OnDims
) -> Operand:
    """``op`` of operands of one dtype, on whatever they are."""
    if any(isinstance(x, Scalar) for x in xs):
        return loops.apply(op, *xs)
    if _are_dims(xs):
        is_told = op in {"eq", "ne"} and all(map(_are_texts, xs))
        return np.asarray(on_arrays(*xs)) if is_told else _each(on_dims, *xs)
    dtype = _common_dtype(xs)
    operation = loops.OPERATIONS[op]
    if dtype.kind not in operation.kinds:
        raise DTypeError(f"{op} is not defined for {dtype}")
    result = np.asarray(on_arrays(*xs))
    wanted = np.dtype(bool) if operation.gives_bool else dtype.numpy
    return result if result.dtype == wanted else result.astype(wanted)


_OnDims: TypeAlias = "Callable[..., DimLike | bool] | None"


def _are_dims(xs: tuple[Operand, ...]) -> bool:
    """Whether the operands are dims, object arrays (of dims or strings), or numbers only."""
    arrays = [x for x in xs if isinstance(x, np.ndarray | np.generic)]
    return any(isinstance(x, Dim) for x in xs) or all(a.dtype == object for a in arrays)


def _are_texts(x: Operand) -> bool:
    """Whether it is an array of nothing but texts, which NumPy compares as it should."""
    if not isinstance(x, np.ndarray) or not x.size:
        return False
    try:
        "".join(x.ravel().tolist())
    except TypeError:
        return False
    return True


def _each(function: _OnDims, *xs: Operand) -> Operand:
    """``function`` of each element of broadcast object arrays; a single dim stays one."""
    if function is None:
        raise TypeError("not defined for dims")
    if not any(isinstance(x, np.ndarray) for x in xs):
        return function(*xs)
    return _settled(np.frompyfunc(function, len(xs), 1)(*xs))


def _settled(result: object) -> Array:
    """Object arrays of nothing but bools as bools."""
    elements = np.asarray(result, object)
    if elements.size and all(isinstance(e, bool | np.bool_) for e in elements.flat):
        return elements.astype(bool)
    return elements


def _common_dtype(xs: tuple[Operand, ...]) -> DType:
    """The one dtype of the arrays among ``xs``; Python numbers must be of its kind."""
    dtypes = {x.dtype for x in xs if isinstance(x, np.ndarray | np.generic)}
    if len(dtypes) != 1:
        names = " and ".join(sorted(str(d) for d in dtypes))
        raise DTypeError(f"operands have one dtype, found {names}; write a cast")
    dtype = DType.of(dtypes.pop())
    for x in xs:
        if not isinstance(x, np.ndarray | np.generic):
            loops.const(x, dtype)
    return dtype


def _unary(op: str, on_arrays: Callable[..., Array], on_dims: _OnDims = None) -> _Unary:
    def function(x: Operand) -> Operand:
        return _dispatch(op, (x,), on_arrays, on_dims)

    function.__name__ = function.__qualname__ = op
    return function


def _binary(op: str, on_arrays: Callable[..., Array], on_dims: _OnDims = None) -> _Binary:
    def function(a: Operand, b: Operand) -> Operand:
        return _dispatch(op, (a, b), on_arrays, on_dims)

    function.__name__ = function.__qualname__ = op
    return function


_Unary: TypeAlias = Callable[[Operand], Operand]
_Binary: TypeAlias = Callable[[Operand, Operand], Operand]


# ── what arrays and dims need beyond NumPy ─────────────────────────────────────────────────────


def _nonzero(b: Array | Number) -> Array:
    """``b``; raises Fail if it is an integer 0 somewhere."""
    divisor = np.asarray(b)
    if divisor.dtype.kind in "iu" and not divisor.all():
        raise Fail(INTEGER_DIVISION_BY_ZERO)
    return divisor


def _divide(a: Array | Number, b: Array | Number) -> Array:
    """``a / b``; integers round towards zero."""
    dtype = np.result_type(a, b)  # one of them is a Python number, or both are equal
    if dtype.kind not in "iu":
        return np.asarray(np.divide(a, b))
    _nonzero(b)
    floor = np.floor_divide(a, b)
    inexact = np.not_equal(np.multiply(floor, b), a)
    result: Array = np.add(floor, inexact & (np.less(a, 0) != np.less(b, 0)), dtype=dtype)
    return result


def _power(a: Array | Number, b: Array | Number) -> Array:
    """``a`` to the power ``b``; integers only to powers that are not negative."""
    if np.result_type(a, b).kind in "iu" and np.less(b, 0).any():
        raise Fail(NEGATIVE_POWER)
    return np.asarray(np.power(a, b))


def _divide_dims(a: DimLike, b: DimLike) -> DimLike:
    """Division that rounds towards zero, where that is a floor division."""
    if isinstance(a, int) and isinstance(b, int):
        if b == 0:
            raise Fail(INTEGER_DIVISION_BY_ZERO)
        floor = a // b
        return floor + 1 if floor < 0 and floor * b != a else floor
    if dims.is_nonnegative(a) and dims.is_nonnegative(b):
        return dims.divide(a, b)
    raise TypeError(f"{a} / {b} is not decided")


def _fmod_dims(a: DimLike, b: DimLike) -> DimLike:
    return a - b * _divide_dims(a, b)


def _mod_dims(a: DimLike, b: DimLike) -> DimLike:
    return a - b * dims.divide(a, b)


def _decided(claim: bool | None) -> bool:
    if claim is None:
        raise TypeError("the order of these dims is not decided")
    return claim


def _equal_dims(a: DimLike | str | bool, b: DimLike | str | bool) -> bool:
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    return _decided(dims.equal(a, b))


def _sign_dims(a: DimLike) -> int:
    return 0 if _equal_dims(a, 0) else -1 if _decided(dims.less(a, 0)) else 1


def _same(a: DimLike) -> DimLike:
    """An integer is rounded already."""
    return a


# ── the functions ──────────────────────────────────────────────────────────────────────────────

add = _binary("add", np.add, lambda a, b: a + b)
sub = _binary("sub", np.subtract, lambda a, b: a - b)
mul = _binary("mul", np.multiply, lambda a, b: a * b)
div = _binary("div", _divide, _divide_dims)
mod = _binary("mod", lambda a, b: np.mod(a, _nonzero(b)), _mod_dims)
fmod = _binary("fmod", lambda a, b: np.fmod(a, _nonzero(b)), _fmod_dims)
pow = _binary("pow", _power)
maximum = _binary("max", np.maximum, dims.maximum)
minimum = _binary("min", np.minimum, dims.minimum)
neg = _unary("neg", np.negative, lambda a: -a)
abs = _unary("abs", np.abs, lambda a: dims.maximum(a, -a))

sqrt, exp, log = _unary("sqrt", np.sqrt), _unary("exp", np.exp), _unary("log", np.log)
sin, cos, tan = _unary("sin", np.sin), _unary("cos", np.cos), _unary("tan", np.tan)
asin, acos, atan = _unary("asin", np.arcsin), _unary("acos", np.arccos), _unary("atan", np.arctan)
sinh, cosh, tanh = _unary("sinh", np.sinh), _unary("cosh", np.cosh), _unary("tanh", np.tanh)
asinh, acosh = _unary("asinh", np.arcsinh), _unary("acosh", np.arccosh)
atanh, erf = _unary("atanh", np.arctanh), _unary("erf", special.erf)
floor, ceil = _unary("floor", np.floor, _same), _unary("ceil", np.ceil, _same)
trunc, rint = _unary("trunc", np.trunc, _same), _unary("rint", np.rint, _same)

less = _binary("lt", np.less, lambda a, b: _decided(dims.less(a, b)))
less_equal = _binary("le", np.less_equal, lambda a, b: _decided(dims.is_nonnegative(b - a)))
equal = _binary("eq", np.equal, _equal_dims)
not_equal = _binary("ne", np.not_equal, lambda a, b: not _equal_dims(a, b))

bitwise_and = _binary("and", np.bitwise_and)
bitwise_or = _binary("or", np.bitwise_or)
bitwise_xor = _binary("xor", np.bitwise_xor)
bitwise_not = _unary("not", np.bitwise_not)
shift_left, shift_right = _binary("shl", np.left_shift), _binary("shr", np.right_shift)


def greater(a: Operand, b: Operand) -> Operand:
    """Whether ``a > b``."""
    return less(b, a)


def greater_equal(a: Operand, b: Operand) -> Operand:
    """Whether ``a >= b``."""
    return less_equal(b, a)


def logical_and(a: Operand, b: Operand) -> Operand:
    """Whether both are true; bools only."""
    return _logical("and", np.logical_and, lambda x, y: bool(x and y), a, b)


def logical_or(a: Operand, b: Operand) -> Operand:
    """Whether at least one is true; bools only."""
    return _logical("or", np.logical_or, lambda x, y: bool(x or y), a, b)


def logical_xor(a: Operand, b: Operand) -> Operand:
    """Whether exactly one is true; bools only."""
    return _logical("xor", np.logical_xor, lambda x, y: bool(x) != bool(y), a, b)


def logical_not(x: Operand) -> Operand:
    """Whether it is false; bools only."""
    return _logical("not", np.logical_not, lambda a: not a, x)


def _logical(op: str, on_arrays: Callable[..., Array], on_dims: _OnDims, *xs: Operand) -> Operand:
    for x in xs:
        dtype = x.dtype if isinstance(x, Scalar | np.ndarray | np.generic) else BOOL.numpy
        if dtype not in (BOOL, BOOL.numpy, np.dtype(object)):
            raise DTypeError(f"logical {op} is defined for bool, found {dtype}")
    return _dispatch(op, xs, on_arrays, on_dims)


def where(condition: Operand, a: Operand, b: Operand) -> Operand:
    """``a`` where the condition is true, else ``b``; both are evaluated."""
    dtypes = [x.dtype for x in (condition, a, b) if isinstance(x, np.ndarray)]
    if dtypes == [bool, object, object]:
        return _settled(np.where(condition, a, b))
    if any(isinstance(x, Scalar) for x in (condition, a, b)):
        return loops.select(condition, a, b)
    if _are_dims((a, b)):
        return _each(lambda c, x, y: x if c else y, condition, a, b)
    dtype = _common_dtype((a, b))
    if np.asarray(condition).dtype != bool:
        raise DTypeError(f"a condition is a bool, found {np.asarray(condition).dtype}")
    return np.asarray(np.where(condition, a, b), dtype.numpy)


def cast(x: Operand, dtype: DType) -> Operand:
    """``x`` converted to ``dtype`` as ONNX's Cast does, saturating."""
    if isinstance(x, Scalar):
        return loops.cast(x, dtype)
    if _are_dims((x,)):
        if dtype.is_integer:
            return x
        raise TypeError(f"dims are not converted to {dtype}")
    return convert(np.asarray(x), dtype)


def bitcast(x: Operand, dtype: DType) -> Operand:
    """The bits of ``x`` read as ``dtype``, of the same width."""
    if isinstance(x, Scalar):
        return loops.bitcast(x, dtype)
    if DType.of(x.dtype).bits != dtype.bits:
        raise DTypeError(f"bitcast keeps the width, found {DType.of(x.dtype)} and {dtype}")
    return np.asarray(x).view(dtype.numpy)


def greatest(*xs: Operand) -> Operand:
    """The greatest of ``xs``, of which there is at least one."""
    return functools.reduce(maximum, xs)


def least(*xs: Operand) -> Operand:
    """The least of ``xs``, of which there is at least one."""
    return functools.reduce(minimum, xs)


def clip(x: Operand, min: Operand | None = None, max: Operand | None = None) -> Operand:
    """``x``, at least ``min`` and at most ``max``, which wins if they cross; None is no bound."""
    x = x if min is None else maximum(x, min)
    return x if max is None else minimum(x, max)


def softplus(x: Operand) -> Operand:
    """log(1 + eˣ), without overflow, and to full precision where eˣ vanishes beside 1.

    With u = 1 + t rounded, log(u) · t / (u − 1) is as close to log(1 + t) as the logarithm is to
    log(u). Source: W. Kahan, in D. Goldberg, What every computer scientist should know, theorem 4.
    """
    t = exp(-abs(x))
    u = 1.0 + t
    near = where(equal(u, 1.0), t, log(u) * (t / (u - 1.0)))
    return maximum(x, 0.0) + near


def isnan(x: Operand) -> Operand:
    """Whether it is NaN."""
    return not_equal(x, x)


def isinf(x: Operand) -> Operand:
    """Whether it is infinite, with either sign."""
    return equal(abs(x), math.inf)


def sign(x: Operand) -> Operand:
    """-1, 0 or 1; NaN for NaN."""
    if isinstance(x, Scalar):
        negative = loops.select(x < 0, -1, x) if x.dtype.is_signed else x
        return loops.select(x > 0, 1, negative)
    return _each(_sign_dims, x) if _are_dims((x,)) else np.asarray(np.sign(x), x.dtype)
