"""Routines to LLVM text: Python functions of memory, for what loops over elements do not say.

A routine (`ir.loops.routines`) keeps to statements that have one meaning in both languages:
assignments, ``x[i] = y``, if, while, for over a range, break, return. Expressions are names,
literals, integers of the routine's module, arithmetic, comparisons, and, or, not, conditions, x[i],
min, max, words of the `vocabulary`, and calls of other routines, which are written out where they
stand. Whole numbers have 64 bits; elements are widened as they are read and narrowed as they are
written, but those that lie side by side.

A block of code is opened with what the jumps to it agree on; where they do not, a phi decides.
"""

from __future__ import annotations

import ast
import inspect
import struct
import textwrap
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from fornix.compile.emit.types import memory_type
from fornix.compile.emit.vocabulary import (
    LITERAL,
    LONG,
    MEMORY,
    NEEDED,
    TRUTH,
    WORDS,
    Operand,
    element_of,
    in_lanes,
)
from fornix.dtype import BOOL, DType
from fornix.errors import NotSupported

if TYPE_CHECKING:
    from fornix.compile.emit.emitter import Emitter
    from fornix.compile.nest import Call

Names: TypeAlias = dict[str, Operand]
RESULT = "result"
"""The name under which a routine's value waits for its caller."""


class _Phi:
    """What a value is by where one comes from."""

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind = name, kind
        self.sources: list[tuple[str, str]] = []

    @property
    def line(self) -> str:
        sources = ", ".join(f"[ {value}, %{label} ]" for value, label in self.sources)
        return f"{self.name} = phi {self.kind} {sources}"


@cache
def _definition(function: Callable[..., Any]) -> ast.FunctionDef:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    definition = tree.body[0]
    if not isinstance(definition, ast.FunctionDef):
        raise NotSupported(f"a routine is a function, found {function!r}")
    return definition


def call(em: Emitter, statement: Call) -> None:
    """Write a call of a routine, and the routine."""
    source = statement.routine
    memory = (*source.inputs, *source.outputs, *source.scratch)
    given = [("ptr", em.pointers[buffer].text) for buffer in memory]
    given += [("i64", em.dim(number).text) for number in source.numbers]
    name, dtypes = f"routine.{em.number()}", [buffer.dtype for buffer in memory]
    texts = routine_texts(name, source.function, [*dtypes, *[None] * len(source.numbers)])
    em.functions.update(dict.fromkeys(texts))
    em.declarations.update(NEEDED)
    em.do(f"call void @{name}({', '.join(f'{kind} {text}' for kind, text in given)})")


def routine_texts(
    name: str, function: Callable[..., Any], given: Sequence[DType | None]
) -> list[str]:
    """``function`` as an LLVM function of memory of these types, None for numbers; and others."""
    writer = _Writer()
    parameters = [
        Operand(LONG, f"%p{k}") if dtype is None else Operand(MEMORY, f"%p{k}", dtype)
        for k, dtype in enumerate(given)
    ]
    writer.written_out(function, parameters)
    head = ", ".join(f"{operand.kind} {operand.text}" for operand in parameters)
    lines = [line.line if isinstance(line, _Phi) else line for line in writer.lines]
    body = "\n".join(line if line.endswith(":") else f"  {line}" for line in lines)
    text = f"define internal void @{name}({head}) #0 {{\nentry:\n{body}\n  ret void\n}}"
    return [*writer.others.values(), text]


class _Writer:
    """The text of a routine as far as it is written."""

    def __init__(self) -> None:
        self.lines: list[str | _Phi] = []
        self.label: str | None = "entry"
        """The block that is being written; None behind a jump."""
        self.names: Names = {}
        self.others: dict[str, str] = {}
        """Functions that are called, by name."""
        self._arrivals: dict[str, list[tuple[str, Names]]] = {}
        self._loops: list[tuple[str, str]] = []
        """Where ``break`` and ``continue`` lead, of open loops."""
        self._functions: list[tuple[str, Callable[..., Any], str]] = []
        """Of routines that are being written out: the prefix of their names, and where they end."""
        self._count = 0

    # ── text, blocks

    def put(self, kind: str, text: str, dtype: DType | None = None) -> Operand:
        """Write an instruction; its result."""
        self._count += 1
        self.lines.append(f"%v{self._count} = {text}")
        return Operand(kind, f"%v{self._count}", dtype)

    def do(self, text: str) -> None:
        """Write an instruction without a result."""
        self.lines.append(text)

    def _new(self) -> str:
        self._count += 1
        return f"b{self._count}"

    def _arrive(self, label: str) -> None:
        self._arrivals.setdefault(label, []).append((self.label or "", dict(self.names)))

    def _jump(self, label: str) -> None:
        if self.label is not None:
            self._arrive(label)
            self.lines.append(f"br label %{label}")
            self.label = None

    def _phi(self, kind: str, sources: Sequence[tuple[str, str]], dtype: DType | None) -> Operand:
        self._count += 1
        phi = _Phi(f"%v{self._count}", kind)
        phi.sources += sources
        self.lines.append(phi)
        return Operand(kind, phi.name, dtype)

    def _open(self, label: str) -> None:
        """Write ``label`` from here on, if anything leads there."""
        arrivals = self._arrivals.pop(label, [])
        if not arrivals:
            self.label = None
            return
        self.lines.append(f"{label}:")
        self.label = label
        common = [name for name in arrivals[0][1] if all(name in names for _, names in arrivals)]
        merged: Names = {}
        for name in common:
            found = [names[name] for _, names in arrivals]
            first = found[0]
            if any(x[::2] != first[::2] for x in found):
                raise NotSupported(f"'{name}' is of several types")
            if any(x.text != first.text for x in found):
                sources = [(x.text, here) for x, (here, _) in zip(found, arrivals, strict=True)]
                first = self._phi(first.kind, sources, first.dtype)
            merged[name] = first
        self.names = merged

    # ── functions

    def written_out(
        self, function: Callable[..., Any], arguments: Sequence[Operand]
    ) -> Operand | None:
        """``function`` of ``arguments`` at this place; its value, if it has one."""
        definition, end, prefix = _definition(function), self._new(), f"{len(self._functions)}."
        parameters = [parameter.arg for parameter in definition.args.args]
        loops, self._loops = self._loops, []
        self._functions.append((prefix, function, end))
        for name, operand in zip(parameters, arguments, strict=True):
            self.names[prefix + name] = operand
        self._block(definition.body)
        self._jump(end)
        self._functions.pop()
        self._loops = loops
        self._open(end)
        result = self.names.get(prefix + RESULT)
        self.names = {n: x for n, x in self.names.items() if not n.startswith(prefix)}
        return result

    def _named(self, name: str) -> str:
        return self._functions[-1][0] + name

    # ── statements

    def _block(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            if self.label is not None:
                self._statement(statement)

    def _statement(self, statement: ast.stmt) -> None:
        write = _STATEMENTS.get(type(statement))
        if write is None:
            raise NotSupported(f"a routine has no {ast.unparse(statement)!r}")
        write(self, statement)

    def write_expression(self, statement: ast.Expr) -> None:
        if isinstance(statement.value, ast.Call):  # else it is what a docstring says
            self.write_call(statement.value)

    def write_changed(self, statement: ast.AugAssign) -> None:
        old: ast.expr = statement.target
        if isinstance(old, ast.Name):
            old = ast.Name(old.id, ast.Load())
        self._let(statement.target, self._binary(statement.op, old, statement.value))

    def write_break(self, _: ast.Break) -> None:
        self._jump(self._loops[-1][0])

    def write_continue(self, _: ast.Continue) -> None:
        self._jump(self._loops[-1][1])

    def write_return(self, statement: ast.Return) -> None:
        if statement.value is not None:
            self.names[self._named(RESULT)] = self.value(statement.value)
        self._jump(self._functions[-1][2])

    def write_assign(self, statement: ast.Assign) -> None:
        (target,), value = statement.targets, statement.value
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            found = [self.value(part) for part in value.elts]
            for part, operand in zip(target.elts, found, strict=True):
                self._let(part, operand)
        else:
            self._let(target, self.value(value))

    def _let(self, target: ast.expr, operand: Operand) -> None:
        match target:
            case ast.Name(id=name):
                self.names[self._named(name)] = operand
            case ast.Subscript():
                self._store(target, operand)
            case _:
                raise NotSupported(f"a routine assigns to names and elements, not {target!r}")

    def write_if(self, statement: ast.If) -> None:
        yes, no, end = self._new(), self._new(), self._new()
        self._branch(statement.test, yes, no)
        for label, part in ((yes, statement.body), (no, statement.orelse)):
            self._open(label)
            self._block(part)
            self._jump(end)
        self._open(end)

    def write_for(self, statement: ast.For) -> None:
        """A loop over a range."""
        target, turns = statement.target, statement.iter
        if not (isinstance(target, ast.Name) and isinstance(turns, ast.Call)):
            raise NotSupported(f"a routine has no {ast.unparse(statement)!r}")
        name, bounds = target.id, turns.args
        low, high = (ast.Constant(0), bounds[0]) if len(bounds) == 1 else bounds[:2]
        step = self._step(bounds[2]) if bounds[2:] else 1
        end = f"{name} ends"
        self.names[self._named(end)] = self.value(high)
        self.names[self._named(name)] = self.value(low)
        here = ast.Name(name, ast.Load())
        is_inside = ast.Lt() if step > 0 else ast.Gt()
        test = ast.Compare(here, [is_inside], [ast.Name(end, ast.Load())])
        advance = ast.Assign([ast.Name(name, ast.Store())], _sum(here, step))
        self._repeat(test, statement.body, [advance])

    def _step(self, e: ast.expr) -> int:
        known = self._functions[-1][1].__globals__
        return int(known[e.id] if isinstance(e, ast.Name) else ast.literal_eval(e))

    def write_while(self, statement: ast.While) -> None:
        self._repeat(statement.test, statement.body, [])

    def _repeat(
        self, test: ast.expr, body: Sequence[ast.stmt], advance: Sequence[ast.stmt]
    ) -> None:
        """A loop; ``advance`` comes behind ``body``, ``continue`` or not."""
        top, inner, latch, end = (self._new() for _ in range(4))
        changed = {self._named(name) for name in _assigned([*body, *advance])}
        before = self.label or ""
        self.lines += [f"br label %{top}", f"{top}:"]
        self.label = top
        phis: dict[str, _Phi] = {}
        for name in sorted(changed & self.names.keys()):
            operand = self.names[name]
            self.names[name] = self._phi(operand.kind, [(operand.text, before)], operand.dtype)
            last = self.lines[-1]
            if isinstance(last, _Phi):
                phis[name] = last
        self._branch(test, inner, end)
        self._open(inner)
        self._loops.append((end, latch))
        self._block(body)
        self._loops.pop()
        self._jump(latch)
        self._open(latch)
        if self.label is not None:
            self._block(advance)
            for name, phi in phis.items():
                phi.sources.append((self.names[name].text, self.label))
            self.lines.append(f"br label %{top}")
        self._open(end)

    def _branch(self, test: ast.expr, yes: str, no: str) -> None:
        """Go on at ``yes`` if ``test`` holds, else at ``no``."""
        match test:
            case ast.BoolOp(op=op, values=values):
                is_all = isinstance(op, ast.And)
                for part in values[:-1]:
                    following = self._new()
                    self._branch(part, *((following, no) if is_all else (yes, following)))
                    self._open(following)
                self._branch(values[-1], yes, no)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                self._branch(operand, no, yes)
            case _:
                truth = self._truth(self.value(test))
                self._arrive(yes)
                self._arrive(no)
                self.lines.append(f"br i1 {truth}, label %{yes}, label %{no}")
                self.label = None

    # ── expressions

    def value(self, e: ast.expr) -> Operand:
        """The value of ``e``."""
        write = _EXPRESSIONS.get(type(e))
        found: Operand | None = None if write is None else write(self, e)
        if found is None:
            raise NotSupported(f"a routine has no {ast.unparse(e)!r}")
        return found

    def write_constant(self, e: ast.Constant) -> Operand | None:
        if isinstance(e.value, bool):
            return Operand(TRUTH, str(e.value).lower())
        if isinstance(e.value, int | float):
            return Operand(LONG if isinstance(e.value, int) else LITERAL, repr(e.value))
        return None

    def write_one_operand(self, e: ast.UnaryOp) -> Operand:
        if isinstance(e.op, ast.Not):
            return self.put(TRUTH, f"xor i1 {self._truth(self.value(e.operand))}, true")
        if isinstance(e.op, ast.Invert):
            return self._binary(ast.BitXor(), e.operand, ast.Constant(-1))
        return self._binary(ast.Sub(), ast.Constant(0), e.operand)

    def write_two_operands(self, e: ast.BinOp) -> Operand:
        return self._binary(e.op, e.left, e.right)

    def write_comparison(self, e: ast.Compare) -> Operand:
        (op,), (right,) = e.ops, e.comparators
        return self._compare(op, self.value(e.left), self.value(right))

    def write_logic(self, e: ast.expr) -> Operand:
        return self.write_choice(ast.IfExp(e, ast.Constant(True), ast.Constant(False)))

    def write_name(self, e: ast.Name) -> Operand:
        found = self.names.get(self._named(e.id))
        if found is not None:
            return found
        known = self._functions[-1][1].__globals__.get(e.id)
        if not isinstance(known, int):
            raise NotSupported(f"a routine knows no '{e.id}'")
        return Operand(LONG, str(known))

    def write_choice(self, e: ast.IfExp) -> Operand:
        yes, no, end = self._new(), self._new(), self._new()
        name = self._named(f"choice {end}")
        self._branch(e.test, yes, no)
        for label, part in ((yes, e.body), (no, e.orelse)):
            self._open(label)
            self.names[name] = self.value(part)
            self._jump(end)
        self._open(end)
        return self.names.pop(name)

    def _truth(self, x: Operand) -> str:
        return x.text if x.kind == TRUTH else self.put(TRUTH, f"icmp ne i64 {x.text}, 0").text

    def _alike(self, x: Operand, y: Operand) -> tuple[Operand, Operand]:
        """Two operands as one type: truths are 0 and 1, literals are what they meet."""
        x, y = (
            self.put(LONG, f"zext i1 {z.text} to i64") if z.kind == TRUTH else z for z in (x, y)
        )
        x, y = _literal(x, y.kind), _literal(y, x.kind)
        x, y = in_lanes(self, x, y.kind), in_lanes(self, y, x.kind)
        if x.kind != y.kind:
            raise NotSupported(f"a routine does not mix {x.kind} with {y.kind}")
        return x, y

    def _binary(self, op: ast.operator, left: ast.expr, right: ast.expr) -> Operand:
        x, y = self._alike(self.value(left), self.value(right))
        word = (_WHOLE if element_of(x.kind)[0] == "i" else _BROKEN).get(type(op))
        if word is None:
            raise NotSupported(f"a routine has no {type(op).__name__} of {x.kind}")
        return self.put(x.kind, f"{word} {x.kind} {x.text}, {y.text}")

    def _compare(self, op: ast.cmpop, x: Operand, y: Operand) -> Operand:
        x, y = self._alike(x, y)
        signed, ordered = _COMPARED[type(op)]
        element = element_of(x.kind)
        word = f"icmp {signed}" if element[0] == "i" else f"fcmp {ordered}"
        return self.put(x.kind.replace(element, TRUTH), f"{word} {x.kind} {x.text}, {y.text}")

    def _address(self, e: ast.Subscript) -> tuple[str, DType]:
        memory, place = self.value(e.value), self.value(e.slice)
        if memory.dtype is None or place.kind != LONG:
            raise NotSupported(f"a routine has no {ast.unparse(e)!r}")
        kind = memory_type(memory.dtype)
        text = f"getelementptr {kind}, ptr {memory.text}, i64 {place.text}"
        return self.put(MEMORY, text).text, memory.dtype

    def write_load(self, e: ast.Subscript) -> Operand:
        address, dtype = self._address(e)
        kind = memory_type(dtype)
        found = self.put(kind, f"load {kind}, ptr {address}, align {dtype.numpy.itemsize}")
        if dtype is BOOL:
            return self.put(TRUTH, f"icmp ne {kind} {found.text}, 0")
        if dtype.is_float or kind == LONG:
            return found
        word = "sext" if dtype.is_signed else "zext"
        return self.put(LONG, f"{word} {kind} {found.text} to i64")

    def _store(self, e: ast.Subscript, value: Operand) -> None:
        address, dtype = self._address(e)
        kind = memory_type(dtype)
        value = _literal(value, kind)
        if value.kind == TRUTH:
            value = self.put(kind, f"zext i1 {value.text} to {kind}")
        elif value.kind == LONG and kind != LONG and not dtype.is_float:
            value = self.put(kind, f"trunc i64 {value.text} to {kind}")
        if value.kind != kind:
            raise NotSupported(f"a routine does not write {value.kind} to memory of {dtype}")
        self.lines.append(f"store {kind} {value.text}, ptr {address}, align {dtype.numpy.itemsize}")

    def write_call(self, e: ast.Call) -> Operand | None:
        arguments = [self.value(argument) for argument in e.args]
        name = e.func.id if isinstance(e.func, ast.Name) else ""
        if name in _EXTREMES:
            x, y = self._alike(*arguments)
            is_first = self._compare(_EXTREMES[name], x, y)
            kinds = f"{x.kind} {x.text}, {y.kind} {y.text}"
            return self.put(x.kind, f"select i1 {is_first.text}, {kinds}")
        function = self._functions[-1][1].__globals__.get(name)
        if function in WORDS:
            return WORDS[function](self, arguments)
        if not inspect.isfunction(function):
            raise NotSupported(f"a routine has no {ast.unparse(e)!r}")
        return self.written_out(function, arguments)


def _sum(x: ast.expr, number: int) -> ast.BinOp:
    return ast.BinOp(x, ast.Add(), ast.Constant(number))


def _assigned(body: Sequence[ast.stmt]) -> set[str]:
    """Names that get values somewhere in ``body``."""
    found = (node for part in body for node in ast.walk(part))
    return {node.id for node in found if isinstance(node, ast.Name) and _is_stored(node)}


def _is_stored(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def _literal(x: Operand, kind: str) -> Operand:
    """A literal as a number of the type that it meets."""
    if x.kind != LITERAL or kind not in {"float", "double"}:
        return x
    number = float(x.text)
    if kind == "float":
        (number,) = struct.unpack("f", struct.pack("f", number))
    (bits,) = struct.unpack("Q", struct.pack("d", number))
    return Operand(kind, f"0x{bits:016X}")


Write: TypeAlias = Callable[[_Writer, Any], Any]

_STATEMENTS: dict[type[ast.stmt], Write] = {
    ast.Expr: _Writer.write_expression,
    ast.Assign: _Writer.write_assign,
    ast.AugAssign: _Writer.write_changed,
    ast.If: _Writer.write_if,
    ast.While: _Writer.write_while,
    ast.For: _Writer.write_for,
    ast.Break: _Writer.write_break,
    ast.Continue: _Writer.write_continue,
    ast.Return: _Writer.write_return,
}
_EXPRESSIONS: dict[type[ast.expr], Write] = {
    ast.Constant: _Writer.write_constant,
    ast.Name: _Writer.write_name,
    ast.BinOp: _Writer.write_two_operands,
    ast.UnaryOp: _Writer.write_one_operand,
    ast.Compare: _Writer.write_comparison,
    ast.BoolOp: _Writer.write_logic,
    ast.IfExp: _Writer.write_choice,
    ast.Subscript: _Writer.write_load,
    ast.Call: _Writer.write_call,
}
"""How each kind of syntax is written."""

_WHOLE: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.FloorDiv: "sdiv",
    ast.Mod: "srem",
    ast.BitAnd: "and",
    ast.BitOr: "or",
    ast.BitXor: "xor",
    ast.LShift: "shl",
    ast.RShift: "ashr",
}
"""Of whole numbers; those that are divided are not negative."""
_BROKEN: dict[type[ast.operator], str] = {
    ast.Add: "fadd",
    ast.Sub: "fsub",
    ast.Mult: "fmul",
    ast.Div: "fdiv",
}
_COMPARED: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("slt", "olt"),
    ast.LtE: ("sle", "ole"),
    ast.Gt: ("sgt", "ogt"),
    ast.GtE: ("sge", "oge"),
    ast.Eq: ("eq", "oeq"),
    ast.NotEq: ("ne", "une"),
}
_EXTREMES: dict[str, ast.cmpop] = {"min": ast.Lt(), "max": ast.Gt()}
