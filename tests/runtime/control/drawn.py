"""Models of nested loops and branches, drawn at random, whose tensors are often empty."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeAlias

import numpy as np

Scope: TypeAlias = Mapping[str, list[str]]
"""The names of each kind that a node may read."""

TYPES = {"rows": "float[{}, 3]", "line": "float[{}]", "number": "float"}
"""What branches and loops carry; besides there are counts and truths."""
STATEMENTS = {
    "rows": (
        "@ = Concat <axis = 0> (rows, rows)",
        "@ = Mul (rows, number)",
        "@ = Sin (rows)",
        "@ = Softmax (rows)",
        "@x = Identity (rows) @m = ReduceMean (@x, first) @ = Sub (@x, @m)",
        "@x = Identity (rows) @b = Greater (@x, number) @n = Neg (@x) @ = Where (@b, @x, @n)",
        (
            "@x = Identity (rows) @t = ReduceSum <keepdims = 0> (@x, last)"
            " @b = Greater (@t, number) @ = Compress <axis = 0> (@x, @b)"
        ),
        (
            "@f = Unsqueeze (count, first) @t = Unsqueeze (count, first)"
            " @ = Slice (rows, @f, @t, first)"
        ),
        (
            "@u = Unsqueeze (line, last) @e = Concat <axis = 1> (@u, @u, @u)"
            " @ = Concat <axis = 0> (rows, @e)"
        ),
        (
            "@x = Identity (rows) @b = Greater (@x, number) @z = NonZero (@b) @t = Transpose (@z)"
            " @g = GatherND (@x, @t) @u = Unsqueeze (@g, last) @ = Expand (@u, one_row)"
        ),
    ),
    "line": (
        "@ = ReduceMax <keepdims = 0> (rows, last)",
        "@ = ReduceL2 <keepdims = 0> (rows, last)",
        "@ = ReduceMin <keepdims = 0> (rows, first)",
        "@ = ReduceProd <keepdims = 0> (rows, first)",
        "@ = Concat <axis = 0> (line, line)",
        "@x = Identity (line) @b = Less (@x, number) @ = Compress <axis = 0> (@x, @b)",
        "@ = Reshape (rows, flat)",
    ),
    "number": (
        "@t = ReduceSum <keepdims = 0> (line, first) @ = Tanh (@t)",
        "@t = ReduceMean <keepdims = 0> (rows) @ = Sin (@t)",
        "@t = Add (number, number) @ = Cos (@t)",
    ),
    "count": (
        "@t = Shape <start = 0, end = 1> (rows) @ = Squeeze (@t)",
        "@t = Shape <start = 0, end = 1> (line) @ = Squeeze (@t)",
        "@t = Add (count, count) @ = Mod (@t, five)",
    ),
    "truth": ("@ = Greater (number, number)", "@ = Equal (count, count)"),
}
"""What gives a value of each kind; ``@`` begins the names that it makes."""
CONSTANTS = """
    five = Constant <value_int = 5> ()
    nought = Constant <value_int = 0> ()
    half = Constant <value_float = 0.5> ()
    yes = Constant <value = bool {1}> ()
    first = Constant <value_ints = [0]> ()
    last = Constant <value_ints = [1]> ()
    flat = Constant <value_ints = [-1]> ()
    one_row = Constant <value_ints = [1, 3]> ()
"""
OUTER = {
    "rows": ["x", "no_rows"], "line": ["y", "no_line"], "number": ["s", "half"],
    "count": ["n", "nought"], "truth": ["b", "yes"],
}  # fmt: skip
"""What the main graph begins with."""


class Drawn:
    """The text of one model, by the number of its draw."""

    types: ClassVar[dict[str, str]] = TYPES
    statements: ClassVar[Mapping[str, Sequence[str]]] = STATEMENTS
    constants: ClassVar[str] = CONSTANTS
    outer: ClassVar[Scope] = OUTER
    carried: ClassVar[Sequence[str]] = ("rows", "line")
    """What loops carry; besides they give the numbers of all iterations."""
    of_numbers: ClassVar[str] = "line"
    """What these are, together."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.count = 0

    def text(self) -> str:
        """A graph of some rows, a line and a number, with a loop or a branch at least."""
        lines = self._graph(("rows", "line", "number"))
        return f"""f (float[N, 3] x, float[M] y, float s, int64 n, bool b)
            => (float[A, 3] rows_result, float[B] line_result, float number_result)
            <float[0, 3] no_rows = {{}}, float[0] no_line = {{}}> {{ {lines} }}"""

    def _graph(self, results: Sequence[str]) -> str:
        """The nodes of the main graph, which gives a result of each of these kinds."""
        scope = {kind: list(names) for kind, names in self.outer.items()}
        body = [self._flow(scope, 2) for _ in range(self._between(1, 3))]
        body += self._lines(scope, self._between(2, 6), 2)
        ends = [f"{kind}_result = Identity ({scope[kind][-1]})" for kind in results]
        return "\n".join([self.constants, *body, *ends])

    def feeds(self) -> list[dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]]:
        """Extents and numbers that come again, in another order."""
        rng = self.rng
        drawn = [
            {
                "x": rng.standard_normal((rng.choice([0, 1, 2, 5]), 3)).astype("f"),
                "y": rng.standard_normal(rng.choice([0, 1, 3])).astype("f"),
                "s": np.array(rng.choice([-0.5, 0.5, 0, 5]), "f"),
                "n": np.array(rng.integers(5)),
                "b": np.array(rng.random() < 0.5),
            }
            for _ in range(5)
        ]
        return [*drawn * 2, *drawn[::-1], *(drawn[self._between(0, 5)] for _ in range(4))]

    def _pick(self, values: Sequence[str]) -> str:
        return values[self._between(0, len(values))]

    def _between(self, least: int, end: int) -> int:
        return int(self.rng.integers(least, end))

    def _name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def _lines(self, scope: Scope, count: int, depth: int) -> list[str]:
        found = []
        for _ in range(count):
            has_flow = depth > 0 and self.rng.random() < 0.25
            found.append(self._flow(scope, depth) if has_flow else self._statement(scope))
        return found

    def _statement(self, scope: Scope) -> str:
        kind = self._pick([self.carried[0], self.carried[0], *self.statements])
        kinds = re.compile(rf"\b({'|'.join(self.statements)})\b")
        text = kinds.sub(lambda m: self._pick(scope[m[1]]), self._pick(self.statements[kind]))
        name = self._name()
        scope[kind].append(name)
        return text.replace("@", name)

    def _flow(self, scope: Scope, depth: int) -> str:
        return self._loop(scope, depth) if self.rng.random() < 0.5 else self._branch(scope, depth)

    def _branch(self, scope: Scope, depth: int) -> str:
        kind, truth = self._pick(list(self.types)), self._pick(scope["truth"])
        sides = [f"{side}_branch = {self._side(scope, kind, depth)}" for side in ("then", "else")]
        name = self._name()
        scope[kind].append(name)
        return f"{name} = If ({truth}) <{', '.join(sides)}>"

    def _side(self, scope: Scope, kind: str, depth: int) -> str:
        inner = {key: list(names) for key, names in scope.items()}
        lines = self._lines(inner, self._between(0, 4), depth - 1)
        name, end = self._name(), self._pick(inner[kind][-4:])
        return self._body("", f"{self._type(kind)} {name}", [*lines, f"{name} = Identity ({end})"])

    def _loop(self, scope: Scope, depth: int) -> str:
        inner = {key: list(names) for key, names in scope.items()}
        i, stays, *carried = (self._name() for _ in range(2 + len(self.carried)))
        inner["count"].append(i)
        for kind, name in zip(self.carried, carried, strict=True):
            inner[kind] += [name] * 2
        lines = self._lines(inner, self._between(1, 5), depth - 1)
        ends = [self._pick([stays, *inner["truth"][-1:]])]
        ends += [self._pick(inner[kind][-3:]) for kind in self.carried]
        ends.append(self._pick(inner["number"]))
        names = [self._name() for _ in ends]
        lines += [f"{name} = Identity ({end})" for name, end in zip(names, ends, strict=True)]
        types = ["bool", *map(self._type, self.carried), "float"]
        inputs = zip(map(self._type, self.carried), carried, strict=True)
        given = ", ".join([f"int64 {i}, bool {stays}", *map(" ".join, inputs)])
        body = self._body(given, ", ".join(map(" ".join, zip(types, names, strict=True))), lines)
        kinds = [*self.carried, self.of_numbers]
        turns, results = self._name(), [self._name() for _ in kinds]
        operands = [self._pick(scope[kind][-4:]) for kind in ("count", "truth", *self.carried)]
        for kind, name in zip(kinds, results, strict=True):
            scope[kind].append(name)
        return (
            f"{turns} = Mod ({operands[0]}, five) {', '.join(results)} = Loop"
            f" ({turns}, {', '.join(operands[1:])}) <body = {body}>"
        )

    def _body(self, given: str, results: str, lines: Sequence[str]) -> str:
        return f"{self._name()} ({given}) => ({results}) {{ {' '.join(lines)} }}"

    def _type(self, kind: str) -> str:
        return self.types[kind].format(self._name().upper())
