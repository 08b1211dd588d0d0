from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as peer
import pytest
from onnx import parser

from fornix import onnxruntime as ort

MODEL = parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
    g (float[N, 4] x, float[2, 2] e) => (float[N, 4] y, float[K, 2] z) <float[4] w = {1, 2, 3, 4}> {
        ["scaled"] y = Mul (x, w)  z = Unique <axis = 0> (e)
    }""").SerializeToString()


def events(package: Any, folder: Path, provider: str) -> list[dict[str, Any]]:
    """The profile of a run."""
    options = package.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / package.__name__)
    session = package.InferenceSession(MODEL, options, providers=[provider])
    session.run(None, {"x": np.ones((3, 4), np.float32), "e": np.eye(2, dtype=np.float32)})
    found: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    return found


def nodes(package: Any, folder: Path, provider: str) -> dict[str, dict[str, Any]]:
    """What a profile says of each node, by operator."""
    found = [e for e in events(package, folder, provider) if e["cat"] == "Node"]
    return {e["args"]["op_name"]: e["args"] for e in found}


FIELDS = ("input_type_shape", "output_type_shape", "output_size", "parameter_size",
          "activation_size", "node_index")  # fmt: skip


def test_nodes_have_onnxruntimes_fields_and_values(tmp_path: Path) -> None:
    found, wanted = (nodes(p, tmp_path, "CPUExecutionProvider") for p in (ort, peer))
    assert found.keys() == wanted.keys() == {"Mul", "Unique"}
    for name, theirs in wanted.items():
        for field in FIELDS[:-1]:
            assert found[name][field] == theirs[field], (name, field)
    assert {found[name]["node_index"] for name in found} == {"0", "1"}


def test_events_have_onnxruntimes_names_and_fields(tmp_path: Path) -> None:
    found, wanted = (events(p, tmp_path, "CPUExecutionProvider") for p in (ort, peer))
    assert {e["name"] for e in found} | {"Unique_kernel_time"} == {
        e["name"] if e["args"].get("op_name") != "Unique" else "Unique_kernel_time" for e in wanted
    }
    assert {e["name"] for e in found if e["cat"] == "Node"} == {
        "scaled_kernel_time",
        "Unique_kernel_time",
    }
    assert {frozenset(e) for e in found} == {frozenset(e) for e in wanted}


@pytest.mark.parametrize("name", ["Mul", "Unique"])
def test_nodes_of_the_reference_say_what_they_make(name: str, tmp_path: Path) -> None:
    found = nodes(ort, tmp_path, "ReferenceExecutionProvider")[name]
    wanted = nodes(peer, tmp_path, "CPUExecutionProvider")[name]
    for field in ("output_type_shape", "output_size"):
        assert found[field] == wanted[field]


LOOP = parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
    f (float[2] x) => (float[2] y) {
        n = Constant <value_int = 5> () t = Constant <value = bool {1}> ()
        ["steps"] y = Loop <body = b (int64 i, bool go, float[2] s) => (bool on, float[2] r) {
            on = Identity (go)  ["bend"] r = Tanh (s) }> (n, t, x)
    }""").SerializeToString()


@pytest.mark.parametrize("provider", ["CPUExecutionProvider", "ReferenceExecutionProvider"])
def test_nodes_in_bodies_are_events_within_that_of_the_node_around_them(
    provider: str, tmp_path: Path
) -> None:
    x = np.ones(2, np.float32)
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "loop")
    session = ort.InferenceSession(LOOP, options, providers=[provider])
    (found,) = session.run(None, {"x": x})
    events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    inner = [e for e in events if e["name"] == "steps/bend_kernel_time"]
    (outer,) = [e for e in events if e["name"] == "steps_kernel_time"]
    assert len(inner) == 5
    assert {e["args"]["op_name"] for e in inner} == {"Tanh"}
    assert outer["ts"] <= inner[0]["ts"]
    assert inner[-1]["ts"] + inner[-1]["dur"] <= outer["ts"] + outer["dur"]
    wanted = peer.InferenceSession(LOOP).run(None, {"x": x})[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
