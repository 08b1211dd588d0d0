"""Scalars that stand for one instruction, without the care that the loop form promises.

Only expansions make them, at emission, where what could go wrong has been excluded.
"""

from __future__ import annotations

from fornix.dtype import DType
from fornix.ir.dim import DimLike
from fornix.ir.loops import Scalar


class Raw(Scalar):
    """A conversion, by the name that LLVM has for it, or one of these.

    "same" changes the dtype and no bit; "half_to_float" and "float_to_half" convert float16;
    "float_to_bfloat" rounds, and makes numbers less than all normal ones 0;
    "scale" is its first operand times 2 to the power of the second, an integral float;
    "choose" is that of the constants behind its first operand which the last bits of that say.
    """

    __slots__ = ("instruction",)
    instruction: str

    def __init__(self, instruction: str, x: Scalar, dtype: DType, *more: Scalar) -> None:
        super().__init__(dtype, (x, *more))
        self.instruction = instruction

    def rebuild(self, args: tuple[Scalar, ...], _dims: tuple[DimLike, ...], /) -> Scalar:
        return Raw(self.instruction, args[0], self.dtype, *args[1:])

    def text(self, depth: int, /) -> str:
        return f"{self.instruction}<{self.dtype}>({self.texts(depth)})"
