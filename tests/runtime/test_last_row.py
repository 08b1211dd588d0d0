"""Images of open sides beside their own last row, of which an empty image has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import parser

from fornix.runtime import InferenceSession

BODIES: dict[str, Callable[[Any, Any], Any]] = {
    "y = Div (h, s)": lambda h, s: h / s,
    "c = Greater (h, s) y = Where (c, h, s)": np.maximum,
    "k = Shape (h) y = Expand (s, k)": lambda h, s: np.broadcast_to(s, h.shape),
}
SIZES = [(2, 6, 8), (1, 2, 2), (3, 5, 9), (1, 3, 2), (2, 2, 33)]


@pytest.mark.parametrize("body", BODIES)
def test_an_image_meets_its_last_row_in_kernels(body: str) -> None:
    source = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        f (float[N, H, W] x) => (float[a, b, c] y)
        <int64[1] last = {{-1}}, int64[1] end = {{9223372036854775807}}, int64[1] one = {{1}}> {{
            t = Transpose <perm = [0, 2, 1]> (x)
            p = MaxPool <kernel_shape = [2], strides = [2]> (t)
            h = Transpose <perm = [0, 2, 1]> (p)
            s = Slice (h, last, end, one, one)
            {body}
        }}"""
    )
    session = InferenceSession(source)
    for size in SIZES:
        x = np.random.default_rng(0).standard_normal(size).astype(np.float32)
        rows = size[1] // 2
        h = x[:, : 2 * rows].reshape(size[0], rows, 2, size[2]).max(2)
        (found,) = session.run(None, {"x": x})
        np.testing.assert_allclose(found, BODIES[body](h, h[:, -1:]), rtol=1e-6)
        kinds = {entry.kind for entry in session.profile({"x": x}, 1).entries}
        assert "numpy" not in kinds
