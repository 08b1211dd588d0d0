from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.cli.command import DIGITS, call, model, save

KEYS = {
    "path", "format", "bytes", "ir_version", "opset_imports", "producer", "domain",
    "model_version", "description", "metadata", "graph", "inputs", "outputs", "overridable",
    "parameters", "nodes", "operators", "functions", "external_data", "compiled",
}  # fmt: skip

NESTED = """
<ir_version: 10, opset_import: ["": 21, "my": 1], producer_name: "hand", producer_version: "2",
 domain: "org.example", model_version: 7, doc_string: "what it is for",
 metadata_props: ["license": "none"]>
main (float[N] x, bool c, float[1] w) => (float[N] y) <float[1] w = {1}>
{
    z = If<then_branch = t () => (a) { a = my.Twice(x) },
           else_branch = e () => (b) { b = Neg(x) }>(c)
    y = Add(z, w)
}
<opset_import: ["": 21], domain: "my"> Twice (p) => (q) { q = Add(p, p) }
"""


def test_json_says_what_the_model_says() -> None:
    told, message = call("info", DIGITS, "--json").json, onnx.load(DIGITS)
    assert set(told) == KEYS
    assert told["bytes"] == DIGITS.stat().st_size
    assert told["ir_version"] == message.ir_version
    assert told["opset_imports"] == {"ai.onnx": message.opset_import[0].version}
    assert told["producer"]["name"] == message.producer_name
    assert told["description"] == message.doc_string
    assert told["graph"]["name"] == message.graph.name
    (image,), (probability,) = told["inputs"], told["outputs"]
    assert (image["name"], image["type"]) == ("image", "float32[N, 1, 8, 8]")
    assert image["shape"] == ["N", 1, 8, 8]
    assert probability["type"] == "float32[N, 10]"
    assert told["nodes"] == {"total": 10, "in_subgraphs": 0, "in_functions": 0}
    assert told["operators"] == {
        "Conv": 3, "Relu": 3, "MaxPool": 1, "Flatten": 1, "Gemm": 1, "Softmax": 1
    }  # fmt: skip
    count = sum(prod(tensor.dims) for tensor in message.graph.initializer)
    assert told["parameters"] == {
        "count": count,
        "bytes": 4 * count,
        "tensors": 8,
        "unreadable": 0,
        "by_dtype": {"float32": {"tensors": 8, "count": count, "bytes": 4 * count}},
    }


def test_subgraphs_and_functions_are_counted(tmp_path: Path) -> None:
    told = call("info", save(tmp_path, NESTED), "--json").json
    assert told["nodes"] == {"total": 5, "in_subgraphs": 2, "in_functions": 1}
    assert told["operators"] == {"Add": 2, "If": 1, "my.Twice": 1, "Neg": 1}
    assert told["functions"] == [
        {"domain": "my", "name": "Twice", "overload": "", "inputs": ["p"], "outputs": ["q"],
         "nodes": 1}
    ]  # fmt: skip
    assert [x["name"] for x in told["inputs"]] == ["x", "c"]
    assert [x["name"] for x in told["overridable"]] == ["w"]


def test_the_page_tells_everything_that_the_model_says(tmp_path: Path) -> None:
    path = save(tmp_path, NESTED)
    out = call("info", path).out
    lines = {line.split("  ")[0]: line for line in out.splitlines() if line.strip()}
    assert lines[str(path)].endswith(f"{path.stat().st_size} bytes")
    assert "what it is for" in lines
    assert lines["in"].split() == ["in", "x", "float32[N]"]
    assert lines["out"].split() == ["out", "y", "float32[N]"]
    assert lines["may feed"].split()[2:] == ["w", "float32[1]"]
    assert lines["opsets"].split("  ", 1)[1].strip() == (
        "ai.onnx 21, my 1   (IR version 10, protobuf)"
    )
    assert lines["made by"].split() == ["made", "by", "hand", "2"]
    assert lines["identity"].split() == ["identity", "org.example", "version", "7"]
    assert lines["metadata"].split() == ["metadata", "license:", "none"]
    assert lines["parameters"].endswith("1 in 1 tensors, 4 bytes")
    assert lines["nodes"].endswith("5 of 4 operators (2 in subgraphs, 1 in functions)")
    assert lines["functions"].endswith("my.Twice(p) => (q), 1 nodes")
    assert lines["operators"].split()[1:3] == ["Add", "2"]


def test_external_files_are_told_and_missed(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(onnx.load(DIGITS), path, save_as_external_data=True, location="weights.bin")
    size = (tmp_path / "weights.bin").stat().st_size
    told = call("info", path, "--json").json
    (file,) = told["external_data"]
    assert (file["location"], file["bytes"]) == ("weights.bin", size)
    assert told["parameters"]["bytes"] == 4 * told["parameters"]["count"] == 76_712
    assert "kB beside it" in call("info", path).out
    (tmp_path / "weights.bin").unlink()
    (file,) = call("info", path, "--json").json["external_data"]
    assert file["bytes"] is None
    assert "weights.bin: missing" in call("info", path).out


def test_an_unsafe_location_is_told_and_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(onnx.load(DIGITS), path, save_as_external_data=True, location="weights.bin")
    message = onnx.load(path, load_external_data=False)
    for tensor in message.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../../etc/passwd"
    onnx.save(message, path)
    outcome = call("info", path, "--json")
    assert outcome.code == 0
    assert all(file["bytes"] is None for file in outcome.json["external_data"])


def test_tensors_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    message = onnx.load(DIGITS)
    message.graph.initializer[0].data_type = 99
    onnx.save(message, path)
    assert call("info", path, "--json").json["parameters"]["unreadable"] == 1
    assert "1 tensors cannot be read" in call("info", path).out


def test_long_lists_are_cut_unless_all_are_asked_for(tmp_path: Path) -> None:
    names = [f"x{i}" for i in range(30)]
    ends = ", ".join(f"float[N] {name}" for name in names)
    path = model(tmp_path, f"({ends}) => (float[N] y)", f"y = Sum({', '.join(names)})")
    out = call("info", path).out
    assert "x23 " in out
    assert "x24 " not in out
    assert "… and 6 more; --all shows them" in out
    assert "x29" in call("info", path, "--all").out


def test_several_dtypes_are_told_apart(tmp_path: Path) -> None:
    ends = "(float[N] x) => (float[N] y) <float[1000] a = {}, int8[2000] b = {}>"
    path = model(tmp_path, "(float[N] x) => (float[N] y)")
    message = onnx.load(path)
    for name, array in (("a", np.zeros(1000, np.float32)), ("b", np.zeros(2000, np.int8))):
        message.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(message, path)
    assert ends
    out = call("info", path).out
    assert "3,000 in 2 tensors, 6 kB" in out
    assert "float32 1 k, int8 2 k" in out


def test_a_model_without_anything_has_a_page(tmp_path: Path) -> None:
    path = tmp_path / "empty.onnx"
    path.write_bytes(onnx.ModelProto(ir_version=9).SerializeToString())
    outcome = call("info", path)
    assert outcome.code == 0
    assert "opsets      none" in outcome.out


@pytest.mark.parametrize("name", ["m.onnxtxt", "m.json", "m.textproto"])
def test_every_format_has_its_page(tmp_path: Path, name: str) -> None:
    import fornix

    fornix.save(fornix.load(DIGITS), tmp_path / name)
    told = call("info", tmp_path / name, "--json").json
    assert told["format"] == {"m.onnxtxt": "onnxtxt", "m.json": "json"}.get(name, "textproto")
    assert told["operators"]["Conv"] == 3


def test_a_terminal_gets_colours() -> None:
    out = call("info", DIGITS, FORCE_COLOR="1", TERM="xterm-256color", COLUMNS="100").out
    assert "\x1b[36m" in out
