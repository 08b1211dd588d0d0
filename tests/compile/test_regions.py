from __future__ import annotations

import numpy as np
import pytest

from fornix import InferenceSession, SessionOptions
from fornix.dtype import FLOAT16, FLOAT32, FLOAT64, INT64, DType
from fornix.errors import Fail
from fornix.ir.dim import symbol
from fornix.ir.loops import tensor
from fornix.onnx import parser
from fornix.ops.boxes import lower_roi_align
from fornix.ops.indexed_pool import lower_max_roi_pool
from tests.compile.levels import LEVELS, target
from tests.compile.native import check
from tests.ops.harness import check_lowering

R, H, W = (symbol(name, least=1) for name in "RHW")
SYMBOLS = {"R": 7, "H": 6, "W": 9}
rng = np.random.default_rng(5)


def image(channels: int, dtype: DType) -> np.ndarray:
    x = rng.standard_normal((2, channels, 6, 9)).astype(dtype.numpy)
    x[0, 0, 2, 3] = np.nan
    return x


def regions(dtype: DType) -> np.ndarray:
    """Some reach beyond the image, some are the wrong way round."""
    return rng.uniform(-5, 16, (7, 4)).astype(dtype.numpy)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("dtype", [FLOAT16, FLOAT32, FLOAT64])
@pytest.mark.parametrize(("channels", "chunks", "ratio"), [(35, 1, 0), (35, 3, 0), (3, 2, 2)])
def test_regions_have_as_many_samples_as_they_need_or_are_given(
    channels: int, chunks: int, ratio: int, dtype: DType, mode: str, level: str
) -> None:
    x, rois = tensor("x", (2, channels, H, W), dtype), tensor("rois", (R, 4), dtype)
    images = tensor("images", (R,), INT64)
    y = lower_roi_align(
        x, rois, images, mode=mode, output_height=2, output_width=3, sampling_ratio=ratio
    )
    feeds = {"x": image(channels, dtype), "rois": regions(dtype), "images": np.arange(7) % 2}
    check(y, feeds, SYMBOLS, target=target(level), chunks=chunks)


@pytest.mark.parametrize("far", [np.inf, -np.inf, np.nan, 1e30])
def test_samples_without_end_or_number_lie_outside(far: float) -> None:
    rois = np.array([[0, 0, far, 5], [far, 0, 4, 5]], np.float32)
    inputs = [np.ones((1, 3, 6, 9), np.float32), rois, np.zeros(2, np.int64)]
    bins = {"output_height": 2, "output_width": 3, "sampling_ratio": 2}
    check_lowering("RoiAlign", inputs, bins)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [FLOAT16, FLOAT32, FLOAT64])
def test_cells_of_regions_have_maxima(dtype: DType, level: str) -> None:
    x, rois = tensor("x", (2, 3, H, W), dtype), tensor("rois", (R, 5), dtype)
    y = lower_max_roi_pool(x, rois, pooled_shape=[3, 2], spatial_scale=0.75)
    numbered = np.concatenate([np.arange(7)[:, None] % 2, regions(dtype)], axis=1).astype(
        dtype.numpy
    )
    check(y, {"x": image(3, dtype), "rois": numbered}, SYMBOLS, target=target(level), chunks=2)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("wrong", [0, 999])
def test_numbers_of_images_that_do_not_exist_are_not_read(wrong: int, threads: int) -> None:
    """Another thread goes on when a check has failed, and takes no such number for a place."""
    model = parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 16]>'
        "g (float[N,4,9,9] x, float[R,4] rois, int64[R] images) => (float[R,4,2,2] y)"
        "{ y = RoiAlign <output_height = 2, output_width = 2> (x, rois, images) }"
    )
    session = InferenceSession(model, SessionOptions(intra_op_num_threads=threads))
    x, images = np.ones((2, 4, 9, 9), np.float32), np.zeros(1000, np.int64)
    rois = np.tile(np.array([0, 0, 8, 8], np.float32), (1000, 1))
    feeds = {"x": x, "rois": rois, "images": images}
    assert (session.run(None, feeds)[0] == 1).all()
    images[wrong] = 10**12
    with pytest.raises(Fail, match=r"batch_indices must be in \[0, 1\], got \[1000000000000\]"):
        session.run(None, feeds)
