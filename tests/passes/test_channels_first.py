from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from fornix.onnx.parser import parse_model
from fornix.passes import Level, optimize
from fornix.reference import ReferenceEvaluator
from fornix.reference.source import as_model

MODEL = """
    <ir_version: 10, opset_import: ["": 17, "com.microsoft": 1]>
    g (float[N, 4, H, W] x, float[4, 3, 3, 4] w, float[4] b, float[{skip}] s)
        => (float[N, 4, H, W] y, float[N, 4, H, W] z)
    {{
        first = Transpose <perm = [0, 2, 3, 1]> (x)
        moved = com.microsoft.NhwcConv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (first, w, b)
        image = Transpose <perm = [0, 3, 1, 2]> (moved)
        added = Relu (image)
        again = Transpose <perm = [0, 2, 3, 1]> (added)
        norm, sum = com.microsoft.SkipGroupNorm <groups = 2, activation = 1> (again, b, b, s, b)
        y = Transpose <perm = [0, 3, 1, 2]> (norm)
        z = Transpose <perm = [0, 3, 1, 2]> (sum)
    }}"""


@pytest.mark.parametrize("skip", ["N, 4", "N, 1, 1, 4", "N, H, W, 4"])
def test_transposes_around_images_meet_those_of_the_standards_operators(skip: str) -> None:
    rng = np.random.default_rng(5)
    model = as_model(parse_model(MODEL.format(skip=skip)))
    extents = {"N": 2, "H": 5, "W": 6}
    shape = [extents[n] if n in extents else int(n) for n in skip.split(", ")]
    shapes = {"x": [2, 4, 5, 6], "w": [4, 3, 3, 4], "b": [4], "s": shape}
    feeds = {name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}
    optimized = optimize(model, Level.BASIC)
    kinds = Counter(node.op_type for node in optimized.graph.nodes)
    assert {"Conv", "GroupNorm"} <= kinds.keys()
    assert not {"NhwcConv", "SkipGroupNorm"} & kinds.keys()
    assert kinds["Transpose"] <= 2  # of the filters, and of what is added
    found, wanted = (ReferenceEvaluator(one).run(None, feeds) for one in (optimized, model))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
