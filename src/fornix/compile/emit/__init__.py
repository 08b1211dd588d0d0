"""Nests to LLVM IR text in its final form: `emit` is all that the rest of the compiler calls.

`builder` knows text, levels and loops; `emitter` holds what is known while a kernel is written;
`statements`, `values`, `indices`, `memory` and `folds` write the parts, `tiles`, `patches`,
`windows`, `gates`, `halves`, `turned` and `picked` what computes or reads many elements at once,
`routines` functions in the words of a `vocabulary`; `convert`, `maths` and `tables` take apart what
no processor has, as expressions; `instructions`, `raw`, `bytes` and `types` know LLVM's spellings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fornix.compile.emit.emitter import Emitter
from fornix.compile.emit.statements import run
from fornix.compile.kernel import Check
from fornix.compile.nest import Nest
from fornix.compile.target import Target
from fornix.ir.loops import Buffer


@dataclass(frozen=True)
class Code:
    """The text of a kernel, with `NAME` for its name, and the checks that it makes."""

    text: str
    checks: tuple[Check, ...]


NAME = "kernel"


def emit(
    nest: Nest,
    buffers: Sequence[Buffer],
    symbols: Sequence[str],
    target: Target,
    outputs: Sequence[Buffer] = (),
) -> Code:
    """The code of ``nest`` for ``target``; arguments come in the order of buffers and symbols.

    Where all that it writes are ``outputs``, it has nothing to do if none of them has elements.
    """
    em = Emitter(target, nest.lanes, buffers, symbols)
    if outputs:
        em.leave_if_empty(outputs)
    if nest.drops_subnormal and target.is_x86 and not target.is_strict:
        em.drop_subnormal()
    em.scratch(nest.scratch)
    em.changing, em.padded = nest.changing, nest.padded
    run(em, nest.body)
    return Code(em.text(NAME), tuple(em.checks))


__all__ = ["NAME", "Code", "emit"]
