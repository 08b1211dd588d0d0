"""One version of an operator's interface, as the checker, inference and the façades read it.

Schemas are computed from the history that an operator declares; nothing here is written by hand.
"""

from __future__ import annotations

from dataclasses import dataclass

from fornix.ops.signature import Formal, FormalAttribute, Occurrence
from fornix.ops.types import TypeSet

UNBOUNDED = 2**31 - 1
"""Arity that the standard gives to variadic parameters: the largest 32-bit integer."""


@dataclass(frozen=True, slots=True)
class Schema:
    """One version of an operator's interface."""

    domain: str
    name: str
    since_version: int
    inputs: tuple[Formal, ...]
    outputs: tuple[Formal, ...]
    attributes: dict[str, FormalAttribute]
    constraints: dict[str, TypeSet]
    note: str = ""
    is_deprecated: bool = False
    is_undetermined: bool = False
    """Whether the standard leaves open if equal inputs give equal results."""

    @property
    def min_input(self) -> int:
        """Least number of inputs of a node."""
        return _min_arity(self.inputs)

    @property
    def max_input(self) -> int:
        """Greatest number of inputs of a node."""
        return _max_arity(self.inputs)

    @property
    def min_output(self) -> int:
        """Least number of outputs of a node."""
        return _min_arity(self.outputs)

    @property
    def max_output(self) -> int:
        """Greatest number of outputs of a node."""
        return _max_arity(self.outputs)

    def formal_input(self, index: int) -> Formal:
        """The formal that the input at ``index`` stands for; the last one may repeat."""
        return self.inputs[min(index, len(self.inputs) - 1)]

    def formal_output(self, index: int) -> Formal:
        """The formal that the output at ``index`` stands for; the last one may repeat."""
        return self.outputs[min(index, len(self.outputs) - 1)]

    def allowed(self, formal: Formal) -> frozenset[str]:
        """Constraint spellings that ``formal`` accepts."""
        constraint = self.constraints.get(formal.type_text)
        return constraint.members if constraint else frozenset((formal.type_text,))


def _min_arity(formals: tuple[Formal, ...]) -> int:
    least = 0
    for index, formal in enumerate(formals):
        if formal.occurrence is Occurrence.SINGLE:
            least = index + 1
        elif formal.occurrence is Occurrence.VARIADIC:
            least = index + formal.min_arity
    return least


def _max_arity(formals: tuple[Formal, ...]) -> int:
    if formals and formals[-1].occurrence is Occurrence.VARIADIC:
        return UNBOUNDED
    return len(formals)
