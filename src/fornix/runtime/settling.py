"""Programs for numbers that are fed, where nodes need to know them: axes, sizes, pads, bounds.

Decides which inputs hold such numbers, what a model is once they are settled, and that code made
for some runs for no others. Also which extents nodes need to know, to say what their loops are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from fornix.compile.entry import Entry
from fornix.ir.dim import Dim
from fornix.ir.graph import Model, Node, Value
from fornix.ir.tensor import ArrayTensor
from fornix.ir.walk import nodes
from fornix.ops.elimination import MOST_ROWS
from fornix.ops.signal_loops import LONGEST_IN_STEPS
from fornix.runtime.options import RunOptions
from fornix.runtime.shortcuts.short import QuickCall
from fornix.runtime.sizing.extents import name_extents

Array = np.ndarray[Any, np.dtype[Any]]
Numbers = tuple[tuple[tuple[int, ...], bytes], ...]
"""Shapes and bytes of what is fed, in the order of names."""

MAX_NUMBERS = 16
"""Elements up to which an input holds sizes and the like."""
MAX_NODES = 256
"""Nodes up to which a model is compiled for numbers that are fed: it takes as long as a model."""
FOLDED = (
    "L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare",
)  # fmt: skip
"""What the reductions are named for."""
PLACES: Mapping[tuple[str, str], tuple[int, ...]] = {
    ("", "AffineGrid"): (1,),
    ("", "BlackmanWindow"): (0,),
    ("", "CenterCropPad"): (1,),
    ("", "Col2Im"): (1, 2),
    ("", "CumProd"): (1,),
    ("", "CumSum"): (1,),
    ("", "DFT"): (1, 2),
    ("", "Dropout"): (2,),
    ("", "Expand"): (1,),
    ("", "HammingWindow"): (0,),
    ("", "HannWindow"): (0,),
    ("", "MelWeightMatrix"): (0, 1, 2, 3, 4),
    ("", "NonMaxSuppression"): (2, 3, 4),
    ("", "OneHot"): (1,),
    ("", "Pad"): (1, 3),
    ("", "Range"): (0, 1, 2),
    ("", "Reshape"): (1,),
    ("", "Resize"): (1, 2, 3),
    ("", "STFT"): (1, 3),
    ("", "Slice"): (1, 2, 3, 4),
    ("", "Split"): (1,),
    ("", "Squeeze"): (1,),
    ("", "Tile"): (1,),
    ("", "Unsqueeze"): (1,),
    ("com.microsoft", "CropAndResize"): (3,),
    ("com.microsoft", "ExpandDims"): (1,),
    **{("", f"Reduce{what}"): (1,) for what in FOLDED},
}
"""By operator the inputs that say where and how much, and are no data."""

DECIDING: Mapping[tuple[str, str], Sequence[tuple[int, int]]] = {
    ("", "Attention"): [(0, -3), (1, -3), (2, -3)],
    ("", "DFT"): [(0, -1), (0, -2)],
    ("", "Det"): [(0, -1)],
    ("", "GatherND"): [(1, -1)],
    ("", "LinearAttention"): [(1, -1), (4, -1), (5, -1)],
    ("", "RotaryEmbedding"): [(0, -1)],
    ("", "STFT"): [(0, -1), (2, -1)],
    ("", "ScatterND"): [(1, -1)],
    ("ai.onnx.ml", "LinearClassifier"): [(0, -1)],
    ("com.microsoft", "BranchwiseRMSNorm"): [(0, -1), (1, -1)],
    ("com.microsoft", "GatherND"): [(1, -1)],
    ("com.microsoft", "GroupQueryAttention"): [(0, -1), (7, -1)],
    ("com.microsoft", "Inverse"): [(0, -1)],
    ("com.microsoft", "MRotaryEmbedding"): [(0, -1), (2, -1)],
    ("com.microsoft", "QMoE"): [(2, -1), (5, -1), (8, -1)],
    ("com.microsoft", "RotaryEmbedding"): [(0, -1), (2, -1)],
}
"""By operator the inputs and axes whose extents say what its loops are."""
LARGEST = {"DFT": LONGEST_IN_STEPS, "Det": MOST_ROWS, "Inverse": MOST_ROWS}
"""Extents beyond which a node has no loops."""


def telling(model: Model) -> list[str]:
    """Inputs that hold numbers which nodes need to know, and no data.

    None of a model that takes long to compile.
    """
    every = list(nodes(model.graph))
    if len(every) > MAX_NODES:
        return []
    numbers = {
        value
        for node in every
        for place in PLACES.get((node.domain, node.op_type), ())
        if place < len(node.inputs) and (value := node.inputs[place]) is not None
    }
    return [value.name for value in model.graph.inputs if value in numbers]


def is_decided(node: Node) -> bool:
    """Whether extents say what the loops of ``node`` are; heads that share an axis do not."""
    is_named = node.op_type == "Attention" and "q_num_heads" in node.attributes
    return (node.domain, node.op_type) in DECIDING and not is_named


def is_told(node: Node) -> bool:
    """Whether numbers that are fed say what the loops of ``node`` are."""
    return (node.domain, node.op_type) in PLACES


def deciding(model: Model) -> dict[str, int]:
    """Symbols that nodes need to know as numbers, each with the greatest number of use.

    None of a model as in `telling`.
    """
    decided = [node for node in model.graph.nodes if is_decided(node)]
    if not decided or len(list(nodes(model.graph))) > MAX_NODES:
        return {}
    from fornix.infer import infer_model  # noqa: PLC0415 - few models need it

    named = model.clone()
    name_extents(named, {})
    inference, found = infer_model(named), dict[str, int]()
    for node in filter(is_decided, named.graph.nodes):
        most = LARGEST.get(node.op_type, sys.maxsize)
        for place, axis in DECIDING[node.domain, node.op_type]:
            value = node.inputs[place] if place < len(node.inputs) else None
            fact = None if value is None else inference.fact(value)
            shape = fact.shape if fact is not None and fact.has_rank else ()
            extent = shape[axis] if len(shape) >= -axis else 0
            names = extent.symbols if isinstance(extent, Dim) and not extent.unknowns else ()
            found |= {name: min(most, found.get(name, most)) for name in names}
    return found


def numbers_of(feeds: Mapping[str, Any], names: Collection[str]) -> Numbers | None:
    """What the inputs called ``names`` hold; None where one is too long to tell sizes."""
    found = [feeds[name] for name in names]
    if any(x.size > MAX_NUMBERS for x in found):
        return None
    return tuple((x.shape, x.tobytes()) for x in found)


def settled(model: Model, numbers: Mapping[str, Array]) -> Model:
    """A copy of ``model`` in which nodes read these numbers in place of inputs, by name."""
    changed = model.clone()
    graph = changed.graph
    for value in graph.inputs:
        if value.name in numbers:
            stored = ArrayTensor(numbers[value.name].copy())
            name = graph.fresh_name(value.name)
            value.replace_all_uses_with(graph.add_initializer(Value(name, tensor=stored)))
    return changed


class SettledCall:
    """A short way for feeds that hold these numbers; the long way is for all others."""

    def __init__(self, short: QuickCall, numbers: Mapping[str, Array]) -> None:
        self.short = short
        self.call = self._guarded(short.call)
        """Feeds to results; None if they are to go the long way."""
        self._settled = [(name, x.dtype, x.shape, x.tobytes()) for name, x in numbers.items()]

    def until(self, options: RunOptions) -> Entry:
        """The same, for runs with options."""
        return self._guarded(self.short.until(options))

    def _guarded(self, call: Entry) -> Callable[[Mapping[str, Any]], list[Any] | None]:
        def guarded(feeds: Mapping[str, Any]) -> list[Any] | None:
            for name, dtype, shape, data in self._settled:
                x = feeds.get(name)
                if type(x) is not np.ndarray or x.dtype != dtype or x.shape != shape:
                    return None
                if x.tobytes() != data:
                    return None
            return call(feeds)

        return guarded
