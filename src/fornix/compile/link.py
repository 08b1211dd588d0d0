"""Text to machine code, and machine code into this process.

Decides how LLVM is called: no optimisation passes, code generation at level 1, text parsed and
verified first, because an error inside LLVM would end the process. One lock guards all of it.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Mapping

from llvmlite import binding as llvm

from fornix.compile.target import Target
from fornix.errors import CompileError
from fornix.forks import awaited

OPTIMIZATION = 1
"""Level of code generation: the same code as at 3 in three quarters of the time."""

_LOCK = awaited(threading.Lock())
_LIBRARIES = itertools.count()


@functools.cache
def _machine(target: Target) -> llvm.TargetMachine:
    triple = target.triple or llvm.get_default_triple()
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=target.cpu,
        features=target.attributes,
        opt=OPTIMIZATION,
        reloc="default",
        codemodel="default" if target.triple else "jitdefault",
        jit=not target.triple,
    )


@functools.cache
def _jit() -> llvm.LLJIT:
    Target.host()
    return llvm.create_lljit_compiler(suppress_errors=True)


def compile_object(text: str, target: Target) -> bytes:
    """The object file of a module; raises CompileError if the text is no valid module."""
    with _LOCK:
        machine = _machine(target)
        try:
            module = llvm.parse_assembly(text)
            module.triple = machine.triple
            module.data_layout = str(machine.target_data)
            module.verify()
        except RuntimeError as error:
            raise CompileError(f"LLVM rejects a kernel: {error}") from error
        return bytes(machine.emit_object(module))


class Library:
    """Machine code in this process; it stays as long as somebody holds the library."""

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        """Load object files, each of which defines the function that it is named after.

        Raises CompileError for what is no object file, or calls what this process lacks.
        """
        builder = llvm.JITLibraryBuilder()
        with _LOCK:
            try:
                for name, content in objects.items():
                    builder.add_object_img(content).export_symbol(name)
                tracker = builder.link(_jit(), f"fornix{next(_LIBRARIES)}")
                self.addresses = {name: int(tracker[name]) for name in objects}
            except RuntimeError as error:
                raise CompileError(f"a kernel cannot be loaded: {error}") from error
            self._tracker = tracker


__all__ = ["Library", "compile_object"]
