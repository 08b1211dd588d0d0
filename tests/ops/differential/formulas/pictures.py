"""Sampling by torch, and the oldest forms of resizing, in double precision."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tests.ops.differential.refused import Refused

if TYPE_CHECKING:
    from tests.ops.differential.space import Case

Formula = Callable[["Case"], list[Any]]
OLD_NAMES = {"linear": "bilinear", "cubic": "bicubic"}


def grid_sample(case: Case) -> list[Any]:
    x, grid = case.inputs
    if x.dtype.kind in "Oc" or (x.dtype.kind in "iu" and x.dtype.itemsize == 8):
        raise Refused("no tensor of torch")
    given = case.attributes
    mode = given.get("mode", "bilinear")
    result = torch.nn.functional.grid_sample(
        torch.tensor(x.astype(np.float64)),
        torch.tensor(grid.astype(np.float64)),
        mode=OLD_NAMES.get(mode, mode),
        padding_mode=given.get("padding_mode", "zeros"),
        align_corners=bool(given.get("align_corners", 0)),
    )
    return [result.numpy().astype(x.dtype)]


def old_resize(case: Case) -> list[Any]:
    """Upsample and Resize-10: position i of the result is position i / scale of the data."""
    if case.name == "Resize" and case.opset > 10:
        return cropped(case)
    x, given = case.inputs[0], case.attributes
    scales = given.get("scales")
    if scales is None and len(case.inputs) > 1:
        scales = case.inputs[1].tolist()
    if scales is None:
        scales = [1.0, 1.0, given["height_scale"], given["width_scale"]]
    y = (
        x
        if x.dtype.kind in "Oc" or given.get("mode", "nearest") == "nearest"
        else x.astype(np.float64)
    )
    for axis, scale in enumerate(scales):
        size = int(np.floor(x.shape[axis] * scale))
        places = np.arange(size) / scale
        lower = np.minimum(np.floor(places + TINY).astype(int), x.shape[axis] - 1)
        if given.get("mode", "nearest") == "nearest":
            if case.name == "Resize" and scale < 1:  # what the peers take for nearest there
                lower = np.minimum(np.ceil(places - TINY).astype(int), x.shape[axis] - 1)
            y = np.take(y, lower, axis)
            continue
        upper = np.minimum(lower + 1, x.shape[axis] - 1)
        weight = (places - lower).reshape(-1, *[1] * (x.ndim - axis - 1))
        y = np.take(y, lower, axis) * (1 - weight) + np.take(y, upper, axis) * weight
    return [y.astype(x.dtype)]


def cropped(case: Case) -> list[Any]:
    """Resize with tf_crop_and_resize, mode nearest or linear: a region, axis by axis."""
    x, roi, scales, sizes = (*case.inputs, None)[:4]
    given = case.attributes
    mode = given.get("mode", "nearest")
    if given.get("coordinate_transformation_mode") != "tf_crop_and_resize" or mode == "cubic":
        raise Refused("the peers answer")
    if given.get("antialias") or (x.dtype.kind in "Oc" and mode != "nearest"):
        raise Refused("no such formula")
    axes = [a % x.ndim for a in given.get("axes", range(x.ndim))]
    y = x if mode == "nearest" else x.astype(np.float64)
    outside = np.zeros(1, bool)
    for k, axis in enumerate(axes):
        length, start, end = x.shape[axis], float(roi[k]), float(roi[len(axes) + k])
        # the text multiplies by end − start, which neither of the peers does
        scaled = length if sizes is not None else np.floor(length * float(scales[k]) + TINY)
        size = int(scaled if sizes is None else sizes[k])
        step = (end - start) * (length - 1) / (size - 1) if size > 1 else 0.0
        first = start * (length - 1) if size > 1 else 0.5 * (start + end) * (length - 1)
        places = first + np.arange(size) * step
        ends = (0, length - 1)
        if any((np.abs(places - end) < NEAR).any() for end in ends) or (
            (np.abs(places * 2 - np.rint(places * 2)) < NEAR).any() and mode == "nearest"
        ):
            raise Refused("a place lies between two elements, or at one, but for rounding")
        column = (-1, *[1] * (x.ndim - axis - 1))
        gone = (places < -TINY) | (places > length - 1 + TINY)
        outside = outside | gone.reshape(column)
        places = np.clip(places, 0, length - 1)
        if mode == "nearest":
            y = np.take(
                y,
                NEAREST[given.get("nearest_mode", "round_prefer_floor")](places).astype(int),
                axis,
            )
            continue
        lower = np.floor(places).astype(int)
        weight = (places - lower).reshape(column)
        upper = np.take(y, np.minimum(lower + 1, length - 1), axis)
        y = np.take(y, lower, axis) * (1 - weight) + upper * weight
    if outside.any() and x.dtype.kind == "O":
        raise Refused("strings have no extrapolation value")
    filler = np.asarray(given.get("extrapolation_value", 0.0)).astype(x.dtype)
    return [np.where(outside, filler, y.astype(x.dtype))]


NEAR = 1e-3
NEAREST: dict[str, Callable[[Any], Any]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


TINY = 1e-6
"""A float32 scale such as 0.6 is no tenth: positions that should be whole fall short of it."""


def image_decoder(case: Case) -> list[Any]:
    """Pixels of the files that the recipe writes, read back by their own rules."""
    data = case.inputs[0].tobytes()
    if data[:2] == b"BM":
        (begin,) = struct.unpack_from("<I", data, 10)
        width, height = struct.unpack_from("<ii", data, 18)
        stride = -(-width * 3 // 4) * 4
        rows = [data[begin + row * stride :][: width * 3] for row in reversed(range(height))]
        pixels = np.frombuffer(b"".join(rows), np.uint8).reshape(height, width, 3)[..., ::-1]
    elif data[:2] == b"P6":
        width, height = map(int, data.split(maxsplit=3)[1:3])
        pixels = np.frombuffer(data[-width * height * 3 :], np.uint8).reshape(height, width, 3)
    else:
        width, height = struct.unpack_from(">II", data, 16)
        (length,) = struct.unpack_from(">I", data, 33)
        rows_of_bytes = np.frombuffer(zlib.decompress(data[41 : 41 + length]), np.uint8)
        pixels = rows_of_bytes.reshape(height, -1)[:, 1:].reshape(height, width, 3)
    kind = case.attributes.get("pixel_format", "RGB")
    if kind == "Grayscale":  # ITU-R 601-2, in 16 bits as everybody does
        luma = pixels.astype(np.int64) @ np.array([19595, 38470, 7471])
        return [((luma + 0x8000) >> 16).astype(np.uint8)[..., None]]
    return [pixels[..., ::-1] if kind == "BGR" else pixels]


FORMULAS: dict[str, Formula] = {
    "GridSample": grid_sample,
    "ImageDecoder": image_decoder,
    "Resize": old_resize,
    "Upsample": old_resize,
}
