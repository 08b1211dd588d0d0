"""Steps one behind the other as one function of Python, whose variables are the values.

Decides how a step is called that is no machine code for loops. What is known ahead, such as where
values come from and which are stored, is no matter of a run: Python itself compiles the lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from types import CodeType
from typing import TYPE_CHECKING, Any, TypeAlias

from fornix.ir.graph import Value
from fornix.runtime.native import NativeStep
from fornix.runtime.providers import Kernel, Run, Step

if TYPE_CHECKING:
    from fornix.compile.entry import Entry
    from fornix.runtime.native import Frame

Move: TypeAlias = "Callable[[list[Any], Run], Sequence[Any] | None]"
"""From what a step reads to what it writes; None if it is not made for that."""
StraightWay: TypeAlias = "Callable[[Sequence[Any], Run], list[Any] | None]"
"""From values to values; None if a step is not made for them. Raises anything."""


class Straight:
    """A function on its way: what it is given, and a few lines for each step."""

    def __init__(self, given: Sequence[Value], stored: Mapping[Value, Any]) -> None:
        """``stored`` values are bound, unless they are given."""
        self._bound: dict[str, Any] = {}
        self._names = {value: self.bind(data) for value, data in stored.items()}
        self._given = self._variables(given)
        self.lines: list[str] = []
        self.once: list[str] = []
        """What reads nothing, and need not be done again where steps are."""

    def move(self, call: Move, reads: Sequence[Value], writes: Sequence[Value]) -> None:
        """Add what may give up."""
        lines = self.lines if reads else self.once
        self._add([f"{self.bind(call)}([{self.read(reads)}], run)"], writes, lines)

    def entry(self, call: Entry, frame: Frame, step: NativeStep) -> None:
        """Add a native step, which has a ``frame`` as long as there is the function."""
        self.bind(frame)
        named = ", ".join(f"{value.name!r}: {self._names[value]}" for value in step.inputs)
        self._add([f"{self.bind(call)}({{{named}}})"], step.writes)

    def step(self, step: Step, constants: Mapping[Value, Any], *, is_known: bool) -> None:
        """Add a step that is no machine code for loops.

        Where values are known to be of the right types, texts too, its kernel does what is left.
        """
        way, kernel, calls = step.way, step.kernel, []
        if way is None and kernel is not None and len(step.writes) == 1:
            self._add_rule(kernel, step.writes[0])
            return
        if way is not None:
            calls.append(f"{self.bind(way)}([{self.read(step.reads)}], run)")
        if way is None or step.code is None or is_known:
            calls.append(self._rest(step, constants))
        self._add(calls, step.writes)

    def made(self, outputs: Sequence[Value]) -> StraightWay:
        """The function that gives ``outputs``."""
        lines = [
            f"[{self._given}] = given",
            *self.once,
            *self.lines,
            f"return [{self.read(outputs)}]",
        ]
        return self.made_of(lines)

    def made_of(self, lines: Sequence[str]) -> StraightWay:
        """The function of ``lines``, in which `lines` are."""
        source = "\n    ".join(["def straight(given, run):", *lines])
        exec(compiled_lines(source), self._bound)  # noqa: S102 - nobody's text but ours
        way: StraightWay = self._bound.pop("straight")
        return way

    def _rest(self, step: Step, constants: Mapping[Value, Any]) -> str:
        """What does the step where it has no other way."""
        kernel = step.kernel
        if kernel is None:
            return f"{self.bind(_by_itself(step, constants))}([{self.read(step.reads)}], run)"
        return f"{self.bind(kernel.call)}([{self._read_by(kernel)}])"

    def _add_rule(self, kernel: Kernel, written: Value) -> None:
        """Add a kernel of which one result is wanted, the first."""
        rule = kernel.rule
        if isinstance(rule, partial) and not rule.args and not rule.keywords:
            rule = rule.func
        call = f"{self.bind(rule)}({self._read_by(kernel)})"
        name = self._variables([written])
        self.lines += [f"{name} = {call}", f"if type({name}) is tuple: {name} = {name}[0]"]

    def _add(
        self, calls: Sequence[str], writes: Sequence[Value], lines: list[str] | None = None
    ) -> None:
        """Add ``calls``, each of which is made if those before it gave up; more is left out."""
        lines, (first, *others) = self.lines if lines is None else lines, calls
        lines.append(f"found = {first}")
        lines += [f"if found is None: found = {call}" for call in others]
        written = f"[{self._variables(writes)}, *_]" if writes else "_"
        lines += ["if found is None: return None", f"{written} = found"]

    def _read_by(self, kernel: Kernel) -> str:
        """What a kernel is called with."""
        stored = kernel.constants
        return ", ".join(
            "None" if v is None else self.bind(stored[v]) if v in stored else self._names[v]
            for v in kernel.inputs
        )

    def read(self, values: Iterable[Value]) -> str:
        """The variables of ``values``."""
        return ", ".join(self._names[value] for value in values)

    def _variables(self, values: Sequence[Value]) -> str:
        """Variables for values that are there from now on."""
        for value in values:
            self._names[value] = f"v{len(self._names)}"
        return self.read(values)

    def bind(self, thing: object) -> str:
        """A name for what never changes."""
        name = f"c{len(self._bound)}"
        self._bound[name] = thing
        return name


@lru_cache(maxsize=16)
def compiled_lines(source: str) -> CodeType:
    """What Python makes of lines, which are the same for all extents of a program."""
    return compile(source, "<straight>", "exec")


def _by_itself(step: Step, constants: Mapping[Value, Any]) -> Move:
    """Control flow, or a node of somebody else's."""
    from fornix.runtime.control.driving import Driver, is_driven  # noqa: PLC0415 - of control flow

    control = step.control
    if control is not None and is_driven(control):
        drive = Driver(control, step.reads, constants)

        def driven(given: list[Any], run: Run) -> Sequence[Any] | None:
            if run.is_ended is None:
                return drive(given)
            run.check()
            results = drive(given)
            run.check()
            return results

        return driven

    def move(given: list[Any], run: Run) -> Sequence[Any]:
        run.check()
        found = dict(constants)
        found.update(zip(step.reads, given, strict=True))
        step.run(found, run)
        run.check()
        return [found[value] for value in step.writes]

    return move
