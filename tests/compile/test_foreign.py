"""Code for a processor that this one is not."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.compile import Target
from fornix.compile.compiler import write_all
from fornix.compile.link import compile_object
from fornix.dtype import FLOAT32, INT64
from fornix.errors import Fail
from fornix.ir.dim import symbol
from fornix.ir.loops import Tensor, compute, constant, gathered, reduce, tensor
from fornix.ir.loops.tensor import stored
from fornix.ops import scalar as s
from tests.compile import foreign
from tests.compile.native import check

is_emulated = pytest.mark.skipif(not foreign.IS_HERE, reason="no emulator of ARM, or no compiler")
N = symbol("n", least=1)
X = tensor("x", (N, 20), FLOAT32)
W = constant(np.random.default_rng(1).standard_normal((20, 33)).astype(np.float32), "w")
ELF_MACHINE, AARCH64 = 18, 183
"""Where object files name their processor, and the number of 64-bit ARM. Source: ELF for ARM."""


def product() -> Tensor:
    return compute((N, 33), lambda i, j: s.exp(reduce("sum", 20, lambda k: X[i, k] * W[k, j])))


def test_code_for_arm_is_made_anywhere() -> None:
    for w in write_all([stored(product())], Target.aarch64()):
        content = compile_object(w.code.text, Target.aarch64())
        assert content[:4] == b"\x7fELF"
        assert int.from_bytes(content[ELF_MACHINE : ELF_MACHINE + 2], "little") == AARCH64


@is_emulated
def test_code_for_arm_computes_the_same() -> None:
    feeds = {"x": np.random.default_rng(0).standard_normal((7, 20)).astype(np.float32)}
    check(product(), feeds, {"n": 7}, target=Target.aarch64(), chunks=3)


@is_emulated
def test_code_for_arm_checks_what_data_can_get_wrong() -> None:
    at = tensor("at", (3,), INT64)
    y = compute((3, 20), lambda i, j: X[gathered(at[i], N), j])
    data = np.zeros((4, 20), np.float32)
    with pytest.raises(Fail, match="index"):
        check(y, {"x": data, "at": np.array([0, 9, 1])}, {"n": 4}, target=Target.aarch64())
