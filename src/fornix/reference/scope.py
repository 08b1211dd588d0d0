"""What names mean where nodes run: imports, model functions and somebody else's code.

It is apart from plans as kept programs know it before they know any operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fornix.errors import ValidationError
from fornix.format.limits import DEFAULT, Limits
from fornix.ir.attribute import Attribute
from fornix.ir.graph import Function, Node, Value

if TYPE_CHECKING:
    from fornix.reference.plan import Plan, Watch

Environment = dict[Value, Any]
Call = Callable[[list[Any], Environment], Sequence[Any]]
FunctionKey = tuple[str, str, str]
OperatorKey = tuple[str, str]
Custom = Callable[[Node, Mapping[str, Attribute]], Call]
"""Gives what evaluates a node with these attributes, instead of a kernel."""


class Drawn:
    """Gives one generator, made once somebody draws: NumPy takes 5 ms to import it."""

    def __init__(self) -> None:
        self._made: np.random.Generator | None = None

    def __call__(self) -> np.random.Generator:
        if self._made is None:
            self._made = np.random.default_rng()
        return self._made


@dataclass
class Scope:
    """What names mean in a model or function: opset imports and model functions."""

    imports: Mapping[str, int]
    functions: Mapping[FunctionKey, Function]
    limits: Limits = DEFAULT
    random: Callable[[], np.random.Generator] = field(default_factory=Drawn)
    """What nodes draw from, which most never do."""
    callers: tuple[FunctionKey, ...] = ()
    custom: Mapping[OperatorKey, Custom] = field(default_factory=dict)
    """Operators that are evaluated by somebody else's code."""
    expanded: frozenset[OperatorKey] = frozenset()
    """Operators that are evaluated by their bodies, although they have kernels."""
    plans: dict[tuple[object, ...], Plan] = field(default_factory=dict)
    """Plans of functions, by function and the attributes of the call."""
    watch: Watch | None = None
    """Hears of all nodes that run, those in bodies and functions too."""

    def opset(self, domain: str) -> int:
        """The version of ``domain`` that is imported."""
        version = self.imports.get(domain, self.imports.get("ai.onnx") if domain == "" else None)
        if version is None:
            have = ", ".join(f"{name or 'ai.onnx'} {v}" for name, v in self.imports.items())
            raise ValidationError(
                f"an opset import for domain {domain or 'ai.onnx'!r} is required, "
                f"found {have or 'none'}"
            )
        return version

    def inside(self, function: Function) -> Scope:
        """The scope of a function's body; raises if it calls itself or nesting is too deep."""
        if function.key in self.callers:
            chain = " → ".join(name for _, name, _ in (*self.callers, function.key))
            raise ValidationError(f"model functions must not call themselves, found {chain}")
        self.limits.check("nesting", len(self.callers) + 1, f"call of {function.label}")
        return replace(
            self,
            imports=function.opset_imports or self.imports,
            callers=(*self.callers, function.key),
        )
