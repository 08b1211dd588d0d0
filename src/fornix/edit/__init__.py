"""Edits that people ask for: extract, merge, rename, outline, change shapes, replace stored data.

Each leaves what it is given as it is and returns a changed copy; weights are shared, not copied.
"""

from __future__ import annotations

from fornix.edit.constants import replace_constants
from fornix.edit.extract import extract, extract_graph
from fornix.edit.merge import Links, merge, merge_graphs, overlaps
from fornix.edit.outline import outline
from fornix.edit.rename import Parts, prefix, prefix_graph, rename, value_names
from fornix.edit.shapes import expand_outputs, set_dims, set_shapes
from fornix.edit.weights import load_weights, save_weights

__all__ = [
    "Links",
    "Parts",
    "expand_outputs",
    "extract",
    "extract_graph",
    "load_weights",
    "merge",
    "merge_graphs",
    "outline",
    "overlaps",
    "prefix",
    "prefix_graph",
    "rename",
    "replace_constants",
    "save_weights",
    "set_dims",
    "set_shapes",
    "value_names",
]
