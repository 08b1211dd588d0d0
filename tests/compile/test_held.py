"""Which weights of direct convolutions stay in the cache, and which boxes pass meanwhile."""

from __future__ import annotations

import dataclasses
import math

import pytest

from fornix.compile import Target
from fornix.compile.convolution import convolution
from fornix.compile.nest import Chunks, Nest, Stretch
from fornix.compile.schedule import held
from fornix.compile.schedule.direct import direct_stages
from fornix.compile.schedule.winograd import Stage
from fornix.dtype import FLOAT32
from fornix.ir.dim import DimLike, known, symbol
from fornix.ir.loops import Tensor, Variable, constant, tensor
from fornix.ops.conv import lower_conv
from tests.compile.levels import LEVELS, target
from tests.compile.native import check
from tests.compile.test_direct import blocked, data, lanes
from tests.compile.test_phases import source

N, L = (symbol(name, least=1) for name in "NL")
SMALL = 32 << 10
"""Bytes of the second cache: half of them hold a panel of weights, half the image of some boxes."""
Shape = tuple[DimLike, ...]


def conv(x: Shape, w: tuple[int, ...], level: str, group: int = 1) -> Tensor:
    weights = constant(data(FLOAT32, w, {}, 1))
    pads = [w[-1] // 2] * 2 * (len(w) - 2)
    strides = [2] * (len(w) - 2)
    y = lower_conv(tensor("x", x, FLOAT32), weights, pads=pads, strides=strides, group=group)
    return blocked(y, lanes(FLOAT32, level))


def order(y: Tensor, processor: Target) -> tuple[Chunks, tuple[Variable, ...]]:
    """The chunks of the sums, and the axes of these."""
    c = convolution(source(y))
    assert c is not None
    stages = direct_stages(c, processor, processor.vector_bytes // 4)
    assert stages is not None
    stage = stages[-1]
    assert isinstance(stage, Stage)
    assert isinstance(stage.nest, Nest)
    (chunks,) = stage.nest.body
    assert isinstance(chunks, Chunks)
    return chunks, chunks.axes


@pytest.mark.parametrize(
    ("x", "w", "group"),
    [
        ((1, 16, 600), (128, 16, 3), 1),
        ((3, 16, 151), (128, 16, 3), 1),
        ((N, 16, 600), (128, 16, 3), 1),
        ((1, 16, 25, 31), (128, 16, 3, 1), 1),
        ((1, 32, 600), (256, 16, 3), 2),
    ],
)
@pytest.mark.parametrize("level", LEVELS)
def test_boxes_whose_image_is_near_meet_all_panels_before_others(
    x: Shape, w: tuple[int, ...], group: int, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "MAX_CHUNKS", 1)
    small = dataclasses.replace(target(level), l2_bytes=SMALL)
    y = conv(x, w, level, group)
    chunks, axes = order(y, small)
    assert [a.name for a in axes][:3] == ["g", "part", "p"]
    assert isinstance(chunks.body[0], Stretch)
    whole = dataclasses.replace(small, l2_bytes=64 << 20)
    assert "part" not in [a.name for a in order(y, whole)[1]]
    symbols = {"N": 2}
    check(y, {"x": data(FLOAT32, x, symbols, 2)}, symbols if x[0] is N else {}, target=small)


@pytest.mark.parametrize(("length", "is_near"), [(3199, True), (799, False)])
def test_parts_are_as_many_as_threads_want_or_none(length: int, is_near: bool) -> None:
    processor = dataclasses.replace(Target.masked("x86-64-v4"), l2_bytes=1 << 20)
    _, axes = order(conv((1, 512, length), (512, 512, 3), "x86-64-v4"), processor)
    assert ("part" in [a.name for a in axes]) == is_near
    pieces = math.prod(known(a.extent) or 1 for a in axes)
    assert pieces >= held.MAX_CHUNKS


@pytest.mark.parametrize("length", [1, 37, 300])
@pytest.mark.parametrize("level", LEVELS)
def test_all_panels_pass_for_each_piece_of_a_row_of_unknown_length(length: int, level: str) -> None:
    small = dataclasses.replace(target(level), l2_bytes=SMALL)
    y = conv((1, 16, L), (128, 16, 5), level)
    names = [a.name for a in order(y, small)[1]]
    assert names.index("c") < names.index("p")
    check(y, {"x": data(FLOAT32, (1, 16, L), {"L": length}, 2)}, {"L": length}, target=small)
