"""Batches of DeformConv in parts: the same results, of so many images as are little to keep."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest

from fornix import InferenceSession
from fornix.errors import FornixError
from fornix.format.text import parse_model
from fornix.ir.graph import Model
from fornix.ir.load import from_message
from fornix.passes import Native, optimize, split_batches
from fornix.reference import ReferenceEvaluator

INPUTS = "x w offset b mask".split()
SHAPES = [(5, 4, 6, 7), (6, 2, 3, 2), (5, 24, 4, 6), (6,), (5, 12, 4, 6)]
IMAGE_BYTES = 4 * 4 * 6 * 4 * 6
"""What the six taps of 4×6 places sample of an image's four channels."""


def model_of(count: object, used: list[str], **counts: str) -> Model:
    """Of ``count`` images, and of as many offsets and masks where ``counts`` names no others."""
    shapes = dict(zip(INPUTS, SHAPES, strict=True))
    first = {**dict.fromkeys(("x", "offset", "mask"), count), **counts}
    declared = ", ".join(
        f"float[{', '.join(map(str, [first.get(name, s[0]), *s[1:]]))}] {name}"
        for name, s in shapes.items()
        if name in used
    )
    given = ", ".join(name if name in used else '""' for name in INPUTS)
    text = f"""<ir_version: 9, opset_import: ["": 19]> g ({declared}) => (float[N, M, H, W] y) {{
        y = DeformConv <group = 2, offset_group = 2> ({given.removesuffix(', ""')})
    }}"""
    return from_message(parse_model(text))


def feeds_of(used: list[str]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    arrays = [rng.normal(0, 2, shape).astype(np.float32) for shape in SHAPES]
    return {name: x for name, x in zip(INPUTS, arrays, strict=True) if name in used}


@pytest.mark.parametrize("left_out", [[], ["mask"], ["b"], ["b", "mask"]])
@pytest.mark.parametrize(("images", "parts"), [(0, 5), (1, 5), (2, 3), (3, 2), (4, 2), (5, 1)])
def test_parts_are_of_as_many_images_as_are_little(
    images: int, parts: int, left_out: list[str]
) -> None:
    used = [name for name in INPUTS if name not in left_out]
    model, feeds = model_of(5, used), feeds_of(used)
    (expected,) = ReferenceEvaluator(model).run(None, feeds)
    with patch.object(split_batches, "PART_BYTES", images * IMAGE_BYTES):
        split = optimize(model, native=Native())
        (y,) = InferenceSession(model).run(None, feeds)
    assert [n.op_type for n in split.graph.nodes].count("DeformConv") == parts
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(ReferenceEvaluator(split).run(None, feeds)[0], expected)


@pytest.mark.parametrize("count", ["N", 0])
def test_batches_that_are_empty_or_open_stay_whole(count: object) -> None:
    with patch.object(split_batches, "PART_BYTES", 0):
        split = optimize(model_of(count, INPUTS), native=Native())
    assert [n.op_type for n in split.graph.nodes] == ["DeformConv"]


@pytest.mark.parametrize("name", ["offset", "mask"])
def test_more_offsets_or_masks_than_images_are_refused(name: str) -> None:
    feeds = feeds_of(INPUTS)
    feeds[name] = np.concatenate([feeds[name], feeds[name][:1]])
    with patch.object(split_batches, "PART_BYTES", 0):
        session = InferenceSession(model_of(5, INPUTS, **{name: "N"}))
    with pytest.raises(FornixError, match=rf"{name} must be \[5, .* got {name}\[6, "):
        session.run(None, feeds)


def test_models_that_are_written_keep_their_batches() -> None:
    with patch.object(split_batches, "PART_BYTES", 0):
        written = optimize(model_of(5, INPUTS))
    assert [n.op_type for n in written.graph.nodes] == ["DeformConv"]
