from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fornix.compile import Target
from fornix.dtype import FLOAT32
from fornix.ir.dim import symbol
from fornix.ir.loops import constant, tensor
from fornix.ops.conv import lower_conv
from tests.compile.native import Runner
from tests.compile.test_square_floats import (
    LANES,
    assert_near,
    convolved,
    in_blocks,
    is_in_parts,
    numbers,
)

pytestmark = pytest.mark.skipif(
    not Target.host().has("amx-bf16"), reason="the processor has no tile registers for bfloat16s"
)


@pytest.mark.parametrize(
    ("channels", "sides", "taps", "window"),
    [
        (64, (16, 17), (5, 5), {"pads": [2] * 4}),
        (41, (14, 23), (4, 4), {"pads": [1, 0, 2, 1]}),
        (16, (30, 31), (3, 3), {"strides": [2, 2]}),
        (100, (13, 13), (3, 3), {"pads": [2] * 4, "dilations": [2, 2], "strides": [1, 1]}),
    ],
)
@pytest.mark.parametrize("at_end", [False, True])
def test_images_in_rows_are_turned_for_tile_registers(
    channels: int,
    sides: tuple[int, int],
    taps: tuple[int, int],
    window: dict[str, Any],
    at_end: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fornix.compile.schedule.winograd_stages", lambda *_: None)
    monkeypatch.setattr("fornix.compile.schedule.direct.GAIN", 0.0)
    monkeypatch.setattr("fornix.compile.schedule.square_floats.GAIN", 0.0)
    x, w = numbers(2, channels, *sides), numbers(80, channels, *taps)
    y = in_blocks(lower_conv(tensor("x", x.shape, FLOAT32), constant(w), **window))
    assert is_in_parts(y)
    runs = [Runner([y], chunks=n, at_end=at_end).run({"x": x})[0] for n in (1, 3)]
    assert_near(runs[0], x, w, window)
    np.testing.assert_array_equal(runs[0], runs[1])


def test_open_images_in_rows_too() -> None:
    w = numbers(64, 40, 5, 5)
    shape = (symbol("N"), 40, symbol("H"), symbol("W"))
    window: dict[str, Any] = {"pads": [2] * 4}
    y = in_blocks(lower_conv(tensor("x", shape, FLOAT32), constant(w), **window))
    assert is_in_parts(y)
    runner = Runner([y])
    for n, high, wide in ((1, 1, 1), (2, 9, 35)):
        x = numbers(n, 40, high, wide)
        found = runner.run({"x": x}, {"N": n, "H": high, "W": wide})[0]
        wanted = convolved(x, w, window)
        assert_near(found.reshape(wanted.shape), x, w, window)


def test_what_is_not_finite_among_them_stays_where_it_is() -> None:
    x, w = np.abs(numbers(1, 60, 16, 17)), np.abs(numbers(80, 60, 5, 5))
    x[0, 59, 15, 16] = np.inf
    window: dict[str, Any] = {"pads": [2] * 4}
    y = in_blocks(lower_conv(tensor("x", x.shape, FLOAT32), constant(w), **window))
    assert is_in_parts(y)
    wanted = np.zeros((16, 17), bool)
    wanted[13:, 14:] = True
    found = Runner([y]).run({"x": x})[0]
    np.testing.assert_array_equal(found[0, 5] == np.inf, wanted)


@pytest.mark.parametrize("channels", [3, LANES - 1])
def test_few_channels_are_not_worth_it(channels: int) -> None:
    x, w = numbers(1, channels, 16, 17), numbers(64, channels, 5, 5)
    y = in_blocks(lower_conv(tensor("x", x.shape, FLOAT32), constant(w), pads=[2] * 4))
    assert not is_in_parts(y)
