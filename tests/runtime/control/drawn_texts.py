"""The same of texts, sequences of texts and what may be missing, which NumPy kernels make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tests.runtime.control.drawn import CONSTANTS, Drawn, Scope


class DrawnTexts(Drawn):
    """The text of one model, by the number of its draw."""

    types: ClassVar[dict[str, str]] = {
        "words": "string[{}]", "list": "seq(string[{}])", "maybe": "optional(string[{}])",
        "number": "float",
    }  # fmt: skip
    statements: ClassVar[Mapping[str, Sequence[str]]] = {
        "words": (
            "@ = StringConcat (words, mark)",
            "@x = Identity (words) @ = StringConcat (@x, @x)",
            "@ = Concat <axis = 0> (words, mark)",
            "@x = Identity (words) @b = Equal (@x, mark) @n = Not (@b) @ = Compress (@x, @n)",
            "@x = Identity (words) @ = Where (truth, @x, @x)",
            "@s = SequenceInsert (list, words) @ = SequenceAt (@s, nought)",
            "@s = SequenceInsert (list, mark) @ = ConcatFromSequence <axis = 0> (@s)",
            "@o = Optional (words) @ = OptionalGetElement (@o)",
            "@t = Cast <to = 8> (number) @ = Unsqueeze (@t, first)",
        ),
        "list": (
            "@ = SequenceInsert (list, words)",
            "@ = SequenceInsert (list, words, nought)",
            "@s = SequenceInsert (list, words) @ = SequenceErase (@s, nought)",
            "@ = SequenceConstruct (words, words, mark)",
            "@ = Identity (list)",
        ),
        "maybe": (
            "@ = Optional (words)",
            "@ = Identity (maybe)",
            "@ = Optional <type: type_proto = string[]> ()",
        ),
        "count": ("@ = SequenceLength (list)", "@ = Size (words)"),
        "number": (
            "@t = Cast <to = 1> (count) @ = Mul (@t, half)",
            "@t = Add (number, half) @ = Cos (@t)",
            "@t = Concat <axis = 0> (line, thin) @ = ReduceMax <keepdims = 0> (@t)",
        ),
        "line": ("@ = Unsqueeze (number, first)", "@ = Concat <axis = 0> (line, line)"),
        "truth": ("@ = OptionalHasElement (maybe)", "@ = Greater (number, half)"),
    }  # fmt: skip
    constants: ClassVar[str] = f"""{CONSTANTS}
        mark = Constant <value_strings = ["é"]> ()
        empty = SequenceEmpty <dtype = 8> ()
        without = Optional <type: type_proto = string[]> ()
        some = Optional (x)
        thin = Unsqueeze (half, first)
    """
    outer: ClassVar[Scope] = {
        "words": ["x", "mark"], "list": ["q", "empty"], "maybe": ["some", "without"],
        "number": ["s", "half"], "count": ["n", "nought"], "truth": ["b", "yes"],
        "line": ["thin"],
    }  # fmt: skip
    carried: ClassVar[Sequence[str]] = ("words", "list", "maybe")

    def text(self) -> str:
        """A graph of some words, a sequence and a number, with a loop or a branch at least."""
        lines = self._graph(("words", "list", "number"))
        return f"""f (string[N] x, seq(string[M]) q, float s, int64 n, bool b)
            => (string[A] words_result, seq(string[B]) list_result, float number_result)
            {{ {lines} }}"""

    def feeds(self) -> list[dict[str, Any]]:
        """Texts, lengths and numbers that come again, in another order."""
        rng = self.rng

        def words() -> np.ndarray[Any, Any]:
            return rng.choice(np.array(["", "a", "é", "\u4e2d\U0001f600"], object), rng.integers(4))

        drawn = [
            {
                "x": words(),
                "q": [words() for _ in range(rng.integers(3))],
                "s": np.array(rng.choice([-0.5, 0.5, 5]), "f"),
                "n": np.array(rng.integers(5)),
                "b": np.array(rng.random() < 0.5),
            }
            for _ in range(5)
        ]
        return [*drawn * 2, *drawn[::-1], *(drawn[self._between(0, 5)] for _ in range(4))]
