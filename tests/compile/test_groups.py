"""Normalization over groups of channels, compiled."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fornix.dtype import FLOAT32
from fornix.ir.dim import DimLike, symbol
from fornix.ir.loops import tensor
from fornix.ops.group_norm import lower_group_normalization
from tests.compile.native import Runner

N, H = symbol("N"), symbol("H")


@pytest.mark.parametrize(("groups", "kernels"), [(1, 3), (2, 3), (4, 1), (24, 1)])
def test_sums_of_large_groups_are_taken_once_for_all_their_channels(
    groups: int, kernels: int
) -> None:
    rng = np.random.default_rng(groups)
    s, b = (rng.standard_normal(24).astype(np.float32) for _ in range(2))
    x, scale, bias = (
        tensor(name, shape, FLOAT32)
        for name, shape in (("x", (N, 24, H, 5)), ("s", (24,)), ("b", (24,)))
    )
    runner = Runner([lower_group_normalization(x, scale, bias, num_groups=groups)], chunks=2)
    assert len(runner.kernels) == kernels
    for n, h in ((1, 1), (2, 7), (3, 4)):
        data = rng.standard_normal((n, 24, h, 5)).astype(np.float32)
        (found,) = runner.run({"x": data, "s": s, "b": b}, {"N": n, "H": h})
        given = (torch.from_numpy(a.astype(np.float64)) for a in (data, s, b))
        image, *factors = given
        wanted = torch.nn.functional.group_norm(image, groups, *factors).numpy()
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "kernels"),
    [((1, 24, 4, 5), 1), ((2, 24, 4, 5), 3), ((N, 24, 4, 5), 3), ((1, 24, H, 5), 3)],
)
def test_one_group_is_a_row_where_it_is_all_there_is_and_of_known_length(
    shape: tuple[DimLike, ...], kernels: int
) -> None:
    x, s, b = (tensor(n, d, FLOAT32) for n, d in (("x", shape), ("s", (24,)), ("b", (24,))))
    runner = Runner([lower_group_normalization(x, s, b, num_groups=1)], chunks=2)
    assert len(runner.kernels) == kernels
