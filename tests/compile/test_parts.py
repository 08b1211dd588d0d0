from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from fornix import InferenceSession, SessionOptions

ZERO, SCALE = 120, 0.5


def convolved(x: Any, w: Any, stride: int) -> Any:
    """Sums of products with the taps of ``w``, by NumPy; zero points are the padding."""
    ahead = w.shape[-1] // 2
    image = np.pad(x.astype(np.int64) - ZERO, [(0, 0)] * 2 + [(ahead, ahead)] * 2)
    windows = np.lib.stride_tricks.sliding_window_view(image, w.shape[2:], (2, 3))
    return np.einsum("nchwij,fcij->nfhw", windows[:, :, ::stride, ::stride], w.astype(np.int64))


@pytest.mark.parametrize("height", [33, 30])
def test_parts_of_an_image_whose_rows_end_in_few_vectors_are_written_where_they_belong(
    height: int,
) -> None:
    """Each part of the copy of such an image has its rest, which begins where whole steps end."""
    rng = np.random.default_rng(height)
    x = rng.integers(0, 256, (1, 16, height, 2)).astype(np.uint8)
    w = rng.integers(-127, 128, (16, 16, 5, 5)).astype(np.int8)
    data = {"w": w, "z": np.uint8(ZERO), "s": np.float32(SCALE)}
    nodes = [
        helper.make_node("ConvInteger", ["x", "w", "z"], ["a"], pads=[2] * 4, strides=[2, 2]),
        helper.make_node("Cast", ["a"], ["b"], to=1),
        helper.make_node("Mul", ["b", "s"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", 2, x.shape)],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in data.items()],
    )  # fmt: skip
    imports = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()
    session = InferenceSession(model, SessionOptions(intra_op_num_threads=1))
    (found,) = session.run(None, {"x": x})
    np.testing.assert_array_equal(found, (convolved(x, w, 2) * SCALE).astype(np.float32))
