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
from fornix.ir.dim import Dim, DimLike, symbol
from fornix.ir.graph import Node, Value
from fornix.ir.types import TensorType
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
    names: dict[DimLike, Dim] = {}
    changed: set[Value | None] = set()
    for node in nodes:
        if any(value in changed for value in node.inputs):
            inference.update([node])
            changed.update(node.outputs)
        for value in node.outputs if node.op_type in TEACHERS and not node.domain else ():
            fact = inference.fact(value)
            if not isinstance(fact.type, TensorType) or fact.type.shape is None:
                continue
            shape: list[DimLike | None] = []
            for axis, extent in enumerate(fact.type.shape):
                if isinstance(extent, Dim) and has_unknown(extent):
                    name = f"{value.name}.shape[{axis}]"
                    extent = names.setdefault(extent, symbol(name, 1))
                shape.append(extent)
            if tuple(shape) != fact.type.shape:
                inference.facts[value] = Fact(TensorType(fact.type.dtype, tuple(shape)))
                changed.add(value)
    return frozenset(d.name or "" for d in names.values())
