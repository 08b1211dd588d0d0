from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from fornix.errors import ShapeError
from tests.ops.harness import check_inference, check_lowering, run_op

rng = np.random.default_rng(31)
WHERE: dict[str, Any] = {"domain": "com.microsoft", "opset": 1}


def normal(*shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


def check(name: str, inputs: list[Any], flags: dict[str, Any], wanted: list[Any]) -> None:
    """The kernel gives what is ``wanted``, inference its shape and loops the same."""
    count = len(wanted)
    found = run_op(name, inputs, flags, outputs=count, **WHERE)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    check_inference(name, inputs, flags, found, outputs=count, **WHERE)
    check_lowering(name, inputs, flags, outputs=count, symbolic=False, **WHERE)


def first(x: Any) -> Any:
    return torch.from_numpy(x).movedim(-1, 1)


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("has_bias", [False, True])
def test_images_are_convolved_as_torch_does(group: int, has_bias: bool) -> None:
    x, w, b = normal(2, 5, 7, 4), normal(6, 3, 2, 4 // group), normal(6)
    flags = {"group": group, "strides": [2, 1], "pads": [1, 1, 1, 1]}
    bias = torch.from_numpy(b) if has_bias else None
    y = functional.conv2d(first(x), first(w), bias, (2, 1), 1, groups=group)
    inputs = [x, w, b] if has_bias else [x, w]
    check("NhwcConv", inputs, flags, [y.movedim(1, -1).numpy()])


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("skipped", ["image", "places", "rows"])
@pytest.mark.parametrize("has_bias", [False, True])
def test_what_is_added_is_normalized_as_torch_does(last: int, skipped: str, has_bias: bool) -> None:
    x, gamma, beta, bias = normal(2, 6, 4, 5), normal(6), normal(6), normal(6)
    skip = normal(*(x.shape if skipped == "image" else (2, 6, 1, 1)))
    total = x + skip + (bias.reshape(6, 1, 1) if has_bias else 0)
    y = functional.group_norm(
        torch.from_numpy(total), 3, torch.from_numpy(gamma), torch.from_numpy(beta)
    )
    wanted = [functional.silu(y).numpy(), total]
    if last:
        x, skip, *wanted = (np.moveaxis(one, 1, -1) for one in (x, skip, *wanted))
    skip = skip.reshape(2, 6) if skipped == "rows" else skip
    inputs = [x, gamma, beta, skip, *([bias] if has_bias else [])]
    check("SkipGroupNorm", inputs, {"groups": 3, "activation": 1, "channels_last": last}, wanted)


def test_a_residual_and_a_bias_are_added() -> None:
    x, bias, skip = normal(2, 3, 4), normal(4), normal(2, 3, 4)
    check("BiasAdd", [x, bias, skip], {}, [x + bias + skip])


def test_the_second_half_gates_the_first_as_in_torch() -> None:
    x, bias = normal(2, 3, 8), normal(8)
    left, right = torch.from_numpy(x + bias).chunk(2, dim=-1)
    check("BiasSplitGelu", [x, bias], {}, [(left * functional.gelu(right)).numpy()])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="X must have an even number of columns, got 3"):
        run_op("BiasSplitGelu", [normal(1, 2, 3), normal(3)], {}, **WHERE)
    with pytest.raises(ShapeError, match=r"bias must be bias\[4\], got bias\[2\]"):
        run_op("BiasSplitGelu", [normal(1, 2, 4), normal(2)], {}, **WHERE)
    x, gamma = normal(1, 2, 2, 4), normal(4)
    flags = {"groups": 2, "activation": 0}
    with pytest.raises(ShapeError, match=r"skip must have 2 axes or those of X, 4, got skip\[4\]"):
        run_op("SkipGroupNorm", [x, gamma, gamma, gamma], flags, **WHERE)
    with pytest.raises(ShapeError, match=r"must broadcast to the first input's \[1, 2, 2, 4\]"):
        run_op("SkipGroupNorm", [x, gamma, gamma, normal(1, 3)], flags, **WHERE)
