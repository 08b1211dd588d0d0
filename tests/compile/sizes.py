"""Small models of fixed extents for tests of what sizes change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import ModelProto, parser

import fornix

Array = np.ndarray[Any, np.dtype[Any]]

WORDS = {"float32": "float"}
"""Names that ONNX text has of its own."""


def model(body: str, feeds: Mapping[str, Array], stored: str = "") -> ModelProto:
    """``body`` in ONNX text, with inputs like ``feeds`` and with initializers ``stored``.

    The output is of the first input's dtype.
    """
    kinds = {k: WORDS.get(x.dtype.name, x.dtype.name) for k, x in feeds.items()}
    ends = ", ".join(f"{kinds[k]}[{', '.join(map(str, x.shape))}] {k}" for k, x in feeds.items())
    (kind, *_) = kinds.values()
    text = f'<ir_version: 9, opset_import: ["": 20]> main ({ends}) => ({kind}[] y)'
    made = parser.parse_model(f"{text} <{stored}> {{ {body} }}")
    made.graph.output[0].type.tensor_type.ClearField("shape")
    return made


def computed(body: str, feeds: Mapping[str, Array], stored: str = "") -> Array:
    """What compiled code makes of it, which has to be the same each time."""
    session = fornix.InferenceSession(model(body, feeds, stored))
    first, again = (np.asarray(session.run(None, dict(feeds))[0]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert {entry.kind for entry in session.profile(dict(feeds), 1).entries} <= COMPILED
    return first


COMPILED = {"map", "turned", "contraction", "scan", "row", "routine"}
