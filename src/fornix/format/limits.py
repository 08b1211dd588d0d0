"""How much a model may ask for before fornix stops and says so.

A model file can be small and still ask for unbounded work: nested, expanded, folded. Each bound of
`Limits` has a generous default, and the error that enforces it names the bound and how to raise it.
Where a bound applies is decided by the room that enforces it.
"""

from __future__ import annotations

from dataclasses import dataclass

from fornix.errors import LimitError

# What protobuf itself can parse or write as one message; not a matter of choice.
MESSAGE_BYTES = 2**31 - 1
# How deep protobuf lets messages and groups nest below the outermost one; likewise.
MESSAGE_DEPTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what a model may ask for; pass an own instance to raise them.

    `text_bytes` bounds a model in text or JSON, which takes some fifty times its size in memory
    while it is read; `nesting` counts graphs within graphs and calls of model functions within
    functions; `nodes` and `initializers` those of a model (a node takes half a kilobyte and eight
    microseconds to load), `function_nodes` those behind its calls of functions, and the calls;
    `tensor_bytes` one stored tensor; `fold_bytes` and `fold_seconds` one folded constant.
    """

    text_bytes: int = 2**29
    nesting: int = 100
    nodes: int = 1_000_000
    initializers: int = 1_000_000
    function_nodes: int = 10_000_000
    tensor_bytes: int = 2**40
    fold_bytes: int = 2**29
    fold_seconds: float = 60.0

    def check(self, name: str, found: float, subject: str) -> None:
        """Raise LimitError if ``found`` is more than the bound called ``name``."""
        bound: float = getattr(self, name)
        if found > bound:
            raise LimitError(
                f"{subject}: {name} is limited to {bound}, found {found}; "
                f"pass limits=Limits({name}={found}) to allow it"
            )


DEFAULT = Limits()
