"""An operator of one's own: a function with NumPy, then compiled together with its neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import fornix
from fornix.ir.loops import Tensor, compute
from fornix.onnx.parser import parse_model

if TYPE_CHECKING:
    from numpy.typing import NDArray


@fornix.op("demo::SoftClip <low: float = 0.0> (x: T[..., N]) => (y: T[..., N])", T="float, double")
def soft_clip(x: NDArray[Any], *, low: float) -> NDArray[Any]:
    """``x``, of which what is below ``low`` counts a tenth."""
    return np.where(x < low, low + (x - low) / 10, x).astype(x.dtype)


MODEL = """
    <ir_version: 10, opset_import: ["": 22, "demo": 1]>
    example (float[N, 4] x) => (float[N, 4] y) {
        a = Neg (x)
        b = demo.SoftClip <low: float = -1.0> (a)
        y = Exp (b)
    }"""


def tell(session: fornix.InferenceSession) -> None:
    for place in session.placement():
        where = f"compiled in {', '.join(place.kernels)}" if place.kernels else place.reason
        print(f"  {place.op_type}: {where}")


model = parse_model(MODEL)
x = np.linspace(-2, 4, 8, dtype=np.float32).reshape(2, 4)
print("in NumPy")
session = fornix.InferenceSession(model)
tell(session)
(expected,) = session.run(None, {"x": x})


@soft_clip.lower
def lower_soft_clip(x: Tensor, *, low: float) -> Tensor:
    from fornix.ops.scalar import less, where

    return compute(
        x.shape, lambda *i: where(less(x[i], low), (x[i] - low) * 0.1 + low, x[i]), x.dtype
    )


print("compiled")
session = fornix.InferenceSession(model)
tell(session)
(y,) = session.run(None, {"x": x})
np.testing.assert_allclose(y, expected, rtol=1e-6)
print(y)

try:
    soft_clip(x.astype(np.int32))
except fornix.FornixError as error:
    print("checked:", error)
