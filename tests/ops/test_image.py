from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fornix.dtype import UINT8
from fornix.errors import NotSupported, ShapeError
from fornix.ops.fact import unranked
from tests.ops.harness import check_node, infer_op, run_op

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)


def encoded(image: Any, kind: str, **options: Any) -> Any:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return np.frombuffer(stream.getvalue(), np.uint8)


@pytest.mark.parametrize("kind", ["BMP", "PNG", "TIFF", "PPM", "WEBP", "JPEG2000"])
def test_lossless_formats_give_their_pixels_back(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    stream = encoded(Image.fromarray(PIXELS), kind, **options)
    check_node("ImageDecoder", [stream], {}, expected=[PIXELS])
    check_node("ImageDecoder", [stream], {"pixel_format": "BGR"}, expected=[PIXELS[..., ::-1]])


def test_a_colour_image_becomes_grey_by_luma() -> None:
    image = Image.fromarray(PIXELS)
    wanted = np.asarray(image.convert("L"))[..., None]
    stream = encoded(image, "PNG")
    check_node("ImageDecoder", [stream], {"pixel_format": "Grayscale"}, expected=[wanted])


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_images_of_other_modes_become_three_channels(mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    [found] = run_op("ImageDecoder", [encoded(image, "PNG")])
    np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("stream", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0"])
def test_what_is_no_image_has_no_pixels(stream: bytes) -> None:
    [found] = run_op("ImageDecoder", [np.frombuffer(stream, np.uint8)])
    assert found.shape == (0, 0, 3)
    assert found.dtype == np.uint8


def test_an_image_cut_short_has_no_pixels() -> None:
    stream = encoded(Image.fromarray(PIXELS), "PNG")
    [found] = run_op("ImageDecoder", [stream[:-30]], {"pixel_format": "Grayscale"})
    assert found.shape == (0, 0, 1)


def test_an_image_of_suspicious_size_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    [found] = run_op("ImageDecoder", [encoded(Image.fromarray(PIXELS), "PNG")])
    assert found.shape == (0, 0, 3)


def test_without_pillow_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(NotSupported, match=r"needs Pillow, .* pip install 'fornix\[images\]'"):
        run_op("ImageDecoder", [np.zeros(3, np.uint8)])


def test_the_number_of_channels_is_inferred() -> None:
    [fact] = infer_op("ImageDecoder", [unranked(UINT8)], {"pixel_format": "Grayscale"})
    assert fact.dtype is UINT8
    assert (fact.rank, fact.shape[2]) == (3, 1)


def test_image_decoder_says_what_is_wrong() -> None:
    with pytest.raises(ShapeError, match="pixel_format must be among RGB, BGR, Grayscale, got 'C"):
        run_op("ImageDecoder", [np.zeros(3, np.uint8)], {"pixel_format": "CMYK"})
    with pytest.raises(ShapeError, match=r"encoded_stream must have one axis, found shape \[1, 3"):
        run_op("ImageDecoder", [np.zeros((1, 3), np.uint8)])
