"""Every reader against hostile input: a message, or an error of fornix; nothing else.

The seeds are real models; hypothesis cuts, changes and mixes them. `--hypothesis-profile=search`
looks longer.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from fornix.errors import FormatError, FornixError
from fornix.format import external, files, wire
from fornix.format.mapped import Memory
from fornix.format.messages import ModelProto, SequenceProto, TensorProto
from fornix.format.tensors import to_array
from fornix.format.walk import tensors
from tests.format.bytes import mutated, small_models

MODELS = small_models()
TEXTS = {
    form: [files.encode(ModelProto.FromString(data), form) for data in MODELS]
    for form in ("textproto", "json", "onnxtxt")
}
SEEDS = st.integers(0, 2**32)
# What breaks readers more often than random bytes do.
FRAGMENTS = [
    *(
        b"{}",
        b"[]",
        b"<",
        b">",
        b"(",
        b")",
        b'"',
        b"'",
        b"\\",
        b"\x00",
        b"\xff\xfe",
        b"\xed\xa0\x80",
    ),
    *(b"1e999", b"-1", b"9" * 400, b"nan", b"0x", b"null", b"true", b"#", b"/*", b"\n", b"?", b"="),
    *(b"{" * 300, b"[" * 300, b'{"graph":' * 200, b"(" * 300, b"graph {" * 200, b"<" * 300),
]


def survives(read: object, *arguments: object, **options: object) -> object:
    """What ``read`` returns; None if it raises an error of fornix that says something."""
    assert callable(read)
    try:
        result: object = read(*arguments, **options)
    except FornixError as error:
        assert str(error)  # noqa: PT017 - any of them is right
        return None
    return result


def use_tensors(model: ModelProto, folder: str = "") -> None:
    """Decode every tensor of a model that need not make sense."""
    for tensor in tensors(model):
        survives(to_array, tensor, folder)


@given(SEEDS)
def test_damaged_models_are_errors_or_models(seed: int) -> None:
    rng = random.Random(seed)
    data = mutated(rng.choice(MODELS), rng)
    whole = survives(files.decode, data, ModelProto())
    skeleton = survives(wire.scan, Memory(data), ModelProto, threshold=8)
    assert (whole is None) == (skeleton is None)
    if isinstance(whole, ModelProto):
        use_tensors(whole)
        for form in TEXTS:
            survives(files.encode, whole, form)


@given(st.binary(max_size=200))
@example(b"\x3a" * 50)
@example(b"\x7b" * 5000)
@example(b"\x0a" + b"\xff" * 9 + b"\x01")
def test_random_bytes_are_errors_or_messages(data: bytes) -> None:
    for kind in (ModelProto, TensorProto, SequenceProto):
        survives(files.decode, data, kind())
        survives(wire.scan, Memory(data), kind)


@given(st.sampled_from(sorted(TEXTS)), SEEDS)
def test_damaged_text_is_an_error_or_a_model(form: str, seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(rng.choice(TEXTS[form]))
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data) + 1)
        data[at : at + rng.randrange(8)] = rng.choice(FRAGMENTS)
    if rng.random() < 0.3:
        data = data[: rng.randrange(len(data) + 1)]
    model = survives(files.decode, bytes(data), ModelProto(), form)
    if isinstance(model, ModelProto):
        use_tensors(model)


@given(st.sampled_from(sorted(TEXTS)), st.text(max_size=100))
def test_random_text_is_an_error_or_a_model(form: str, text: str) -> None:
    survives(files.decode, text.encode("utf-8", "surrogatepass"), ModelProto(), form)


@pytest.mark.parametrize("form", sorted(TEXTS))
@pytest.mark.parametrize(
    "opening", [b"{", b"[", b"(", b"<", b"graph {", b'{"graph":', b"seq(", b"-"]
)
def test_deep_text_is_an_error(form: str, opening: bytes) -> None:
    with pytest.raises(FormatError):
        files.decode(opening * 100_000, ModelProto(), form)


@given(
    st.dictionaries(
        st.sampled_from([*external.KEYS, "other", ""]),
        st.one_of(
            st.text(max_size=20),
            st.integers(-10, 2**70).map(str),
            st.sampled_from(["w.bin", "../w.bin", "/w.bin", "sub/../w.bin", "w.bin/", ".", "a\0b"]),
        ),
        max_size=4,
    ),
    st.lists(st.integers(-1, 2**40), max_size=3),
    st.integers(-1, 40),
)
def test_references_to_external_data_are_errors_or_bytes(
    keys: dict[str, str], dims: list[int], code: int
) -> None:
    tensor = TensorProto(dims=dims, data_type=code, data_location=TensorProto.EXTERNAL)
    for key, value in keys.items():
        tensor.external_data.add(key=key, value=value)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "w.bin").write_bytes(bytes(64))
        survives(external.load, tensor, folder)
        survives(to_array, tensor, folder)


PAYLOADS = [
    "raw_data",
    "float_data",
    "int32_data",
    "int64_data",
    "double_data",
    "uint64_data",
    "string_data",
]


@given(
    st.lists(st.integers(-2, 2**62), max_size=5),
    st.integers(-1, 40),
    st.sampled_from(PAYLOADS),
    st.integers(0, 20),
)
def test_tensors_that_lie_are_errors_or_arrays(
    dims: list[int], code: int, name: str, count: int
) -> None:
    tensor = TensorProto(dims=dims, data_type=code)
    if name == "raw_data":
        tensor.raw_data = bytes(count)
    else:
        getattr(tensor, name).extend([b"x" if name == "string_data" else 1] * count)
    array = survives(to_array, tensor)
    assert array is None or np.asarray(array).shape == tuple(dims)


@pytest.mark.slow
def test_models_of_every_operator_survive_damage() -> None:
    rng = random.Random(0)
    weights = [numpy_helper.from_array(np.arange(n, dtype=np.float32), f"w{n}") for n in range(20)]
    names = sorted({schema.name for schema in onnx.defs.get_all_schemas()})
    nodes = [helper.make_node(name, ["x"], ["y"], axis=1, to=[1, 2], mode="m") for name in names]
    data = helper.make_model(helper.make_graph(nodes, "g", [], [], weights)).SerializeToString()
    for _ in range(3000):
        hostile = mutated(data, rng)
        whole = survives(files.decode, hostile, ModelProto())
        skeleton = survives(wire.scan, Memory(hostile), ModelProto, threshold=8)
        assert (whole is None) == (skeleton is None)
