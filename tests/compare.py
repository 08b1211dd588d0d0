"""Comparison of values of every type of the standard: tensors, sequences, maps, optionals."""

from __future__ import annotations

from typing import Any

import numpy as np


def assert_same(found: Any, wanted: Any, *, rtol: float = 0.0, atol: float = 0.0) -> None:
    """Raise AssertionError unless both have one structure, dtype, shape and close elements.

    NaN equals NaN. With both tolerances 0 the elements must be equal.
    """
    if wanted is None or isinstance(wanted, (list, tuple, dict)):
        _assert_same_structure(found, wanted, rtol, atol)
        return
    if isinstance(wanted, (str, int, float)) and not isinstance(found, np.ndarray):
        found = np.asarray(found)  # an element of a map
    wanted = np.asarray(wanted)
    assert isinstance(found, np.ndarray), f"a tensor is required, found {type(found).__name__}"
    assert found.shape == wanted.shape, f"shape {wanted.shape} is required, found {found.shape}"
    if wanted.dtype.kind in "OUST":
        one, other = _strings(found), _strings(wanted)
        assert one == other, f"{other} is required, found {one}"
        return
    assert found.dtype == wanted.dtype, f"{wanted.dtype} is required, found {found.dtype}"
    if rtol or atol:
        exact = np.complex128 if wanted.dtype.kind == "c" else np.float64
        np.testing.assert_allclose(
            found.astype(exact), wanted.astype(exact), rtol=rtol, atol=atol, equal_nan=True
        )
    elif wanted.dtype.kind in "fV":  # NumPy does not know NaN of every dtype
        np.testing.assert_array_equal(found.astype(np.float64), wanted.astype(np.float64))
    else:
        np.testing.assert_array_equal(found, wanted)


def _assert_same_structure(found: Any, wanted: Any, rtol: float, atol: float) -> None:
    if wanted is None:
        assert found is None, f"None is required, found {found!r}"
        return
    if isinstance(wanted, dict):
        assert isinstance(found, dict)
        assert list(found) == list(wanted)
        found, wanted = list(found.values()), list(wanted.values())
    assert isinstance(found, list), f"a sequence is required, found {type(found).__name__}"
    assert len(found) == len(wanted), f"{len(wanted)} elements are required, found {len(found)}"
    for one, other in zip(found, wanted, strict=True):
        assert_same(one, other, rtol=rtol, atol=atol)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _strings(array: Any) -> list[str]:
    return [_text(value) for value in array.reshape(-1)]
