"""Pictures as feeds: read with Pillow, an extra, scaled and laid out as an input declares.

Decides which axes are channels, height and width, and what becomes of pixels; `fornix run --help`
says so in its own words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fornix.cast import convert
from fornix.cli.dims import Dims
from fornix.dtype import FLOAT32, UINT8, DType
from fornix.errors import FormatError, InvalidArgument, NoSuchFile, NotSupported
from fornix.ir.graph import Value
from fornix.ir.types import TensorType

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

MODES = {1: "L", 3: "RGB"}
"""What Pillow calls pictures by their number of channels."""


@dataclass(frozen=True)
class Layout:
    """Where a tensor has its channels, and what size of picture it takes; None: any."""

    rank: int
    channel_axis: int | None
    channels: int
    height: int | None
    width: int | None

    @classmethod
    def of(cls, value: Value, dims: Dims) -> Layout:
        """The layout of an input; raises InvalidArgument if no picture fits it."""
        declared = value.type
        shape = declared.shape if isinstance(declared, TensorType) else None
        if shape is None or not 2 <= len(shape) <= 4:
            raise unfit(
                value,
                "takes no picture: [N, C, H, W], [N, H, W, C], [C, H, W], [H, W, C] "
                "or [H, W] is required",
            )
        found = [dims.extent(dim) for dim in shape]
        rank = len(found)
        if rank == 2:
            return cls(rank, None, 1, found[0], found[1])
        first, last = rank - 3, rank - 1
        if found[first] not in MODES and found[last] in MODES:
            return cls(rank, last, found[last] or 3, found[first], found[first + 1])
        if found[first] is not None and found[first] not in MODES:
            raise unfit(value, "takes no picture: 1 or 3 channels are required")
        return cls(rank, first, found[first] or 3, found[first + 1], found[last])


def unfit(value: Value, reason: str) -> InvalidArgument:
    """The error for an input that no picture fits."""
    return InvalidArgument(f"input '{value.name}' is {value.type} and {reason}")


def read(path: str, value: Value, dims: Dims) -> Any:
    """The picture at ``path`` as a feed for ``value``, one of a batch if it has a batch axis."""
    layout = Layout.of(value, dims)
    dtype = getattr(value.type, "dtype", None)
    if dtype is None or not (dtype.is_float or dtype is UINT8):
        raise unfit(value, "takes no picture: floats or uint8 are required")
    pixels = load(path, layout)
    if layout.channel_axis is not None:
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        if layout.channel_axis == layout.rank - 3:
            pixels = np.moveaxis(pixels, -1, 0)
    if layout.rank == 4:
        pixels = pixels[None]
    return scaled(np.ascontiguousarray(pixels), dtype)


def scaled(pixels: Any, dtype: DType) -> Any:
    """Pixels from 0 to 255 as ``dtype``: as they are, or as fractions of 255."""
    if dtype is UINT8:
        return pixels
    return convert(pixels.astype(FLOAT32.numpy) / np.float32(255), dtype)


def load(path: str, layout: Layout) -> Any:
    """The picture at ``path`` as uint8[H, W] or uint8[H, W, 3], upright, of the layout's size."""
    image_module, operations = pillow(path)
    try:
        with image_module.open(path) as opened:
            image = operations.exif_transpose(opened)
            if image.mode.startswith("I"):  # 16 bits, which Pillow would clip
                image = image_module.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            image = image.convert(MODES[layout.channels])
            size = (layout.width or image.width, layout.height or image.height)
            if size != image.size:
                image = image.resize(size, image_module.Resampling.BILINEAR)
            return np.asarray(image)
    except FileNotFoundError as error:
        raise NoSuchFile(f"{path}: a file is required, found none") from error
    except (OSError, SyntaxError, ValueError, image_module.DecompressionBombError) as error:
        raise FormatError(f"{path}: a picture is required: {error}") from error


def pillow(path: str) -> tuple[Any, Any]:
    """Pillow's modules; raises NotSupported without it."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise NotSupported(
            f"{path}: reading pictures needs Pillow; pip install 'fornix[images]'"
        ) from error
    return Image, ImageOps


def batch(one: Any, other: Any, name: str) -> Any:
    """Two feeds of pictures as one; raises InvalidArgument if they do not fit together."""
    if getattr(one, "ndim", 0) != 4 or one.shape[1:] != other.shape[1:]:
        raise InvalidArgument(
            f"input '{name}': pictures of one size and a batch axis are required, found "
            f"{list(np.shape(one))} and {list(other.shape)}"
        )
    return np.concatenate([one, other])
