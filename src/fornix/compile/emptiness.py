"""What operators do where something has no elements: whose code reads none, and whose is not made.

Code of folds goes on from what is there to begin with. What else is asked of extents is said in
`agreement/rules.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from fornix.ir.dim import is_nonnegative
from fornix.ir.graph import Node
from fornix.ops import PART_DOMAIN
from fornix.ops.fact import Fact

UNREAD = frozenset({"Shape", "Size"})
"""Operators of which no code reads an element."""
FOLDS = frozenset({
    *(("", name) for name in (
        "Concat", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
        "ReduceSum", "ReduceSumSquare",
    )),
    (PART_DOMAIN, "Count"),
})  # fmt: skip
"""Sums, means, extremes and what is put together, by domain: what is made of nothing is known."""
FILLS = frozenset({"ConstantOfShape", "Expand"})
"""Operators of which code writes no elements, if there are none: where lists begin that grow."""
STRETCHED = PART_DOMAIN, "Stretched"
"""What reads of others how long they are."""
SCATTERS = frozenset({"Scatter", "ScatterElements", "ScatterND"})
"""Operators that change no element where there are no updates."""


def read_inputs(node: Node, *, may_be_empty: bool) -> int | None:
    """Of how many inputs some element is read, or has to be there; None if of all."""
    if may_be_empty and (node.domain, node.op_type) in FOLDS:
        return 0
    if (node.domain, node.op_type) == STRETCHED:
        return 1
    if node.domain:
        return None
    if node.op_type in UNREAD:
        return 0
    return 1 if may_be_empty and node.op_type in SCATTERS else None


def fills(node: Node) -> bool:
    """Whether code of ``node`` may write a result of which it is known that it has no elements."""
    return not node.domain and node.op_type in FILLS


def divides(node: Node, facts: Sequence[Fact | None]) -> bool:
    """Whether an extent of the result is what others leave, of which there may be none."""
    target = facts[1] if node.op_type == "Reshape" and len(facts) > 1 else None
    entries = [] if target is None or target.value is None else target.value.ravel().tolist()
    others = [d for d in entries if d != -1]
    return others != entries and any(d is None or not is_nonnegative(d - 1) for d in others)
