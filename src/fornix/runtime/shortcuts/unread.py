"""The short way of programs some of whose inputs are texts that nothing reads.

Pipelines over columns name all of them, and drop some. What is left of such a program has the short
way that it would have without them; the texts are only looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from fornix.compile.entry import Entry
from fornix.runtime.feeds import are_texts
from fornix.runtime.native import NativeStep
from fornix.runtime.options import RunOptions
from fornix.runtime.program import Program
from fornix.runtime.shortcuts.generic import symbols_of
from fornix.runtime.shortcuts.short import QuickCall
from fornix.runtime.sizing.extents import bound_symbols


class UnreadCall:
    """A short way for what is fed beside texts of these extents."""

    def __init__(self, short: QuickCall, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.short, self.shapes = short, shapes
        self.call: Entry = partial(self._done, short.call)

    def until(self, options: RunOptions) -> Entry:
        """The same, for runs that somebody may want to end."""
        return partial(self._done, self.short.until(options))

    def _done(self, call: Entry, feeds: Mapping[str, Any]) -> list[Any] | None:
        if type(feeds) is not dict:
            return None
        others = feeds.copy()
        for name, shape in self.shapes.items():
            texts = others.pop(name, None)
            if type(texts) is not np.ndarray or texts.shape != shape or texts.dtype != object:
                return None
            if not are_texts(texts):
                return None
        return call(others)


def without_unread(program: Program, feeds: Mapping[str, Any]) -> Program | None:
    """``program`` without inputs that are texts in ``feeds`` and that nothing reads.

    None if it has none, or if what is left does not tell all extents.
    """
    read = {*program.outputs.values()}.union(*(step.reads for step in program.steps))
    inputs = program.inputs.items()
    left = [value for name, value in inputs if value in read or not _is_text(feeds[name])]
    if len(left) == len(inputs):
        return None
    symbols = bound_symbols(left)
    needed = set[str]().union(*(symbols_of(s) for s in program.steps if isinstance(s, NativeStep)))
    if not needed.isdisjoint(program.symbols.keys() - symbols.keys()):
        return None
    parts = program.steps, program.constants, program.placements, program.files
    made = Program(left, [*program.outputs.values()], symbols, *parts)
    made.ranges = {name: bounds for name, bounds in program.ranges.items() if name in symbols}
    return made


def _is_text(feed: object) -> bool:
    return isinstance(feed, np.ndarray) and feed.dtype.hasobject
