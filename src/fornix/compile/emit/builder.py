"""Text of one LLVM function, written level by level.

A *level* is the body of a loop; level 0 is the function's entry. Code is written at any level that
is open: at the innermost it lands where writing has got to, at an outer one in front of the loop
that is open there. Whoever asks for a value at the outermost level where its operands exist
thereby hoists it, and each level remembers its values (`Level.memo`), so that nothing is computed
twice: neither needs a pass of LLVM. The builder knows text, blocks and loops; not what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias, TypeVar

Given = TypeVar("Given")
Lines: TypeAlias = "list[str | Lines]"
Carried: TypeAlias = "Sequence[tuple[str, str]]"
"""What a loop hands on from turn to turn: type and first value of each."""
Body: TypeAlias = "Callable[[str, list[str]], Sequence[str]]"
REPEATABLE = (
    *("add", "sub", "mul", "udiv", "and", "or", "lshr", "icmp", "select", "trunc"),
    *("getelementptr", "insertelement", "shufflevector", "call i64 @llvm.s"),
)
"""How instructions begin that give the same whenever they are run: of addresses and masks."""


class Value(NamedTuple):
    """A value in the text: its name or literal, whether it is a vector, the level it lives at."""

    text: str
    is_vector: bool
    depth: int


class Level:
    """An open loop: where its code goes, in which block that is, and what is known there."""

    __slots__ = ("label", "lines", "made", "memo")

    def __init__(self, label: str) -> None:
        self.lines: Lines = []
        self.label = label
        self.memo: dict[Hashable, Value] = {}
        self.made: dict[str, str] = {}
        """The names of results, by instructions that are `REPEATABLE`."""


class Builder:
    """The function that is being written."""

    def __init__(self) -> None:
        self.levels = [Level("entry")]
        self.root = self.levels[0].lines
        self.declarations: set[str] = set()
        self.barrier = 0
        """The outermost level at which memory may be read: loops within may run no turn."""
        self._serial = 0

    # ── text

    @property
    def top(self) -> int:
        """The innermost open level."""
        return len(self.levels) - 1

    def number(self) -> int:
        """A number that no name has yet."""
        self._serial += 1
        return self._serial

    def do(self, text: str, depth: int | None = None) -> None:
        """Write an instruction that has no result."""
        self.levels[self.top if depth is None else depth].lines.append("  " + text)

    def write(self, depth: int, text: str) -> str:
        """Write an instruction; the name of its result."""
        name = f"%t{self.number()}"
        self.do(f"{name} = {text}", depth)
        return name

    def put(self, depth: int, text: str) -> str:
        """Write an instruction, unless the level has the same already; the name of its result."""
        made = self.levels[depth].made
        name = made.get(text)
        if name is None:
            name = self.write(depth, text)
            if text.startswith(REPEATABLE):
                made[text] = name
        return name

    def call(self, depth: int, result: str, function: str, *arguments: tuple[str, str]) -> str:
        """Call a function of LLVM's; the name of its result, "" if it has none."""
        types = ", ".join(t for t, _ in arguments)
        self.declarations.add(f"declare {result} @{function}({types})")
        text = f"call {result} @{function}({', '.join(f'{t} {v}' for t, v in arguments)})"
        if result == "void":
            self.do(text, depth)
            return ""
        return self.put(depth, text)

    def find(self, key: Hashable) -> Value | None:
        """The value that an open level remembers for ``key``."""
        for level in reversed(self.levels):
            found = level.memo.get(key)
            if found is not None:
                return found
        return None

    def remember(self, key: Hashable, value: Value) -> Value:
        """Keep ``value`` for ``key`` as long as its level is open."""
        self.levels[value.depth].memo[key] = value
        return value

    @contextmanager
    def at(self, depth: int) -> Iterator[None]:
        """Write at an outer level, loops included, as if it were the innermost."""
        inner = self.levels[depth + 1 :]
        del self.levels[depth + 1 :]
        barrier, self.barrier = self.barrier, min(self.barrier, depth)
        try:
            yield
        finally:
            self.levels += inner
            self.barrier = barrier

    # ── loops

    def loop(
        self, low: str, high: str, step: int, carried: Carried, body: Body, *, is_sure: bool
    ) -> list[str]:
        """``for i in range(low, high, step)``: ``body(i, carried)`` gives what is handed on.

        Returns what the last turn hands on. ``is_sure`` says that there is a first turn; else what
        reads memory is not hoisted out of the loop.
        """
        bounds = low, high, step
        if is_sure:
            return self._turns(bounds, carried, body)[0]
        test = self.put(self.top, f"icmp slt i64 {low}, {high}")
        (results, end), source = self._branch(test, lambda: self._turns(bounds, carried, body))
        return [
            self.put(self.top, f"phi {kind} [{first}, %{source}], [{last}, %{end}]")
            for (kind, first), last in zip(carried, results, strict=True)
        ]

    def once(self, condition: str, body: Callable[[], None]) -> None:
        """``body`` if ``condition`` is true; what reads memory is not hoisted out of it."""
        self._branch(condition, body)

    def _branch(self, condition: str, body: Callable[[], Given]) -> tuple[Given, str]:
        """What ``body`` gives, which runs if ``condition`` is true; and the block before it."""
        serial = self.number()
        outer = self.levels[-1]
        entered, after, main = f"P{serial}", f"Y{serial}", outer.lines
        inner = Level(entered)
        before: Lines = []
        branch = f"  br i1 {condition}, label %{entered}, label %{after}"
        main += [before, branch, f"{entered}:", inner.lines]
        outer.lines = before
        self.levels.append(inner)
        barrier, self.barrier = self.barrier, self.top
        given = body()
        self.do(f"br label %{after}")
        self.barrier = barrier
        self.levels.pop()
        outer.lines = main
        main.append(f"{after}:")
        source, outer.label = outer.label, after
        return given, source

    def _turns(
        self, bounds: tuple[str, str, int], carried: Carried, body: Body
    ) -> tuple[list[str], str]:
        """The loop itself, tested at the bottom; its results, and the block behind it."""
        low, high, step = bounds
        serial = self.number()
        outer, main = self.levels[-1], self.levels[-1].lines
        header, after = f"L{serial}", f"X{serial}"
        before: Lines = []
        phis: Lines = []
        inner = Level(header)
        main += [before, f"  br label %{header}", f"{header}:", phis, inner.lines]
        outer.lines = before
        self.levels.append(inner)
        names = [f"%c{serial}_{k}" for k in range(len(carried))]
        results = list(body(f"%i{serial}", names))
        self.do(f"%n{serial} = add nsw i64 %i{serial}, {step}")
        self.do(f"%q{serial} = icmp slt i64 %n{serial}, {high}")
        self.do(f"br i1 %q{serial}, label %{header}, label %{after}")
        end = inner.label
        self.levels.pop()
        outer.lines = main
        phis.append(f"  %i{serial} = phi i64 [{low}, %{outer.label}], [%n{serial}, %{end}]")
        for name, (kind, first), last in zip(names, carried, results, strict=True):
            phis.append(f"  {name} = phi {kind} [{first}, %{outer.label}], [{last}, %{end}]")
        main.append(f"{after}:")
        outer.label = after
        return results, after


def flatten(lines: Lines) -> Iterator[str]:
    """The lines in their order."""
    for line in lines:
        if isinstance(line, str):
            yield line
        else:
            yield from flatten(line)
