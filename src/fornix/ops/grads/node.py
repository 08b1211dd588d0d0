"""What a rule of the kind ``grad`` sees of its node, and how it is called.

    @Mul.grad
    def grad_mul(a: Term, b: Term, *, node: GradNode) -> Gradients:
        return node.g * b, node.g * a

Inputs come in schema order, attributes by keyword, as in all rules; the result has a term or None
(no gradient) per input, and may end early. ``node.g`` is the gradient of the first output,
``node.y`` that output. Rules make nodes of ai.onnx only, so that gradients have gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fornix.errors import NotSupported
from fornix.ir.graph import Node, Value
from fornix.ops.call import NodeView
from fornix.ops.grads.term import Make, Term

Gradients = Term | None | tuple[Term | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GradNode(NodeView):
    """The node as differentiation shows it."""

    make: Make
    forward: Node
    gradients: tuple[Term | None, ...]
    """Gradients of the outputs, None where nothing depends on one."""
    needed: tuple[bool, ...]
    """Which inputs a gradient is asked for, in order."""
    captured: tuple[Value, ...] = ()
    """Values that subgraphs read and whose gradients are asked for."""
    of_captured: dict[Value, Term] = field(default_factory=dict)
    """What the rule says of them."""

    @property
    def g(self) -> Term:
        """The gradient of the first output."""
        found = self.gradients[0]
        return self.make.zeros(self.y) if found is None else found

    @property
    def y(self) -> Term:
        """The first output."""
        return self.output(0)

    def needs(self, index: int) -> bool:
        """Whether the gradient of the input at ``index`` is asked for."""
        return index < len(self.needed) and self.needed[index]

    def output(self, index: int) -> Term:
        """An output, which the node computes from now on if it was omitted."""
        outputs = list(self.forward.outputs)
        if index >= len(outputs) or outputs[index].is_omitted:
            outputs += [Value("") for _ in range(index + 1 - len(outputs))]
            outputs[index] = Value()
            self.forward.set_outputs(outputs)
            self.make.knowledge.update([self.forward])
        return self.make.term(outputs[index])

    def only_first(self) -> None:
        """Raise NotSupported if a gradient of another output than the first is there."""
        for index, gradient in enumerate(self.gradients[1:], 1):
            if gradient is not None:
                name = self.schema.formal_output(index).name
                raise NotSupported(f"the gradient of its output {name} is not supported")

    def constant(self, term: Term | None, name: str) -> Sequence[int]:
        """The elements of an integer input; raises NotSupported if they are not known."""
        found = None if term is None else term.ints
        if found is None:
            raise NotSupported(f"its input {name} has to be known before a run")
        return found
