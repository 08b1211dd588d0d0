"""Extents that data decide in the middle of a run, as symbols: what reads them can be compiled.

A node whose results have such extents runs its NumPy kernel. Behind it they are as good as those of
inputs: they stand in the shapes of arrays. Decides which extents get a symbol; each step that needs
one takes it from what it reads, and leaves it to the caller what happens where that is not enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from fornix.compile.entry import is_available
from fornix.infer import Inference
from fornix.infer.model import has_unknown
from fornix.ir.dim import Dim, symbol
from fornix.ir.graph import Node, Value
from fornix.ir.types import TensorType, Type
from fornix.ops.fact import Fact
from fornix.runtime.native import NativeStep
from fornix.runtime.prepare import native_steps
from fornix.runtime.providers import CPUExecutionProvider, Part, Step, no_machine_code

TEACHERS = frozenset({
    "Compress", "ConcatFromSequence", "ConstantOfShape", "Expand", "If", "Loop",
    "NonMaxSuppression", "NonZero", "Range", "Reshape", "Resize", "Scan", "SequenceAt", "Slice",
    "Tile", "TopK", "Unique",
})  # fmt: skip
"""Operators of which data decide extents: no rule tells them from the extents of inputs."""


class LearningProvider(CPUExecutionProvider):
    """Machine code also for what comes behind such extents, where each step can tell them."""

    def compile(self, part: Part) -> Sequence[Step]:
        """The steps of ``part``; those that need learned extents have a short way, or none."""
        if not no_machine_code() and is_available():
            inference = replace(part.inference, facts=dict(part.inference.facts))
            learned = name_learned(part.nodes, inference)
            if learned:
                steps = native_steps(replace(part, inference=inference, learned=learned))
                if all(map(_is_sure, steps)):
                    return steps
        return super().compile(part)


def _is_sure(step: Step) -> bool:
    """Whether what ``step`` reads tells all learned extents, and no rule need be asked of them."""
    if not isinstance(step, NativeStep) or not step.learned:
        return True
    given = {d.name for v in step.reads for d in step.types[v][0] if isinstance(d, Dim)}
    return step.learned <= given and not step.conditions[-1]


def name_learned(nodes: Iterable[Node], inference: Inference) -> frozenset[str]:
    """Give extents that only data tell a symbol each, and infer anew what follows from them."""
    names: dict[Dim, Dim] = {}
    changed: set[Value | None] = set()
    for node in nodes:
        if any(value in changed for value in node.inputs):
            inference.update([node])
            changed.update(node.outputs)
        for value in node.outputs if node.op_type in TEACHERS and not node.domain else ():
            type_ = inference.fact(value).type
            named = _named(value, type_, names)
            if named != type_:
                inference.facts[value] = Fact(named)
                changed.add(value)
    return frozenset(d.name or "" for d in names.values())


def _named(value: Value, type_: Type | None, names: dict[Dim, Dim]) -> Type | None:
    """``type_`` of ``value`` with a symbol for each unknown extent, the same for the same one."""
    if not isinstance(type_, TensorType) or type_.shape is None:
        return type_
    shape = list(type_.shape)
    for axis, extent in enumerate(type_.shape):
        if isinstance(extent, Dim) and has_unknown(extent):
            found = symbol(f"{value.name}.shape[{axis}]", 1)
            shape[axis] = names.setdefault(extent, found)
    return TensorType(type_.dtype, tuple(shape))
