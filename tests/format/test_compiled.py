from __future__ import annotations

import hashlib
import random
import struct
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from fornix.errors import FormatError, FornixError
from fornix.format import compiled
from fornix.format.compiled import HEAD_BYTES, MAGIC, SECTIONS, Container, Section
from fornix.format.files import open_model, read_model
from fornix.format.mapped import MappedFile, Memory, Slice
from fornix.format.messages import ModelProto

MODEL = parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
    f (float[4] x) => (float[4] y) { y = Relu (x) }""").SerializeToString()
PAGE = compiled.ALIGNMENT


def file(content: bytes = MODEL, **changes: tuple[int, int]) -> bytes:
    """A file with this model and empty sections; ``changes`` give sections other places."""
    end = HEAD_BYTES + -(-len(content) // PAGE) * PAGE
    places = dict.fromkeys(SECTIONS, (end, 0)) | {"model": (HEAD_BYTES, len(content))} | changes
    sections = {name: Section(*place, bytes(32)) for name, place in places.items()}
    return (compiled.head(sections, end) + content).ljust(end, b"\0")


def test_the_model_in_a_file_is_read_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "model.fnx"
    path.write_bytes(file())
    wanted = ModelProto.FromString(MODEL)
    assert read_model(path) == wanted
    assert open_model(path).message == wanted
    assert compiled.is_compiled(path)
    assert not compiled.is_compiled(tmp_path)


def test_no_message_begins_like_a_compiled_model() -> None:
    with pytest.raises(Exception, match="parsing"):
        onnx.ModelProto.FromString(file())
    assert MAGIC[0] & 7 == 6  # the wire type of the first field, of which there is none
    assert Container.of(Memory(MODEL)) is None
    assert Container.of(Memory(b"")) is None


def test_payloads_in_a_slice_are_those_of_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "model.fnx"
    weights = onnx.numpy_helper.from_array
    model = parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
        f (float[512] x) => (float[512] y) { y = Add (x, w) }""")
    array = np.arange(512, dtype=np.float32)
    model.graph.initializer.append(weights(array, "w"))
    path.write_bytes(file(model.SerializeToString()))
    skeleton = open_model(path)
    payload = skeleton.payload(skeleton.message.graph.initializer[0])
    assert payload is not None
    assert bytes(payload.view()) == array.tobytes()
    region = payload.region  # type: ignore[attr-defined] # of a file, so mapped
    assert isinstance(region, MappedFile)
    start = payload.offset  # type: ignore[attr-defined] # likewise
    assert path.read_bytes()[start : start + array.nbytes] == array.tobytes()


def test_a_slice_ends_where_it_ends() -> None:
    part = Slice(Memory(b"0123456789"), 2, 5)
    assert part.read(1, 100) == b"3456"
    assert bytes(part.view(4, 9)) == b"6"
    part.give_back(0, 5)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (file()[:100], "a head of 4096 bytes is required, found 100 bytes"),
        (file()[:-1], r"8192 bytes are required, found 8191"),
        (file() + b"x", r"8192 bytes are required, found 8193"),
        (file()[:16] + struct.pack("<I", 2) + file()[20:], "layout 1 with 4 sections is required"),
        (file()[:40] + b"\x01" + file()[41:], "must have the digest that it names"),
        (file(model=(1, 5)), "section 'model' must begin at a multiple of 4096"),
        (file(data=(1 << 62, 1 << 62)), "section 'data' must begin .* and end by 8192"),
        (
            file(program=(HEAD_BYTES, 1)),
            "'program' must begin at a multiple of 4096 from byte 8192",
        ),
    ],
)
def test_a_damaged_head_is_an_error_that_says_how(body: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Container.of(Memory(body, "model.fnx"))


def test_damaged_files_are_errors_or_models(tmp_path: Path) -> None:
    rng = random.Random(0)
    path = tmp_path / "model.fnx"
    whole = file()
    for _ in range(300):
        body = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            body[rng.randrange(len(body) // 2 + len(MODEL))] = rng.randrange(256)
        if rng.random() < 0.5:  # whoever makes such files on purpose makes the digest, too
            sealed = compiled._SEALED
            body[sealed : sealed + 32] = hashlib.sha256(body[:sealed]).digest()
        path.write_bytes(body[: rng.choice([len(body), rng.randrange(len(body))])])
        try:
            read_model(path)
        except FornixError as error:
            assert "model.fnx" in str(error)  # noqa: PT017 - it may be right as well


def test_the_format_of_onnxruntime_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "model.ort"
    path.write_bytes(struct.pack("<I", 24) + b"ORTM" + bytes(64))
    for read in (read_model, open_model):
        with pytest.raises(FormatError, match=r"ORT format; use the \.onnx file.*fornix compile"):
            read(path)
