"""Models whose programs are kept: how tests make them, and sessions that recall them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import parser

from fornix.compile import program
from fornix.ir.files import load
from fornix.runtime import InferenceSession
from fornix.runtime.stored import kept


def use_cache(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let this process use the cache in ``folder``, and know nothing from others."""
    patch.setenv("FORNIX_CACHE", str(folder))
    program.memo.cache_clear()
    program.support.cache_clear()
    kept._OPEN.clear()


def write(path: Path, text: str) -> Path:
    """A file with the model that ``text`` says."""
    path.write_bytes(parser.parse_model(text).SerializeToString())
    return path


def is_recalled(session: InferenceSession) -> bool:
    """Whether another process made the program."""
    return session._programs is not None and session._programs.is_recalled


def recalled(path: Path) -> InferenceSession:
    """A session whose program was kept by one before it."""
    kept._OPEN.clear()
    session = InferenceSession(path)
    assert is_recalled(session)
    return session


def fresh(path: Path) -> InferenceSession:
    """A session of its own making: models in the IR have no place on the shelf."""
    session = InferenceSession(load(path))
    assert not is_recalled(session)
    return session


def assert_same(one: Any, other: Any) -> None:
    """Results are the same, to the bit."""
    assert type(one) is type(other)
    if isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, dict):
        assert_same(list(one.items()), list(other.items()))
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other
