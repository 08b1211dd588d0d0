"""Columns that are joined, each a reduction of columns of one matrix, as one reduction of all.

skl2onnx writes polynomials so, hundreds of products of two or three features each:

    Concat(ReduceProd(x[:, a]), ReduceProd(x[:, b]), …)    →    ReduceProd(x[:, [a, b, …]], axis 2)

Decides which neighbours are such: of the same matrix, by the same operator, of as many columns.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from fornix.infer import Inference
from fornix.ir.dim import known
from fornix.ir.graph import Graph, Node, Value
from fornix.ir.walk import graphs
from fornix.passes.apply import Changes, attempt, replace
from fornix.passes.make import Maker

REDUCTIONS = frozenset("ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum".split())
COLUMNS = 1
"""The axis of columns; behind it goes the one of those that are reduced."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Column:
    """A column that is a reduction of some of ``matrix``, or something else: ``value`` alone."""

    value: Value
    reduction: Node | None = None
    matrix: Value | None = None
    places: tuple[int, ...] = ()

    @property
    def kind(self) -> tuple[object, ...]:
        """What neighbours have in common that are joined."""
        node = self.reduction
        if node is None:
            return (self.value,)
        return node.op_type, self.matrix, len(self.places), "axes" in node.attributes


def join_columns(root: Graph, inference: Inference) -> Changes:
    """Rewrite what is found in ``root`` and its subgraphs."""
    changes: Changes = Counter()
    for graph in list(graphs(root)):
        for node in [n for n in graph.nodes if n.op_type == "Concat" and not n.domain]:
            make = Maker(node, graph, inference)
            result = attempt("join_columns", _joined, node, make)
            if result is not None:
                replace(node, [result], inference)
                changes["Concat"] += 1
    return changes


def _joined(node: Node, make: Maker) -> Value | None:
    """What stands for the Concat ``node``, if some neighbours are one reduction."""
    if make.fact(node.output).rank != COLUMNS + 1 or node.attr("axis") not in {COLUMNS, -1}:
        return None
    columns = [_column(value, make) for value in node.inputs if value is not None]
    runs = [list(run) for _, run in groupby(columns, lambda column: column.kind)]
    if len(runs) == len(columns) or all(run[0].reduction is None for run in runs):
        return None
    parts = [part for run in runs for part in _parts(run, make)]
    return parts[0] if len(parts) == 1 else make.Concat(*parts, axis=COLUMNS)


def _parts(run: list[_Column], make: Maker) -> list[Value]:
    """The columns of ``run``, joined if they are reductions."""
    node = run[0].reduction
    if node is None or len(run) == 1:
        return [column.value for column in run]
    table = np.array([column.places for column in run], np.int64)
    chosen = make.Gather(run[0].matrix, table, axis=COLUMNS)
    behind = COLUMNS + 1
    if "axes" in node.attributes:
        return [make.node(node.op_type, (chosen,), {"axes": [behind], "keepdims": 0})]
    axes = np.array([behind], np.int64)
    return [make.node(node.op_type, (chosen, axes), {"keepdims": 0})]


def _column(value: Value, make: Maker) -> _Column:
    """What ``value`` is as a column."""
    node = value.producer
    if node is None or node.domain or node.op_type not in REDUCTIONS or not _keeps_rows(node, make):
        return _Column(value)
    chosen = node.inputs[0]
    choosing = None if chosen is None else chosen.producer
    if choosing is None or choosing.op_type != "ArrayFeatureExtractor":
        return _Column(value)
    matrix, places = choosing.inputs
    listed = None if places is None else make.fact(places).constant
    if matrix is None or listed is None or make.fact(matrix).rank != COLUMNS + 1:
        return _Column(value)
    width = known(make.fact(matrix).shape[COLUMNS])
    inside = width is not None and (listed >= 0).all() and (listed < width).all()
    numbers = tuple(int(place) for place in listed.reshape(-1))
    return _Column(value, node, matrix, numbers) if inside else _Column(value)


def _keeps_rows(node: Node, make: Maker) -> bool:
    """Whether the reduction ``node`` makes a column of a matrix."""
    axes = node.attr("axes")
    if axes is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        found = make.fact(node.inputs[1]).constant
        axes = None if found is None else found.tolist()
    return axes in ([COLUMNS], [-1]) and node.attr("keepdims", 1) == 1
