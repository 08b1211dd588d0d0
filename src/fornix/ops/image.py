"""ImageDecoder, through Pillow: an extra that is imported when a model decodes its first image."""

from __future__ import annotations

import io
import warnings

import numpy as np

from fornix.dtype import UINT8
from fornix.errors import NotSupported, require
from fornix.ops.call import InferNode
from fornix.ops.fact import Array, Fact, tensor
from fornix.ops.geometry import shape_text
from fornix.ops.op import op
from fornix.ops.types import U8

FORMATS = ("BMP", "JPEG", "JPEG2000", "TIFF", "PNG", "WEBP", "PPM")
"""Pillow's names of the formats that the standard lists; nothing else is tried."""

PIXELS = {"RGB": ("RGB", 3), "BGR": ("RGB", 3), "Grayscale": ("L", 1)}
"""For each pixel_format, Pillow's mode and the number of channels."""

ImageDecoder = op(
    """ImageDecoder <pixel_format: string = "RGB"> (encoded_stream: T1) => (image: T2)""",
    since=20, T1=U8, T2=U8,
).opaque("a file format is decoded by a library")  # fmt: skip


@ImageDecoder.infer
def infer_image_decoder(
    encoded_stream: Fact, *, pixel_format: str = "RGB", node: InferNode
) -> Fact:
    _check_format(pixel_format)
    extents = [node.unknown("the size of an encoded image") for _ in range(2)]
    return tensor(UINT8, (*extents, PIXELS[pixel_format][1]))


def _check_format(pixel_format: str) -> None:
    require(
        pixel_format in PIXELS,
        f"pixel_format must be among {', '.join(PIXELS)}, got {pixel_format!r}",
    )


@ImageDecoder.kernel
def image_decoder(encoded_stream: Array, *, pixel_format: str = "RGB") -> Array:
    """The pixels of an encoded image: BMP, JPEG, JPEG 2000, TIFF, PNG, WebP or PNM.

    encoded_stream[bytes] → image[height, width, 3], channels in the order RGB or BGR, or [..., 1]
    for Grayscale. What cannot be decoded gives an image without pixels. Needs Pillow, the extra
    ``fornix[images]``. Source: ONNX ImageDecoder-20.
    """
    _check_format(pixel_format)
    require(
        encoded_stream.ndim == 1,
        f"encoded_stream must have one axis, found shape {shape_text(encoded_stream.shape)}",
    )
    mode, channels = PIXELS[pixel_format]
    image = _decode(encoded_stream.tobytes(), mode)
    if image is None:
        return np.zeros((0, 0, channels), np.uint8)
    pixels: Array = image.reshape(*image.shape[:2], channels)
    return pixels[..., ::-1] if pixel_format == "BGR" else pixels


def _decode(data: bytes, mode: str) -> Array | None:
    """The image as an array, or None where Pillow finds none, or one of a suspicious size."""
    try:
        from PIL import Image  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise NotSupported(
            "decoding images needs Pillow, which is not installed; pip install 'fornix[images]'"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return np.asarray(image.convert(mode))
    except Exception:  # noqa: BLE001 - whatever a decoder raises, the standard wants no pixels
        return None
