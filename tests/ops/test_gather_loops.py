"""Columns at places that the model says are copied by a routine, or are a slice."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.format.text import parse_model
from fornix.ir.load import from_message
from fornix.runtime import InferenceSession, SessionOptions

DTYPES = {"float": np.float32, "double": np.float64, "int32": np.int32, "int64": np.int64}
PICKED = {
    "apart": [3, 0, 6, 3, 5],
    "side by side": [2, 3, 4, 5],
    "from the end": [-1, 0, -7],
    "one": [4],
}


def session(operator: str, dtype: str, places: list[int], threads: int = 1) -> InferenceSession:
    listed = ", ".join(map(str, places))
    text = f"""<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 2]>
    g ({dtype}[N, 7] x) => ({dtype}[N, {len(places)}] y) <int64[{len(places)}] i = {{{listed}}}> {{
      y = {operator} (x, i)
    }}"""
    options = SessionOptions()
    options.intra_op_num_threads = threads
    return InferenceSession(from_message(parse_model(text)), options)


@pytest.mark.parametrize("places", PICKED.values(), ids=PICKED)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operator", ["Gather <axis = 1>", "ai.onnx.ml.ArrayFeatureExtractor"])
def test_columns_are_those_that_are_named(operator: str, dtype: str, places: list[int]) -> None:
    if min(places) < 0 and "ml" in operator:
        return
    made = session(operator, dtype, places)
    assert all(place.kernels for place in made.placement())
    for rows in (1, 3, 4, 5, 259, 513, 0):
        x = np.arange(rows * 7).reshape(rows, 7).astype(DTYPES[dtype])
        for _ in range(2):
            [found] = made.run(None, {"x": x})
            np.testing.assert_array_equal(found, x[:, places])
            assert found.dtype == x.dtype


def test_threads_change_nothing() -> None:
    x = np.random.default_rng(0).normal(size=(20_003, 7)).astype(np.float32)
    made = session("Gather <axis = 1>", "float", PICKED["apart"], threads=2)
    np.testing.assert_array_equal(made.run(None, {"x": x})[0], x[:, PICKED["apart"]])
