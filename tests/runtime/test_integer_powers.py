"""Integers to powers that a run tells: code takes short exponents, kernels all others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser

from fornix.runtime import InferenceSession

DTYPES = {"int64": np.int64, "int32": np.int32, "uint8": np.uint8}


def session(base: str, exponent: str) -> InferenceSession:
    return InferenceSession(
        parser.parse_model(
            f"""<ir_version: 8, opset_import: ["" : 20]>
            f ({base}[n] x, {exponent}[m] p) => ({base}[k] y) {{ y = Pow (x, p) }}"""
        )
    )


@pytest.mark.parametrize(("base", "exponent"), [("int64", "uint8"), ("int32", "int64")])
def test_exponents_of_any_size_wrap_around(
    base: str, exponent: str, rng: np.random.Generator
) -> None:
    found = session(base, exponent)
    for count, most in [(90, 3), (90, 64), (90, 65), (1, 40), (90, 255), (17, 64)]:
        x = rng.integers(-9, 9, 90 if count == 1 else count).astype(DTYPES[base])
        powers = rng.integers(0, most, count).astype(DTYPES[exponent])
        powers[-1] = most - 1
        wanted = np.power(x, powers.astype(x.dtype))
        assert np.array_equal(found.run(None, {"x": x, "p": powers})[0], wanted)


def test_exponents_below_zero_and_beyond_short_ones() -> None:
    x = np.array([2, -1, -1, 1, 3, 0], np.int64)
    powers = np.array([-1, -3, 1 << 40, -(1 << 60), 2, 64], np.int64)
    found: Any = session("int64", "int64")
    for _ in range(2):
        assert found.run(None, {"x": x, "p": powers})[0].tolist() == [0, -1, 1, 1, 9, 0]
