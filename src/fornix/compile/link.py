"""Text to machine code, and machine code into this process.

Decides how LLVM is called: no optimisation passes, code generation at level 1, text parsed and
verified first, because an error inside LLVM would end the process. Several threads may generate
code at once, each in a place of its own; one lock guards what is loaded.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from llvmlite import binding as llvm
from llvmlite.binding import ffi

from fornix.compile.target import Target
from fornix.errors import CompileError
from fornix.forks import awaited

OPTIMIZATION = 1
"""Level of code generation: the same code as at 3 in three quarters of the time."""
MOST_THREADS = 8
"""That generate code at once: the text for more is not written as fast."""
ARGUMENTS = 4
"""Of LLVM's function that generates code: machine, module, whether it is an object, the reason."""

_LOCK = awaited(threading.Lock())
_LIBRARIES = itertools.count()
_WAITING = itertools.count()
_PLACES = [awaited(threading.Lock()) for _ in range(MOST_THREADS)]
"""Where code is generated, each by one thread at a time."""


@contextmanager
def _place() -> Iterator[int]:
    """The number of a place that nobody else takes meanwhile.

    Where all are taken, those who wait share them out.
    """
    free = (number for number, lock in enumerate(_PLACES) if lock.acquire(blocking=False))
    chosen = next(free, None)
    if chosen is None:
        chosen = next(_WAITING) % len(_PLACES)
        _PLACES[chosen].acquire()
    try:
        yield chosen
    finally:
        _PLACES[chosen].release()


@functools.cache
def _machine(target: Target, _place: int) -> llvm.TargetMachine:
    """What generates code for ``target`` in one place; another for each of them."""
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
def _generate() -> Callable[..., Any] | None:
    """LLVM's function that generates code; None if llvmlite has another than is known here.

    llvmlite lets one thread at a time call anything; code of modules that share no context is
    generated side by side, so that this one is called past its lock, where it is seen behind it.
    """
    guarded = ffi.lib.LLVMPY_TargetMachineEmitToMemory
    is_known = len(guarded.argtypes or ()) == ARGUMENTS and guarded.restype is not None
    return getattr(guarded, "_cfn", None) if is_known else None


@functools.cache
def _jit() -> llvm.LLJIT:
    Target.host()
    return llvm.create_lljit_compiler(suppress_errors=True)


def compile_object(text: str, target: Target) -> bytes:
    """The object file of a module; raises CompileError if the text is no valid module."""
    with _place() as place:
        return _object(text, _machine(target, place))


def _object(text: str, machine: llvm.TargetMachine) -> bytes:
    """The object file that ``machine`` makes of a module.

    Module and context are closed in their order: where an error keeps both, the collector of
    garbage would choose one, and a context takes its modules with it.
    """
    try:
        with llvm.create_context() as context, llvm.parse_assembly(text, context) as module:
            module.triple = machine.triple
            module.data_layout = str(machine.target_data)
            module.verify()
            return _generated(machine, module)
    except RuntimeError as error:
        raise CompileError(f"LLVM rejects a kernel: {error}") from error


def _generated(machine: llvm.TargetMachine, module: llvm.ModuleRef) -> bytes:
    """The same of a module that is verified; raises RuntimeError with LLVM's reason."""
    generate = _generate()
    if generate is None:
        return bytes(machine.emit_object(module))
    with ffi.OutputString() as reason:
        made = generate(machine, module, True, reason)
        if not made:
            raise RuntimeError(str(reason) if reason else "no code is made of it")
    start, size = ffi.lib.LLVMPY_GetBufferStart(made), ffi.lib.LLVMPY_GetBufferSize(made)
    found = ctypes.string_at(start, size)
    ffi.lib.LLVMPY_DisposeMemoryBuffer(made)
    return found


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


__all__ = ["MOST_THREADS", "Library", "compile_object"]
