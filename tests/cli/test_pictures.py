from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fornix.cli.dims import Dims
from fornix.cli.pictures import read
from fornix.dtype import DType
from fornix.errors import FormatError, InvalidArgument, NoSuchFile, NotSupported
from fornix.ir.dim import symbol
from fornix.ir.graph import Value
from fornix.ir.types import SequenceType, TensorType
from tests.cli.command import DIGITS, call, model

PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3


def value(*shape: int | str | None, dtype: str = "float32") -> Value:
    dims = tuple(symbol(dim) if isinstance(dim, str) else dim for dim in shape)
    return Value("x", TensorType(DType.of(dtype), dims))


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "picture.png"
    Image.fromarray(PIXELS).save(path)
    return str(path)


def fed(path: str, taken: Value, **dims: int) -> Any:
    return read(path, taken, Dims(dims))


LAYOUTS = [
    (("N", 3, 4, 6), (1, 3, 4, 6)),
    (("N", "C", "H", "W"), (1, 3, 4, 6)),
    (("N", 3, None, None), (1, 3, 4, 6)),
    (("N", 4, 6, 3), (1, 4, 6, 3)),
    (("N", "H", "W", 3), (1, 4, 6, 3)),
    ((3, 4, 6), (3, 4, 6)),
    ((4, 6, 3), (4, 6, 3)),
    ((1, 1, 4, 6), (1, 1, 4, 6)),
    ((1, 4, 6, 1), (1, 4, 6, 1)),
    ((4, 6), (4, 6)),
    (("H", "W"), (4, 6)),
]


@pytest.mark.parametrize(("declared", "found"), LAYOUTS, ids=str)
def test_pictures_are_laid_out_as_declared(
    picture: str, declared: tuple[Any, ...], found: tuple[int, ...]
) -> None:
    tensor = fed(picture, value(*declared))
    assert (tensor.shape, tensor.dtype) == (found, np.float32)
    if 3 in found:
        axis = found.index(3)
        expected = np.moveaxis(PIXELS, -1, 0) if axis == len(found) - 3 else PIXELS
    else:
        expected = np.asarray(Image.fromarray(PIXELS).convert("L"))
    np.testing.assert_array_equal(tensor.ravel(), (expected / np.float32(255)).ravel())


@pytest.mark.parametrize(
    ("dtype", "expected"), [("uint8", PIXELS), ("float16", (PIXELS / 255).astype(np.float16)),
                            ("float64", PIXELS.astype(np.float32) / np.float32(255))],
)  # fmt: skip
def test_element_types_decide_the_range(picture: str, dtype: str, expected: np.ndarray) -> None:
    found = fed(picture, value(4, 6, 3, dtype=dtype))
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_allclose(found.astype(float), expected.astype(float), rtol=1e-3)


def test_pictures_are_resized_bilinearly_without_keeping_proportions(picture: str) -> None:
    found = fed(picture, value("N", 2, 10, 3, dtype="uint8"))
    expected = Image.fromarray(PIXELS).resize((10, 2), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found[0], np.asarray(expected))


def test_a_dim_that_is_set_decides_the_size(picture: str) -> None:
    assert fed(picture, value("N", 3, "H", "W"), H=2).shape == (1, 3, 2, 6)


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[0x0112] = 6  # lies on its side: turn by 90 degrees, clockwise
    path = tmp_path / "turned.png"
    image.save(path, exif=exif)
    found = fed(str(path), value("H", "W", 3, dtype="uint8"))
    np.testing.assert_array_equal(found, np.rot90(PIXELS, -1))


def test_transparency_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "clear.png"
    opacity = np.full((4, 6, 1), 7, np.uint8)
    Image.fromarray(np.concatenate([PIXELS, opacity], axis=2)).save(path)
    np.testing.assert_array_equal(fed(str(path), value("H", "W", 3, dtype="uint8")), PIXELS)


def test_sixteen_bits_keep_their_upper_half(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, 0x1234], [0x8000, 0xFFFF]], np.uint16)).save(path)
    found = fed(str(path), value(2, 2, dtype="uint8"))
    assert found.tolist() == [[0, 0x12], [0x80, 0xFF]]


@pytest.mark.parametrize(
    ("taken", "message"),
    [
        (value("N", 5, 8, 8), r"is float32\[N, 5, 8, 8\] and takes no picture: 1 or 3 channels"),
        (value("N"), r"is float32\[N\] and takes no picture: \[N, C, H, W\], "),
        (value(1, 1, 3, 4, 6), r"takes no picture: \[N, C, H, W\], "),
        (value(3, 4, 6, dtype="int64"), "takes no picture: floats or uint8 are required"),
        (Value("x", SequenceType(None)), r"is seq\(\?\) and takes no picture"),
    ],
)
def test_inputs_that_take_no_picture_are_told(picture: str, taken: Value, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        fed(picture, taken)


def test_what_is_no_picture_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    with pytest.raises(NoSuchFile, match="a file is required, found none"):
        fed(str(path), value(4, 6))
    path.write_bytes(b"no picture")
    with pytest.raises(FormatError, match="a picture is required: "):
        fed(str(path), value(4, 6))


def test_without_pillow_the_extra_is_named(picture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    message = r"reading pictures needs Pillow; pip install 'fornix\[images\]'"
    with pytest.raises(NotSupported, match=message):
        fed(picture, value(4, 6))
    outcome = call("run", DIGITS, "-i", picture)
    assert outcome.code == 1
    assert "pip install 'fornix[images]'" in outcome.err


def test_several_pictures_are_a_batch(picture: str, tmp_path: Path) -> None:
    path = model(tmp_path, "(float[N, 3, 4, 6] x) => (float[N, 3, 4, 6] y)")
    outcome = call("run", path, "-i", picture, "-i", picture, "--json")
    assert outcome.json["outputs"][0]["shape"] == [2, 3, 4, 6]


def test_pictures_that_make_no_batch_are_told(picture: str, tmp_path: Path) -> None:
    small = tmp_path / "small.png"
    Image.fromarray(PIXELS[:2]).save(small)
    path = model(tmp_path, "(float[N, 3, H, W] x) => (float[N, 3, H, W] y)")
    outcome = call("run", path, "-i", picture, "-i", small)
    assert outcome.code == 2
    assert outcome.err == (
        "fornix: input 'x': pictures of one size and a batch axis are required, found "
        "[1, 3, 4, 6] and [1, 3, 2, 6]\n"
    )


def test_the_demo_model_reads_a_picture_from_a_file(tmp_path: Path) -> None:
    with np.load(DIGITS.with_suffix(".npz")) as held:
        image, label = held["image"][0, 0], held["label"][0]
    path, out = tmp_path / "digit.png", tmp_path / "out.npz"
    Image.fromarray((image * 255).round().astype(np.uint8)).save(path)
    assert call("run", DIGITS, "-i", path, "-o", out).code == 0
    with np.load(out) as held:
        assert held["probability"].argmax() == label
