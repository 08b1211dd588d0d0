"""Canonicalize: nodes that do nothing disappear, and pairs that one node can say become one.

One short rule each; what remains is the form that later passes look for.
"""

from __future__ import annotations

from fornix.passes.canonicalize import algebra, nothing, reshapes, transposes
from fornix.passes.pattern import Rule

RULES: tuple[Rule, ...] = (
    *nothing.RULES,
    *reshapes.RULES,
    *transposes.RULES,
    *algebra.RULES,
)
"""In the order in which they are tried."""

__all__ = ["RULES"]
