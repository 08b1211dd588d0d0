from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as peer
import pytest

from fornix.dtype import BFLOAT16, INT4
from fornix.errors import DTypeError, FormatError, FornixError, NoSuchFile
from fornix.format import adapters
from fornix.format.adapters import Adapter, parse_adapter, read_adapter, write_adapter

PARAMETERS: dict[str, np.ndarray[Any, Any]] = {
    "layer.0.lora_A": np.arange(6, dtype=np.float32).reshape(2, 3),
    "größe": np.arange(3),
    "half": np.linspace(0, 1, 5, dtype=np.float16).reshape(5, 1, 1),
    "empty": np.zeros((0, 2), np.float32),
    "bytes": np.arange(7, dtype=np.uint8),
}


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert sorted(one) == sorted(other)
    for name, array in one.items():
        assert array.dtype == other[name].dtype
        np.testing.assert_array_equal(array, other[name])


def theirs(path: Path) -> bytes:
    """A file as onnxruntime writes it."""
    adapter = peer.AdapterFormat()
    adapter.set_adapter_version(7)
    adapter.set_model_version(-9)
    values = {name: peer.OrtValue.ortvalue_from_numpy(x) for name, x in PARAMETERS.items()}
    adapter.set_parameters(values)
    adapter.export_adapter(str(path))
    return path.read_bytes()


def test_what_onnxruntime_writes_is_read(tmp_path: Path) -> None:
    theirs(tmp_path / "a.onnx_adapter")
    found = read_adapter(tmp_path / "a.onnx_adapter")
    assert (found.format_version, found.adapter_version, found.model_version) == (1, 7, -9)
    assert_same(found.parameters, PARAMETERS)
    assert not any(array.flags.writeable for array in found.parameters.values())


def test_onnxruntime_reads_what_is_written(tmp_path: Path) -> None:
    write_adapter(Adapter(3, 4, PARAMETERS), tmp_path / "a.onnx_adapter")
    found = peer.AdapterFormat.read_adapter(str(tmp_path / "a.onnx_adapter"))
    versions = found.get_format_version(), found.get_adapter_version(), found.get_model_version()
    assert versions == (1, 3, 4)
    assert_same({k: v.numpy() for k, v in found.get_parameters().items()}, PARAMETERS)
    peer.LoraAdapter().Load(str(tmp_path / "a.onnx_adapter"))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    more = {
        **PARAMETERS,
        "scalar": np.array(2.5),
        "flags": np.array([True, False, True]),
        "brain": np.ones(3, BFLOAT16.numpy),
        "nibbles": np.arange(-3, 4).astype(INT4.numpy),
    }
    for parameters in ({}, more):
        write_adapter(Adapter(parameters=parameters), tmp_path / "a.onnx_adapter")
        assert_same(read_adapter(tmp_path / "a.onnx_adapter").parameters, parameters)


def test_what_is_no_adapter_is_refused(tmp_path: Path) -> None:
    for body in (b"", b"abc", bytes(100), struct.pack("<I", 8) + b"ORTM" + bytes(50)):
        with pytest.raises(FormatError, match="an adapter of onnxruntime is required"):
            parse_adapter(memoryview(body))
    with pytest.raises(NoSuchFile, match="absent"):
        read_adapter(tmp_path / "absent")
    with pytest.raises(DTypeError, match="parameter 'x': numbers are required"):
        write_adapter(Adapter(parameters={"x": np.array(["a"], object)}), tmp_path / "x")


def crafted(name: bytes, dims: tuple[int, ...], code: int, size: int, version: int = 1) -> bytes:
    """An adapter with one parameter, listed twice, that may say anything."""
    body = bytearray(struct.pack("<I4s6H", 20, b"TORT", 12, 20, 4, 8, 12, 16))
    body += struct.pack("<i4I", 12, version, 0, 0, 4)
    body += struct.pack("<3I", 2, 8, 4)
    table = len(body)
    body += struct.pack("<iIIiI", table - 8, 0, 0, code, 0)
    for place, count, content in (
        (4, len(name), name),
        (8, len(dims), struct.pack(f"<{len(dims)}q", *dims)),
        (16, size, bytes(min(size, 64))),
    ):
        struct.pack_into("<I", body, table + place, len(body) - table - place)
        body += struct.pack("<I", count) + content
    return bytes(body)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (crafted(b"x", (2,), 1, 8), "parameter 'x' must be there once, found two"),
        (crafted(b"x", (2,), 1, 9), "2 elements of float32 take 8 bytes, found 9"),
        (crafted(b"x", (2,), 1, 1 << 30), "elements at byte .* are beyond the end"),
        (crafted(b"x", (2,), 99, 8), "99"),
        (crafted(b"x", (2,), 8, 8), "string"),
        (crafted(b"x", (-2, -1), 1, 8), r"extents of 0 or more are required, found \(-2, -1\)"),
        (crafted(b"x", (1,) * 65, 1, 4), "up to 64 axes are required, found 65"),
        (crafted(b"\xff", (1,), 1, 4), "utf-8"),
        (crafted(b"x", (1,), 1, 4, 2), "format version 1 is required, found 2"),
        (struct.pack("<I", 1 << 31) + b"TORT", "byte 2147483648 is beyond the 8 that there are"),
    ],
)
def test_what_cannot_be_in_an_adapter_is_said(body: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=f"<bytes>: adapter: .*{message}"):
        parse_adapter(memoryview(body))


def test_damaged_adapters_are_errors_or_adapters(tmp_path: Path) -> None:
    rng = random.Random(0)
    write_adapter(Adapter(parameters=PARAMETERS), tmp_path / "ours")
    for whole in (theirs(tmp_path / "theirs"), (tmp_path / "ours").read_bytes()):
        for _ in range(500):
            body = bytearray(whole)
            for _ in range(rng.randrange(1, 4)):
                body[rng.randrange(len(body))] = rng.choice([0, 1, 127, 255, rng.randrange(256)])
            cut = rng.choice([len(body), rng.randrange(len(body))])
            try:
                parse_adapter(memoryview(bytes(body[:cut])))
            except FornixError as error:
                assert "<bytes>" in str(error)  # noqa: PT017 - it may be right as well


def test_a_file_is_no_larger_than_its_places_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters, "MAX_BYTES", 300)
    with pytest.raises(FormatError, match="at most 300 bytes is required"):
        write_adapter(Adapter(parameters=PARAMETERS), tmp_path / "large")
    assert not list(tmp_path.iterdir())
