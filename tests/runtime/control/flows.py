"""Control flow in one native call: how tests see the calls, and hold results to NumPy kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import pytest
from onnx import parser

from fornix.runtime import InferenceSession, SessionOptions
from fornix.runtime.control.flow import Flow

HEAD = '<ir_version: 8, opset_import: ["" : 18, "ai.onnx.ml" : 3]>\n'

Feeds: TypeAlias = Mapping[str, Any]
Pair: TypeAlias = tuple[InferenceSession, InferenceSession]
"""Compiled, and on NumPy kernels."""


def texts(*found: str) -> np.ndarray[Any, Any]:
    """The tensor [n] of these texts."""
    return np.array(found, object)


def watched(patch: pytest.MonkeyPatch) -> list[bool]:
    """A list that grows with each native call: whether it gave results."""
    made: list[bool] = []
    original = Flow.__call__

    def observed(self: Flow, *given: Any) -> Any:
        results = original(self, *given)
        made.append(results is not None)
        return results

    patch.setattr(Flow, "__call__", observed)
    return made


def sessions(text: str, threads: int = 1, opset: int = 18) -> Pair:
    """Two sessions of the model that ``text`` says."""
    model = parser.parse_model(HEAD.replace("18", str(opset)) + text)
    options = SessionOptions(intra_op_num_threads=threads)
    return (
        InferenceSession(model, options, providers=["CPUExecutionProvider"]),
        InferenceSession(model, providers=["ReferenceExecutionProvider"]),
    )


def agree(pair: Pair, *feeds: Feeds, rounds: int = 3) -> None:
    """Assert that both sessions give the same for ``feeds``, in each of some rounds.

    A way of its own has what has come twice, or a few times: later rounds are not like the first.
    """
    fast, slow = pair
    for feed in feeds * rounds:
        for found, wanted in zip(fast.run(None, feed), slow.run(None, feed), strict=True):
            assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
            np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-6)
