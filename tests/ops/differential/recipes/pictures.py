"""Recipes of resizing, sampling, boxes and signals."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any
from zlib import compress, crc32

import numpy as np

from tests.ops.differential.draw import Arguments, Draw
from tests.ops.differential.recipes.places import int64

Recipe = Callable[[Draw], Arguments]

SCALES = (0.5, 0.7, 1.0, 1.0, 1.5, 2.0, 2.4, 3.0)
TRANSFORMATIONS = (
    "half_pixel",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
)


def resize(draw: Draw) -> Arguments:
    variable = draw.schema.inputs[0].type_text
    is_number = draw.dtype(variable).is_float
    mode = draw.pick(("nearest", "nearest", "linear", "cubic"))
    if not is_number or (draw.opset == 10 and mode == "cubic"):
        mode = "nearest"
    rank = 4 if mode == "cubic" else draw.whole(3, 4)
    shape = (1, draw.whole(1, 2), *(draw.whole(1, 5) for _ in range(rank - 2)))
    axes = list(range(rank))
    given: dict[str, Any] = {"mode": mode}
    if draw.has("axes") and draw.chance(0.4):
        axes = [2, 3][: rank - 2]
        given["axes"] = [a - rank if draw.chance(0.3) else a for a in axes]
    scales = [1.0 if a < 2 else draw.pick(SCALES) for a in axes]
    x = draw.weights(variable, shape) if is_number else draw.array(variable, shape)
    if draw.opset == 10:
        return Arguments([x, np.asarray(scales, np.float32)], given)
    given |= resize_attributes(draw, mode)
    roi = None
    if given["coordinate_transformation_mode"] == "tf_crop_and_resize":
        bounds = [0.0 if a < 2 else draw.pick((0.0, 0.2, -0.1)) for a in axes]
        bounds += [1.0 if a < 2 else draw.pick((1.0, 0.7, 1.2)) for a in axes]
        roi = np.asarray(bounds, draw.dtype("T2").numpy)
        given["keep_aspect_ratio_policy"] = None
    no_roi = None if draw.opset >= 13 else np.zeros(0, draw.dtype("T2").numpy)
    roi = no_roi if roi is None else roi
    if draw.chance():
        given["keep_aspect_ratio_policy"] = None
        return Arguments([x, roi, np.asarray(scales, np.float32)], given)
    sizes = [max(1, int(shape[a] * s)) for a, s in zip(axes, scales, strict=True)]
    if given.get("keep_aspect_ratio_policy"):
        given["axes"], sizes = [2, 3][: rank - 2], sizes[-(rank - 2) :]
    scales_input = None if draw.opset >= 13 else np.zeros(0, np.float32)
    return Arguments([x, roi, scales_input, int64(sizes)], given)


def resize_attributes(draw: Draw, mode: str) -> dict[str, Any]:
    given: dict[str, Any] = {}
    modes = [*TRANSFORMATIONS, *(["half_pixel_symmetric"] if draw.opset >= 19 else [])]
    given["coordinate_transformation_mode"] = draw.pick(modes)
    if mode == "nearest":
        rules = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
        given["nearest_mode"] = draw.pick((None, *rules))
    if mode == "cubic":
        given["cubic_coeff_a"] = draw.pick((None, -0.5))
        given["exclude_outside"] = draw.pick((None, 0, 1))
    given["extrapolation_value"] = draw.pick((None, 1.5))
    if mode != "nearest" and draw.chance(0.3):
        given["antialias"] = 1
    given["keep_aspect_ratio_policy"] = draw.pick((None, None, "not_larger", "not_smaller"))
    if draw.opset < 18:
        given["keep_aspect_ratio_policy"] = None
    return given


def upsample(draw: Draw) -> Arguments:
    shape = (1, draw.whole(1, 2), draw.whole(1, 4), draw.whole(1, 4))
    mode = draw.pick(("nearest", "linear" if draw.opset > 1 else "bilinear"))
    if not draw.dtype("T").is_float:
        mode = "nearest"
    height, width = draw.pick((1.0, 2.0, 3.0)), draw.pick((1.0, 2.0, 1.5))
    x = draw.weights("T", shape) if draw.dtype("T").is_float else draw.array("T", shape)
    scales = [1.0, 1.0, height, width]
    given: dict[str, Any] = {"mode": mode, "height_scale": height, "width_scale": width}
    given["scales"] = scales
    return Arguments([x, np.asarray(scales, np.float32)], given)


def grid_sample(draw: Draw) -> Arguments:
    n, c = draw.whole(1, 2), draw.whole(1, 2)
    rank = 2 if draw.opset < 20 else draw.pick((2, 2, 3))
    spatial = [draw.whole(1, 5) for _ in range(rank)]
    out = [draw.whole(1, 3) for _ in range(rank)]
    linear, cubic = ("bilinear", "bicubic") if draw.opset < 20 else ("linear", "cubic")
    mode = draw.pick(("nearest", linear, cubic if rank == 2 else linear))
    if not draw.dtype("T1").is_float:
        mode = "nearest"
    grid = draw.rng.uniform(-1.3, 1.3, (n, *out, rank)).astype(draw.dtype("T2").numpy)
    given = {
        "mode": mode,
        "padding_mode": draw.pick((None, "zeros", "border", "reflection")),
        "align_corners": draw.pick((None, 0, 1)),
    }
    return Arguments([draw.weights("T1", (n, c, *spatial)), grid], given)


def affine_grid(draw: Draw) -> Arguments:
    rank = draw.whole(2, 3)
    n = draw.whole(1, 2)
    size = [n, draw.whole(1, 2), *(draw.whole(1, 3) for _ in range(rank))]
    theta = draw.weights("T1", (n, rank, rank + 1))
    return Arguments([theta, int64(size)], {"align_corners": draw.pick((None, 0, 1))})


def roi_align(draw: Draw) -> Arguments:
    n, c, h, w = draw.whole(1, 2), draw.whole(1, 2), draw.whole(2, 6), draw.whole(2, 6)
    count = draw.whole(1, 3)
    low = draw.rng.uniform(-1, 3, (count, 2))
    rois = np.concatenate([low, low + draw.rng.uniform(0.2, 4, (count, 2))], 1)
    given = {
        "mode": draw.pick((None, "avg", "max")),
        "output_height": draw.whole(1, 3),
        "output_width": draw.whole(1, 3),
        "sampling_ratio": draw.whole(0, 3),
        "spatial_scale": draw.pick((None, 1.0, 0.5)),
        "coordinate_transformation_mode": draw.pick((None, "half_pixel", "output_half_pixel")),
    }
    where = draw.rng.integers(0, n, count)
    x = draw.weights("T1", (n, c, h, w))
    return Arguments([x, rois.astype(draw.dtype("T1").numpy), where], given)


def non_max_suppression(draw: Draw) -> Arguments:
    batch, classes, count = draw.whole(1, 2), draw.whole(1, 2), draw.whole(1, 6)
    low = draw.rng.uniform(0, 1, (batch, count, 2))
    boxes = np.concatenate([low, low + draw.rng.uniform(-0.2, 1, (batch, count, 2))], -1)
    is_center = draw.pick((None, 0, 1))
    if is_center:
        boxes[..., 2:] = np.abs(boxes[..., 2:])
    scores = draw.rng.permutation(batch * classes * count).reshape(batch, classes, count) / 20
    most = draw.pick((None, np.array(draw.whole(0, 4)), int64([draw.whole(1, 4)])))
    overlap = draw.maybe(lambda: np.array([draw.real(0, 1)], np.float32))
    least = draw.maybe(lambda: np.array([draw.real(0, 0.5)], np.float32))
    inputs = [boxes.astype(np.float32), scores.astype(np.float32), most, overlap, least]
    return Arguments(inputs, {"center_point_box": is_center})


def dft(draw: Draw) -> Arguments:
    rank = draw.whole(2, 4)
    shape = [draw.whole(1, 5) for _ in range(rank - 1)]
    onesided = draw.pick((None, 0, 1))
    inverse = draw.pick((None, 0, 1)) if not onesided else None
    shape.append(1 if onesided else draw.pick((1, 2)))
    axis = draw.pick([a for a in range(rank - 1) if a or rank == 2])
    length = draw.maybe(lambda: np.asarray(draw.whole(1, 7), draw.dtype("T2").numpy))
    given = {"onesided": onesided, "inverse": inverse}
    x = draw.weights("T1", shape)
    if draw.has("axis"):
        return Arguments([x, length], given | {"axis": axis})
    return Arguments([x, length, int64(axis)], given)


def stft(draw: Draw) -> Arguments:
    length = draw.whole(4, 12)
    frame, step = draw.whole(2, 4), draw.whole(1, 3)
    onesided = draw.pick((None, 0, 1))
    signal = draw.weights("T1", (draw.whole(1, 2), length, 1))
    size = np.asarray(frame, draw.dtype("T2").numpy)
    window = draw.maybe(lambda: draw.weights("T1", (frame,)))
    frames = None if window is not None and draw.chance() else size
    step_input = np.asarray(step, draw.dtype("T2").numpy)
    return Arguments([signal, step_input, window, frames], {"onesided": onesided})


def mel(draw: Draw) -> Arguments:
    whole, real = draw.dtype("T1").numpy, draw.dtype("T2").numpy
    rate = draw.pick((8000, 16000))
    low, high = draw.pick((0, 100)), draw.pick((2000, 3500))
    numbers = (draw.whole(2, 8), draw.pick((16, 64)), rate)
    inputs = [np.asarray(n, whole) for n in numbers] + [np.asarray(n, real) for n in (low, high)]
    return Arguments(inputs, {"output_datatype": draw.pick((None, 1, 11))})


def bitmap(pixels: Any) -> bytes:
    """Pixels[H, W, 3] as a BMP: rows from below, blue first, filled up to words."""
    height, width, _ = pixels.shape
    rows = [row[:, ::-1].tobytes().ljust(-(-width * 3 // 4) * 4, b"\0") for row in pixels[::-1]]
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    begin = 14 + len(head)
    body = b"".join(rows)
    return struct.pack("<2sIHHI", b"BM", begin + len(body), 0, 0, begin) + head + body


def pixmap(pixels: Any) -> bytes:
    """Pixels[H, W, 3] as a binary PPM."""
    height, width, _ = pixels.shape
    return b"P6 %d %d 255\n" % (width, height) + pixels.tobytes()


def network_graphic(pixels: Any) -> bytes:
    """Pixels[H, W, 3] as a PNG whose rows are not filtered."""
    height, width, _ = pixels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    parts = ((b"IHDR", head), (b"IDAT", compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def image_decoder(draw: Draw) -> Arguments:
    pixels = draw.rng.integers(0, 256, (draw.whole(1, 4), draw.whole(1, 5), 3), np.uint8)
    encoded = draw.pick((bitmap, pixmap, network_graphic))(pixels)
    given = {"pixel_format": draw.pick((None, "RGB", "BGR", "Grayscale"))}
    return Arguments([np.frombuffer(encoded, np.uint8)], given)


RECIPES: dict[str, Recipe] = {
    "AffineGrid": affine_grid,
    "DFT": dft,
    "GridSample": grid_sample,
    "ImageDecoder": image_decoder,
    "MelWeightMatrix": mel,
    "NonMaxSuppression": non_max_suppression,
    "Resize": resize,
    "RoiAlign": roi_align,
    "STFT": stft,
    "Upsample": upsample,
}
